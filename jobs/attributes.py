"""Custom attributes: the five types, and the one form in which a value of each is sent.

The rules are those of the ChartMogul reference, "Add Custom Attributes to Customers by Email".
Where it accepts several spellings of one value, all are accepted here and one is sent, so that
what comes back can be compared with what was sent. `docs/wire-format.md` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from math import isfinite

from .emails import trimmed
from .errors import InvalidJob
from .plain import kind, plain
from .times import in_utc, instant

Scalar = str | int | float | bool
"""A value as JSON carries it."""

MAX_ATTRIBUTES = 250
"""Attributes of one job: far above any real customer's, and one POST must carry them."""
MAX_CHARACTERS = 255
"""The longest text (ChartMogul reference: String); numbers written out keep to it too."""


class AttributeType(StrEnum):
    """The data type of a custom attribute, in ChartMogul's words."""

    String = "String"
    Integer = "Integer"
    Decimal = "Decimal"
    Timestamp = "Timestamp"
    Boolean = "Boolean"


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """One custom attribute: a value of a type, under a key."""

    type: AttributeType
    key: str
    """Letters, digits and underscores. "" until the mapping that holds it gives it one."""
    value: Scalar = field(repr=False)
    """The value in its type's canonical form."""
    source: str | None = None
    """Where the attribute was made, shown in ChartMogul's UI; None leaves ChartMogul's "API"."""

    @classmethod
    def of(
        cls, type_: AttributeType | str, value: object, *, key: str = "", source: str | None = None
    ) -> Attribute:
        """Say a value's type where Python's own type would say another.

        >>> add_attributes("ada@example.com", {"age": Attribute.of("Integer", "8")})

        The key comes from the mapping; `key` is for a list of attributes.

        Raises:
            InvalidJob: the type is none of the five, or the value is not of that type.
        """
        type_ = attribute_type(type_)
        return cls(type=type_, key=key, value=canonical(type_, value), source=source)

    def as_dict(self) -> dict[str, Scalar]:
        """The attribute as ChartMogul's `custom` and a job's `attributes` hold it."""
        document: dict[str, Scalar] = {
            "type": self.type.value,
            "key": self.key,
            "value": self.value,
        }
        if self.source is not None:
            document["source"] = self.source
        return document


Value = str | bool | int | float | Decimal | date | datetime | Enum | Attribute
"""What a caller may give as an attribute's value. `infer` tells which type each stands for.

NumPy's and pandas' scalars are accepted as well. They have no common type to be named here.
"""
Attributes = Mapping[str, Value] | Sequence[Mapping[str, object] | Attribute]
"""Key → value, or a list of `Attribute` or of the dicts of ChartMogul's reference."""


def infer(value: object) -> tuple[AttributeType, Scalar]:
    """The type that a plain Python value stands for, and the value in its canonical form.

    str is String, bool Boolean, int Integer, Decimal and float Decimal, datetime and date
    Timestamp; an Enum member stands for its value, and NumPy's and pandas' scalars for Python's.
    A str is never taken for another type.

    Raises:
        InvalidJob: the value is missing, or of another Python type, or its type does not accept it.
    """
    found = plain(value)
    type_ = _TYPE_OF.get(type(found))
    if type_ is None:
        raise InvalidJob.of(
            "value",
            f"no attribute type stands for {kind(value)}; "
            "give str, bool, int, Decimal, float, datetime, date or an Enum of these",
        )
    return type_, _CANONICAL[type_](found)


def canonical(type_: AttributeType, value: object) -> Scalar:
    """A value in the form in which its type is sent.

    Raises:
        InvalidJob: the value is missing, or the type does not accept it.
    """
    return _CANONICAL[type_](plain(value))


def attribute_type(value: object) -> AttributeType:
    """One of the five types, by its name.

    Raises:
        InvalidJob: it is no type's name.
    """
    name = plain(value)
    found = _TYPES.get(name) if type(name) is str else None
    if found is None:
        raise InvalidJob.of(
            "value", f"must be one of {', '.join(AttributeType)}; this is {kind(value)}"
        )
    return found


def attribute_key(value: object) -> str:
    """The name of an attribute (ChartMogul reference: alphanumeric characters and underscores).

    Raises:
        InvalidJob: it is no text of 1 to 255 ASCII letters, digits and underscores.
    """
    key = plain(value)
    if type(key) is not str:
        raise InvalidJob.of("value", f"a key is text, not {kind(value)}")
    if len(key) > MAX_CHARACTERS:
        raise InvalidJob.of(
            "value", f"a key has 1 to {MAX_CHARACTERS} characters, this one {len(key)}"
        )
    if not _KEY.fullmatch(key):
        stranger = next((i for i, c in enumerate(key, start=1) if not _KEY.match(c)), None)
        found = (
            "it is empty" if stranger is None else f"position {stranger} holds another character"
        )
        raise InvalidJob.of(
            "value", f"a key is made of ASCII letters, digits and underscores; {found}"
        )
    return key


def check_count(count: int) -> None:
    """Whether a job may have so many attributes.

    Raises:
        InvalidJob: it may not.
    """
    if not 1 <= count <= MAX_ATTRIBUTES:
        many = "more" if count else "none"
        raise InvalidJob.of("value", f"a job has 1 to {MAX_ATTRIBUTES} attributes; this has {many}")


def repeated_keys(keys: Iterable[object]) -> dict[int, str]:
    """For each position whose key stands at an earlier one, too: what is wrong, in words."""
    first_with: dict[str, int] = {}
    found: dict[int, str] = {}
    for position, key in enumerate(keys):
        if type(key) is str and (first := first_with.setdefault(key, position)) != position:
            found[position] = f"the same key as attributes[{first}]; a job sets a key once"
    return found


