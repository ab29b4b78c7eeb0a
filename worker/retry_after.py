"""The header `Retry-After`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_S = 300
"""More than this is not waited for at once: ChartMogul is asked again."""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, by either form of `Retry-After` (RFC 9110, 10.2.3); None if it says nothing.

    A date is compared with the answer's own `Date`, if it has one, since clocks differ.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), MAX_S)
    then = _date(text)
    if then is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0.0, (then - now).total_seconds()), MAX_S)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
