"""One setting: the variable that sets it, its default, and the rule that its value keeps to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .errors import SettingsError

Given = TypeVar("Given", contravariant=True)
Kept = TypeVar("Kept", covariant=True)

_FIELD = re.compile(r"\{(\w+)\}")


class Setting(Generic[Given, Kept]):
    """A field of `Settings`. It takes a `Given`, such as "5m", and holds a `Kept`, such as 300.0.

    Args:
        variable: of the environment.
        default: what is taken where nothing is given. None leaves it to `Settings` as a whole.
        rule: makes a Kept of what is given, the text of a variable too, and of a Kept itself. It
            raises ValueError with what is accepted; `{rate_limit}` stands there for the name of
            another setting.
    """

    def __init__(self, variable: str, default: object, rule: Callable[[Any], Kept]) -> None:
        self.variable = variable
        self._default: Any = default
        self._rule = rule

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type | None = None) -> Kept:
        # A dataclass asks its class for the default.
        found: Kept = self._default if instance is None else instance.__dict__[self._name]
        return found

    def __set__(self, instance: object, given: Given) -> None:
        # Only while it is made: a frozen dataclass has no other way to here.
        try:
            kept = None if given is None and self._default is None else self._rule(given)
        except ValueError as error:
            raise Fault(self._name, str(error)) from None
        instance.__dict__[self._name] = kept


class Fault(SettingsError):  # noqa: N818
    """A setting's value is not accepted. The text calls settings by their names in code."""

    def __init__(self, field: str, reason: str) -> None:
        self._field, self._reason = field, reason
        super().__init__(self.said(lambda name: name))

    def said(self, called: Callable[[str], str]) -> str:
        """The text, with the settings called by other names."""
        reason = _FIELD.sub(lambda found: called(found[1]), self._reason)
        return f"{called(self._field)}: {reason}"