def text(value: object) -> str:
    """Text of 1 to 255 characters (code points) that can be written as UTF-8; one must be visible.

    ChartMogul's reference speaks of letters, numbers and symbols. Tabs and line breaks are taken,
    other control characters are not: databases refuse some of them, and terminals obey others.

    Raises:
        InvalidJob: it is anything else.
    """
    found = plain(value)
    if type(found) is not str:
        raise InvalidJob.of("value", f"must be text, not {kind(value)}")
    if not 1 <= len(found) <= MAX_CHARACTERS:
        raise InvalidJob.of(
            "value", f"must have 1 to {MAX_CHARACTERS} characters; this has {len(found)}"
        )
    if not found.isprintable():
        _check_characters(found)
    if (found[0] == " " or not found.isprintable()) and not trimmed(found):
        raise InvalidJob.of("value", "is missing: this is text without a visible character")
    return found


def _check_characters(found: str) -> None:
    if control := _CONTROL.search(found):
        raise InvalidJob.of(
            "value",
            f"has a control character, U+{ord(control[0]):04X}, at position {control.start() + 1}",
        )
    if surrogate := _SURROGATE.search(found):
        raise InvalidJob.of(
            "value", f"has half of a surrogate pair at position {surrogate.start() + 1}"
        )


# What follows gets what `plain` made of a value. Types are compared by `type`, since a caller's
# class can lie to `isinstance`.


def _integer(value: object) -> int:
    """Reference: "Accepts only numeric characters". A minus is ours: whole numbers have it."""
    if type(value) is str and len(value) <= MAX_CHARACTERS and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if type(value) is int:
        if not _LEAST_INTEGER <= value <= _GREATEST_INTEGER:
            raise InvalidJob.of(
                "value", f"an Integer has at most {MAX_CHARACTERS} characters; this has more"
            )
        return value
    raise InvalidJob.of(
        "value",
        f"an Integer is a whole number, or its digits as text of at most {MAX_CHARACTERS} "
        f"characters; this is {kind(value)}",
    )


def _decimal(value: object) -> float | str:
    """A float where it says exactly what was given, else the digits as text."""
    if type(value) is float and isfinite(value):
        return value + 0.0  # -0.0 becomes 0.0
    exact = _exact(value)
    if not exact.is_finite():
        raise InvalidJob.of("value", "a Decimal is a finite number; this is infinite")
    nearest = float(exact)
    if Decimal(repr(nearest)) == exact:
        return nearest + 0.0
    # Before it is written out: 1E+999999999 is ten characters, and a billion digits.
    digits = ""
    if abs(exact.adjusted()) <= MAX_CHARACTERS:
        digits = format(exact, "f")
        if "." in digits:
            digits = digits.rstrip("0").rstrip(".")
    if not 1 <= len(digits) <= MAX_CHARACTERS:
        raise InvalidJob.of(
            "value",
            f"a Decimal has at most {MAX_CHARACTERS} characters when written out; this has more",
        )
    return digits


def _exact(value: object) -> Decimal:
    if type(value) is Decimal:
        return value
    if type(value) is int:
        return Decimal(value)
    if type(value) is float:
        return Decimal(repr(value))
    if type(value) is str and len(value) <= MAX_CHARACTERS and _DECIMAL_NUMBER.fullmatch(value):
        return Decimal(value)
    raise InvalidJob.of(
        "value",
        f"a Decimal is a number, or one as text of at most {MAX_CHARACTERS} characters such as "
        f"12.50 or -1e-7; this is {kind(value)}",
    )


def _timestamp(value: object) -> str:
    moment = in_utc(instant(value))
    if moment.microsecond == 0:
        precision = "seconds"
    else:
        precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def _boolean(value: object) -> bool:
    """Reference: "one of TRUE, true, t, 1, FALSE, false, f, or 0".

    It shows 1 and 0 without quotes, and its examples send numbers as JSON numbers, so both the
    words and the numbers are accepted. What is sent is a JSON boolean, so neither is in doubt.
    """
    if type(value) is bool:
        return value
    if type(value) is int and value in (0, 1):
        return value == 1
    if type(value) is str and value in _BOOLEAN_WORDS:
        return _BOOLEAN_WORDS[value]
    raise InvalidJob.of(
        "value",
        f"a Boolean is true or false, or one of {', '.join(_BOOLEAN_WORDS)}; this is {kind(value)}",
    )


_TYPE_OF: dict[type, AttributeType] = {
    str: AttributeType.String,
    bool: AttributeType.Boolean,
    int: AttributeType.Integer,
    float: AttributeType.Decimal,
    Decimal: AttributeType.Decimal,
    datetime: AttributeType.Timestamp,
    date: AttributeType.Timestamp,
}
_TYPES: dict[str, AttributeType] = {member.value: member for member in AttributeType}
_LEAST_INTEGER = -int("9" * (MAX_CHARACTERS - 1))
_GREATEST_INTEGER = int("9" * MAX_CHARACTERS)
_KEY = re.compile(r"[A-Za-z0-9_]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_DECIMAL_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_BOOLEAN_WORDS = {
    "TRUE": True,
    "true": True,
    "t": True,
    "1": True,
    "FALSE": False,
    "false": False,
    "f": False,
    "0": False,
}
_CANONICAL: dict[AttributeType, Callable[[object], Scalar]] = {
    AttributeType.String: text,
    AttributeType.Integer: _integer,
    AttributeType.Decimal: _decimal,
    AttributeType.Timestamp: _timestamp,
    AttributeType.Boolean: _boolean,
}
