"""Checks of settings that may come from JSON, where nothing has a type yet."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .errors import SandboxConfigError


def check(settings: object, rules: Mapping[str, bool]) -> None:
    """Raises `SandboxConfigError` with the first setting whose rule does not hold."""
    for name, holds in rules.items():
        if not holds:
            value = "not usable" if name == "accounts" else repr(getattr(settings, name))
            raise SandboxConfigError(
                f"{type(settings).__name__}.{name} cannot be {value}; "
                "its description says what is allowed."
            )


def is_whole(value: object) -> bool:
    """A whole number from 0 on; not a boolean."""
    return type(value) is int and value >= 0


def is_number(value: object) -> bool:
    """A finite number from 0 on; not a boolean."""
    return type(value) in (int, float) and math.isfinite(value) and value >= 0  # type: ignore


def is_tuple_of(kind: type, value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, kind) for each in value)
