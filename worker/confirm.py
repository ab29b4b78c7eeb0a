"""Whether ChartMogul's answer shows the values that were sent.

A 200 may change nothing (reference: "A 200 may change nothing"), so only the echo in an entry's
`attributes.custom` is proof. ChartMogul normalises, so values are compared by what they mean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from ..jobs.attributes import Attribute, AttributeType, canonical
from ..jobs.errors import InvalidJob
from ..jobs.times import in_utc, instant

_MILLISECOND = timedelta(milliseconds=1)


def shows(custom: Mapping[str, object], attribute: Attribute) -> bool:
    """Whether custom attributes of an answer, by key (`Verdict.shown`), hold this value."""
    return attribute.key in custom and same(attribute, custom[attribute.key])


def same(attribute: Attribute, echoed: object) -> bool:
    """Whether an echoed JSON value means what was sent."""
    match attribute.type:
        case AttributeType.String:
            return _same_text(str(attribute.value), echoed)
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


# A text that is a number as JSON writes it: nothing of it is lost when it comes back as one. With
# "007" or "+49" something is.
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def _same_text(sent: str, echoed: object) -> bool:
    """White space may have become a blank, or be gone around a text; a number or boolean may have
    come out of it."""
    text = _plain(sent)
    match echoed:
        case str():
            return _plain(echoed) == text
        case bool():
            return text.casefold() == str(echoed).casefold()
        case int() | float() if _PLAIN_NUMBER.fullmatch(text):
            return _number(text) == _number(echoed)
    return False


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _boolean(value: object) -> object:
    word = value.strip().casefold() if isinstance(value, str) else value
    if word in (0.0, 1.0):  # also as floats
        return bool(word)
    try:
        return canonical(AttributeType.Boolean, word)
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
