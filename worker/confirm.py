"""Whether ChartMogul's answer shows the values that were sent.

A 200 may change nothing (reference: "A 200 may change nothing"), so only the echo in an entry's
`attributes.custom` is proof. ChartMogul normalises, so values are compared by what they mean.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from ..jobs.attributes import Attribute, AttributeType, canonical
from ..jobs.errors import InvalidJob
from ..jobs.times import in_utc, instant

_MILLISECOND = timedelta(milliseconds=1)


def shows(entry: object, attribute: Attribute) -> bool:
    """Whether a customer of the answer has this value."""
    match entry:
        case {"attributes": {"custom": dict() as custom}} if attribute.key in custom:
            return same(attribute, custom[attribute.key])
    return False


def same(attribute: Attribute, echoed: object) -> bool:
    """Whether an echoed JSON value means what was sent."""
    match attribute.type:
        case AttributeType.String:
            return echoed == attribute.value
        case AttributeType.Boolean:
            return _boolean(echoed) == attribute.value
        case AttributeType.Timestamp:
            sent, back = _instant(attribute.value), _instant(echoed)
            # The recorded echo has milliseconds.
            return sent is not None and back is not None and abs(sent - back) < _MILLISECOND
        case AttributeType.Integer:
            return _number(echoed) == _number(attribute.value)
        case AttributeType.Decimal:
            sent_number, back_number = _number(attribute.value), _number(echoed)
            if sent_number is None or back_number is None:
                return False
            # More digits than a float holds may come back as the nearest float.
            return sent_number == back_number or float(sent_number) == float(back_number)


def _boolean(value: object) -> object:
    try:
        return canonical(AttributeType.Boolean, value)
    except InvalidJob:
        return None


def _instant(value: object) -> datetime | None:
    try:
        return in_utc(instant(value))
    except InvalidJob:
        return None


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() else None
