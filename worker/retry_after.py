"""The header `Retry-After`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..jobs.errors import InvalidJob
from ..jobs.times import in_utc, instant

MAX_S = 300
"""More than this is not waited for at once: ChartMogul is asked again."""

# One header, or several that were joined with ", "; a date has one comma of its own.
_VALUE = re.compile(r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,[^,]+|[^,]+", re.IGNORECASE)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, by either form of `Retry-After` (RFC 9110, 10.2.3); None if it says nothing.

    Decimals and ISO 8601, which the RFC does not know, are taken for what they say. Of several
    values that can be read the longest holds. A date is compared with the answer's own `Date`, if
    it has one, since clocks differ.
    """
    now = _date(headers.get("Date", ""))
    found = [_seconds(text.strip(), now) for text in _VALUE.findall(headers.get("Retry-After", ""))]
    return max((seconds for seconds in found if seconds is not None), default=None)


def _seconds(text: str, now: datetime | None) -> float | None:
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text):
        return min(float(text), MAX_S)
    then = _date(text)
    if then is None:
        return None
    return min(max(0.0, (then - (now or datetime.now(UTC))).total_seconds()), MAX_S)


def _date(text: str) -> datetime | None:
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        found = parsedate_to_datetime(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    with suppress(InvalidJob):
        return in_utc(instant(text))
    return None
