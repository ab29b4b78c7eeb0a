"""Custom attributes: the five types, and the one form in which a value of each is sent.

The rules are those of the ChartMogul reference, "Add Custom Attributes to Customers by Email".
Where it accepts several spellings of one value, all are accepted here and one is sent, so that
what comes back can be compared with what was sent. `docs/wire-format.md` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from math import isfinite

from .errors import FieldError, InvalidJob

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


def attributes_from(attributes: object, source: str | None = None) -> list[object]:
    """What `add_attributes` accepts, as the list of a job document. It is not validated yet.

    Args:
        attributes: a mapping of key to plain value (its type is inferred) or to `Attribute` (the
            key is the mapping's), or a list of the reference's dicts or of `Attribute`s.
        source: for the attributes that have none of their own.

    Raises:
        InvalidJob: no type can be inferred for some values (every one is named), or
            `attributes` is neither a mapping nor a list.
    """
    if isinstance(attributes, Mapping):
        documents = _from_mapping(attributes)
    elif isinstance(attributes, list | tuple):
        documents = [a.as_dict() if isinstance(a, Attribute) else a for a in attributes]
    else:
        message = (
            f"must be a mapping of key to value or a list of attributes, not {kind(attributes)}"
        )
        raise InvalidJob([FieldError(path="attributes", message=message)])
    if source is None:
        return documents
    return [
        {**document, "source": source}
        if isinstance(document, Mapping) and document.get("source") is None
        else document
        for document in documents
    ]


def _from_mapping(attributes: Mapping[object, object]) -> list[object]:
    documents: list[object] = []
    errors: list[FieldError] = []
    for position, (key, value) in enumerate(attributes.items()):
        if isinstance(value, Attribute):
            documents.append({**value.as_dict(), "key": key})
            continue
        try:
            type_ = _inferred_type(value)
        except InvalidJob as invalid:
            path = f"attributes[{position}].value"
            message = invalid.errors[0].message + key_note(key)
            errors.append(FieldError(path=path, message=message))
            continue
        # What its type does not accept is left for the schema, which names all that is wrong.
        with suppress(InvalidJob):
            value = canonical(type_, value)
        documents.append({"type": type_.value, "key": key, "value": value})
    if errors:
        raise InvalidJob(errors)
    return documents


def right_attributes(attributes: object, source: str | None = None) -> tuple[Attribute, ...]:
    """What `attributes_from` accepts, as attributes: the quick way, for what is right.

    It may refuse what the schema accepts, never the other way round: what is refused here is for
    the schema to judge.

    Raises:
        InvalidJob: something is wrong or unusual. It does not say what.
    """
    if isinstance(attributes, Mapping):
        found = [_right_pair(key, value, source) for key, value in attributes.items()]
    elif isinstance(attributes, list | tuple):
        found = [
            _right_document(each.as_dict() if isinstance(each, Attribute) else each, source)
            for each in attributes
        ]
    else:
        raise _unusual()
    return _right_list(found)


def right_documents(documents: list[object] | tuple[object, ...]) -> tuple[Attribute, ...]:
    """The `attributes` of a job document, as `right_attributes` does it."""
    return _right_list([_right_document(document, None) for document in documents])


def _right_list(attributes: list[Attribute]) -> tuple[Attribute, ...]:
    keys = {attribute.key for attribute in attributes}
    if not 1 <= len(keys) == len(attributes) <= MAX_ATTRIBUTES:
        raise _unusual()
    return tuple(attributes)


def _right_pair(key: object, value: object, source: str | None) -> Attribute:
    if isinstance(value, Attribute):
        return _right_document({**value.as_dict(), "key": key}, source)
    type_ = _inferred_type(value)
    return Attribute(
        type=type_,
        key=attribute_key(key),
        value=canonical(type_, value),
        source=None if source is None else text(source),
    )


def _right_document(document: object, source: str | None) -> Attribute:
    if type(document) is not dict or not document.keys() <= _FIELDS:
        raise _unusual()
    type_ = attribute_type(document.get("type"))
    own = document.get("source")
    if own is None:
        own = source
    return Attribute(
        type=type_,
        key=attribute_key(document.get("key")),
        value=canonical(type_, document.get("value")),
        source=None if own is None else text(own),
    )


def _unusual() -> InvalidJob:
    return _invalid("is wrong, or of an unusual form")


def infer(value: object) -> tuple[AttributeType, Scalar]:
    """The type that a plain Python value stands for, and the value in its canonical form.

    str is String, bool Boolean, int Integer, Decimal and float Decimal, datetime and date
    Timestamp; an Enum member stands for its value. A str is never taken for another type.

    Raises:
        InvalidJob: a value of another Python type, or one its type does not accept.
    """
    type_ = _inferred_type(value)
    return type_, canonical(type_, value)


def _inferred_type(value: object) -> AttributeType:
    if found := _TYPE_OF.get(type(value)):
        return found
    match _plain(value):
        case str():
            return AttributeType.String
        case bool():  # before int: in Python a bool is one
            return AttributeType.Boolean
        case int():
            return AttributeType.Integer
        case Decimal() | float():
            return AttributeType.Decimal
        case date():  # a datetime is one
            return AttributeType.Timestamp
    raise _invalid(
        f"no attribute type stands for {kind(value)}; "
        "give str, bool, int, Decimal, float, datetime, date or an Enum of these"
    )


def attribute_type(value: object) -> AttributeType:
    """One of the five types, by its name."""
    found = _TYPES.get(value) if isinstance(value, str) else None
    if found is None:
        raise _invalid(f"must be one of {', '.join(AttributeType)}; this is {kind(value)}")
    return found


def canonical(type_: AttributeType, value: object) -> Scalar:
    """A value in the form in which its type is sent.

    Raises:
        InvalidJob: the type does not accept the value.
    """
    return _CANONICAL[type_](_plain(value))


def attribute_key(value: object) -> str:
    """The name of an attribute (ChartMogul reference: alphanumeric characters and underscores)."""
    if not isinstance(value, str):
        raise _invalid(f"a key is text, not {kind(value)}")
    if len(value) > MAX_CHARACTERS:
        raise _invalid(f"a key has 1 to {MAX_CHARACTERS} characters, this one {len(value)}")
    if not _KEY.fullmatch(value):
        stranger = next((i for i, c in enumerate(value) if not _KEY.match(c)), None)
        found = (
            "it is empty" if stranger is None else f"position {stranger} holds another character"
        )
        raise _invalid(f"a key is made of ASCII letters, digits and underscores; {found}")
    return str.__str__(value)


def text(value: object) -> str:
    """Text of 1 to 255 characters (code points) that can be written as UTF-8."""
    if not isinstance(value, str):
        raise _invalid(f"must be text, not {kind(value)}")
    if not 1 <= len(value) <= MAX_CHARACTERS:
        raise _invalid(f"must have 1 to {MAX_CHARACTERS} characters; this has {len(value)}")
    if not value.isascii() and (surrogate := _SURROGATE.search(value)):
        raise _invalid(f"has half of a surrogate pair at position {surrogate.start()}")
    return str.__str__(value)


def instant(value: object) -> datetime:
    """A point in time, naive where it names no zone: a datetime, a date or ISO 8601 text.

    Calendar, week and ordinal dates, with or without dashes; time to the hour or finer, after
    "T" or a space; zone as Z, an offset, UTC or GMT. Digits past the microsecond are dropped.
    """
    match value:
        case datetime():
            return value
        case date():
            return datetime(value.year, value.month, value.day)
        case str() if found := _ISO_8601.fullmatch(value):
            day, clock, zone = found.groups(default="")
        case _:
            raise _invalid(f"must be ISO 8601, as 2016-01-31T00:00:00Z; this is {kind(value)}")
    # The rest is what Python 3.11's reader lacks; other versions lack other parts of it.
    past_midnight = _MIDNIGHT_AT_END.fullmatch(clock) is not None
    if past_midnight:
        clock = "00"
    if zone in {"z", "UTC", "GMT"}:
        zone = "Z"
    try:
        if _ORDINAL_DATE.fullmatch(day):
            day = _calendar_date(int(day[:4]), int(day[-3:])).isoformat()
        read = datetime.fromisoformat(f"{day}T{clock or '00'}{zone.replace('−', '-')}")
        return read + timedelta(days=past_midnight)
    except (ValueError, OverflowError):
        raise _invalid(
            f"names a day, time or zone that does not exist; this is {kind(value)}"
        ) from None


def _calendar_date(year: int, day_of_year: int) -> date:
    found = date(year, 1, 1) + timedelta(days=day_of_year - 1)
    if found.year != year:
        raise ValueError("no such day in this year")
    return found


def in_utc(moment: datetime) -> datetime:
    """The same point in time in UTC. A naive one is taken as UTC."""
    try:
        if moment.utcoffset() is None:
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _invalid("in UTC it lies outside the years 1 to 9999") from None


def kind(value: object) -> str:
    """What a value is, for an error's text: never the value itself."""
    name = type(value).__name__
    return f"{name} of {len(value)} characters" if isinstance(value, str) else name


def key_note(key: object) -> str:
    """Names an attribute in an error's text, where its key can be shown."""
    if isinstance(key, str) and len(key) <= MAX_CHARACTERS and _KEY.fullmatch(key):
        return f" (key {key})"
    return ""


def _integer(value: object) -> int:
    """Reference: "Accepts only numeric characters". A minus is ours: whole numbers have it."""
    if isinstance(value, str) and len(value) <= MAX_CHARACTERS and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not _LEAST_INTEGER <= value <= _GREATEST_INTEGER:
            raise _invalid(f"an Integer has at most {MAX_CHARACTERS} characters; this has more")
        return int(value)
    raise _invalid(
        f"an Integer is a whole number, or its digits as text of at most {MAX_CHARACTERS} "
        f"characters; this is {kind(value)}"
    )


def _decimal(value: object) -> float | str:
    """A float where it says exactly what was given, else the digits as text."""
    if type(value) is float and isfinite(value):
        return value + 0.0  # -0.0 becomes 0.0
    exact = _exact(value)
    if not exact.is_finite():
        raise _invalid("a Decimal is a finite number; this is NaN or infinite")
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
        raise _invalid(
            f"a Decimal has at most {MAX_CHARACTERS} characters when written out; this has more"
        )
    return digits


def _exact(value: object) -> Decimal:
    match value:
        case Decimal():
            return value
        case int() if not isinstance(value, bool):
            return Decimal(value)
        case float():
            return Decimal(float.__repr__(value))
        case str() if len(value) <= MAX_CHARACTERS and _DECIMAL_NUMBER.fullmatch(value):
            return Decimal(value)
    raise _invalid(
        f"a Decimal is a number, or one as text of at most {MAX_CHARACTERS} characters such as "
        f"12.50 or -1e-7; this is {kind(value)}"
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
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    if isinstance(value, str) and value in _BOOLEAN_WORDS:
        return _BOOLEAN_WORDS[value]
    raise _invalid(
        f"a Boolean is true or false, or one of {', '.join(_BOOLEAN_WORDS)}; this is {kind(value)}"
    )


def _plain(value: object) -> object:
    while isinstance(value, Enum):
        value = value.value
    return value


def _invalid(message: str) -> InvalidJob:
    return InvalidJob([FieldError(path="value", message=message)])


_FIELDS = {"type", "key", "value", "source"}
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
_SURROGATE = re.compile("[\ud800-\udfff]")
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_DECIMAL_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_ORDINAL_DATE = re.compile(r"[0-9]{4}-?[0-9]{3}")
_MIDNIGHT_AT_END = re.compile(r"24(?::?00){0,2}(?:[.,]0+)?")
_ISO_8601 = re.compile(
    r"""
    ( [0-9]{4} (?: -[0-9]{2}-[0-9]{2} | [0-9]{4}              # calendar date
                 | -W[0-9]{2}(?:-[0-9])? | W[0-9]{2}[0-9]?    # week date
                 | -?[0-9]{3} ) )                             # ordinal date
    (?: [Tt ]
        ( [0-9]{2} (?: :?[0-9]{2} (?: :?[0-9]{2} (?: [.,][0-9]+ )? )? )? )
        (?: [ ]? ( [Zz] | UTC | GMT | [+\-−][0-9]{2} (?: :?[0-9]{2} (?: :[0-9]{2} )? )? ) )?
    )?
    """,
    re.VERBOSE,
)
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
