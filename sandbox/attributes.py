"""A request's content: what the endpoint accepts, and the form in which it keeps values.

Source of the rules: ChartMogul reference, "Add Custom Attributes to Customers by Email". Where it
is silent (an unknown `type`, a number for a String) the stand-in takes the strict reading.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from .answers import bad_request, missing, unprocessable

Value = str | int | float | bool

_MAX_STRING = 255
_KEY = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
# What is recorded beyond ISO 8601: a space for the T, and " UTC".
_TIMESTAMP = re.compile(r"[0-9W-]+([T ][0-9:.,]+( UTC|Z|[+-][0-9:]+)?)?", re.ASCII)
_BOOLEANS = dict.fromkeys(("TRUE", "true", "t", "1"), True) | dict.fromkeys(
    ("FALSE", "false", "f", "0"), False
)


@dataclass(frozen=True, kw_only=True)
class TypedAttribute:
    """A custom attribute, its value in the form in which it is kept and echoed."""

    key: str
    value: Value
    source: str


def decode(body: bytes) -> Any:
    """The JSON of a request's body. Raises `ValueError` for anything that is not JSON."""

    def not_json(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(body.decode(), parse_constant=not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_attributes(content: Mapping[str, Any]) -> list[TypedAttribute]:
    """The attributes of a request whose `email` was read already.

    Raises:
        Refused: with 400 when something required is missing or has the wrong shape, with 422 and
            every reason when a value or key does not fit.
    """
    if not isinstance(content.get("with_associated_emails"), bool | None):
        raise bad_request("with_associated_emails must be a boolean", "with_associated_emails")
    custom = content.get("custom")
    if not isinstance(custom, list) or not custom:
        raise missing("custom")
    for entry in custom:
        if not isinstance(entry, dict):
            raise bad_request("custom must be an array of objects", "custom")
        for name in ("type", "key", "value"):
            if entry.get(name) is None:
                raise missing(name)
    errors: dict[str, str] = {}
    attributes = []
    for entry in custom:
        try:
            attributes.append(_read(entry))
        except ValueError as error:
            errors[str(entry["key"])] = str(error)
    if errors:
        raise unprocessable(errors)
    return attributes


def _read(entry: Mapping[str, Any]) -> TypedAttribute:
    key, source = entry["key"], entry.get("source")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError("key accepts alphanumeric characters and underscores")
    if not isinstance(source, str | None):
        raise ValueError("source must be a string")
    normalise = _TYPES.get(entry["type"]) if isinstance(entry["type"], str) else None
    if normalise is None:
        raise ValueError(f"type must be one of {', '.join(_TYPES)}")
    try:
        value = normalise(entry["value"])
    except OverflowError:
        raise ValueError(f"value is out of the range of {entry['type']}") from None
    return TypedAttribute(key=key, value=value, source="API" if source is None else source)


def _string(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_STRING:
        raise ValueError(f"value must be a String of 1 to {_MAX_STRING} characters")
    return value


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    raise ValueError("value must be an Integer: only numeric characters")


def _decimal(value: Any) -> float:
    if type(value) in (int, float) or (isinstance(value, str) and _DECIMAL.fullmatch(value)):
        number = float(value)
        if math.isfinite(number):
            return number
    raise ValueError("value must be a Decimal: a floating point number")


def _timestamp(value: Any) -> str:
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        moment = datetime.fromisoformat(value.removesuffix(" UTC"))
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    raise ValueError("value must be a Timestamp: ISO 8601")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    # JSON's 1 and 0 are two of the eight words too.
    word = str(value) if isinstance(value, str) or type(value) is int else ""
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    raise ValueError("value must be a Boolean: TRUE, true, t, 1, FALSE, false, f or 0")


_TYPES: Mapping[str, Callable[[Any], Value]] = {
    "String": _string,
    "Integer": _integer,
    "Decimal": _decimal,
    "Timestamp": _timestamp,
    "Boolean": _boolean,
}
