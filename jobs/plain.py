"""Values as Python callers hand them over, each taken for what it is.

What `plain` returns is of exactly one of Python's own types, or of none that a rule accepts. So the
rules never run a caller's code, which might answer anything or raise anything.

NumPy and pandas are known by the names of their types. Neither is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any, TypeVar

from .errors import InvalidJob

T = TypeVar("T")

_MAX_KIND_CHARACTERS = 40
_MAX_ENUM_DEPTH = 10
_EXACT = frozenset({str, bool, int, datetime, date, list, dict, tuple})
_MISSING = {
    ("pandas", "NaTType"): "NaT",
    ("pandas", "NAType"): "NA",
    ("numpy", "MaskedConstant"): "masked",
}


def plain(value: object) -> object:
    """The value as one of Python's own types; as it is if it stands for none of them.

    An Enum member stands for its value. NumPy's scalars stand for bool, int, Decimal, datetime and
    str, pandas' Timestamp for datetime. A subclass of one of Python's types stands for that type.

    Raises:
        InvalidJob: the value is missing (None, NaN, NaT, NA, masked), or reading it raised an
            exception.
    """
    class_ = type(value)
    if class_ in _EXACT or (class_ is float and value == value):
        return value
    found = _reading(value, lambda: _plain(value))
    # `type`, not `isinstance`: a caller's class can lie to that one, or raise.
    if found is None:
        raise _missing("None")
    if type(found) is float and found != found:
        raise _missing("NaN")
    if type(found) is Decimal and found.is_nan():
        raise _missing("NaN")
    return found


def entries(mapping: Any, *, most: int) -> list[tuple[object, object]]:
    """The first entries of a caller's mapping.

    Raises:
        InvalidJob: reading it raised an exception.
    """
    return _reading(mapping, lambda: [(key, each) for key, each in islice(mapping.items(), most)])


def elements(listed: Any, *, most: int) -> list[object]:
    """The first elements of a caller's list or tuple.

    Raises:
        InvalidJob: reading it raised an exception.
    """
    return _reading(listed, lambda: list(islice(listed, most)))


def kind(value: object) -> str:
    """What a value is, for an error's text: never the value itself."""
    name: str = _name_of(type(value))
    if len(name) > _MAX_KIND_CHARACTERS or not name.isprintable():
        name = "object"
    if issubclass(type(value), str):
        return f"{name} of {str.__len__(value)} characters"  # type: ignore[arg-type]
    return name


def _reading(value: object, read: Callable[[], T]) -> T:
    try:
        return read()
    except InvalidJob:
        raise
    except Exception as error:  # a caller's own class may raise anything
        message = f"cannot be read: {kind(value)} raised {kind(error)}"
        raise InvalidJob.of("value", message) from None


def _plain(value: Any) -> object:
    for _ in range(_MAX_ENUM_DEPTH):  # an Enum's value may be another Enum's member
        if not issubclass(type(value), Enum):
            break
        value = value.value
    class_ = type(value)
    if value is None or class_ in _EXACT:
        return value
    module, name = str(_module_of(class_)), _name_of(class_)
    if missing := _MISSING.get((module.partition(".")[0], name)):
        raise _missing(missing)
    # The base's own method, called by name, is the one that the subclass cannot change.
    if issubclass(class_, str):
        return str.__str__(value)
    if issubclass(class_, int):
        return int.__int__(value)
    if issubclass(class_, float):
        return float.__float__(value)
    if issubclass(class_, Decimal):
        return Decimal(value)
    if issubclass(class_, datetime):
        return _datetime(value)
    if issubclass(class_, date):
        return date(value.year, value.month, value.day)
    if any(_module_of(each) == "numpy" and _name_of(each) == "generic" for each in class_.__mro__):
        return _from_numpy(value)
    return value


def _datetime(value: datetime) -> datetime:
    # pandas' own ways to do this warn of nanoseconds, which are dropped here.
    clock = value.hour, value.minute, value.second, value.microsecond
    try:
        return datetime(
            value.year, value.month, value.day, *clock, tzinfo=value.tzinfo, fold=value.fold
        )
    except ValueError:
        raise _outside_the_years() from None


def _from_numpy(value: Any) -> object:
    match value.dtype.kind:
        case "b" | "i" | "u":
            return value.item()
        case "f":
            # The digits that NumPy shows: 0.1 of 32 bits is 0.1, not 0.10000000149011612.
            return Decimal(str(value))
        case "M":
            moment = value.astype("datetime64[us]").item()
            if moment is None:
                raise _missing("NaT")
            if type(moment) is not datetime:
                raise _outside_the_years()
            return moment
        case "m" if value != value:
            raise _missing("NaT")
    return value


def _missing(name: str) -> InvalidJob:
    return InvalidJob.of("value", f"is missing: this is {name}")


def _outside_the_years() -> InvalidJob:
    return InvalidJob.of("value", "lies outside the years 1 to 9999")


# A class may have a metaclass that answers for these names: ask `type` itself.
_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__
_module_of: Callable[[type], object] = type.__dict__["__module__"].__get__
