"""Reading a point in time: ISO 8601 text, and Python's datetimes and dates."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from .errors import InvalidJob
from .plain import kind, plain


def instant(value: object) -> datetime:
    """A point in time, naive where it names no zone: a datetime, a date or ISO 8601 text.

    Calendar, week and ordinal dates, with or without dashes; time to the hour or finer, after
    "T" or a space; zone as Z, an offset, UTC or GMT. Digits past the microsecond are dropped.
    A leap second (23:59:60 in UTC, at the end of a month) is read as the second after it, as POSIX
    counts.

    Raises:
        InvalidJob: the value is none of these, or names a time that does not exist.
    """
    found = plain(value)
    if type(found) is datetime:
        return found
    if type(found) is date:
        return datetime(found.year, found.month, found.day)
    if type(found) is str and (parts := _ISO_8601.fullmatch(found)):
        return _read(kind(value), *parts.groups(default=""))
    raise InvalidJob.of(
        "value", f"must be ISO 8601, as 2016-01-31T00:00:00Z; this is {kind(value)}"
    )


def in_utc(moment: datetime) -> datetime:
    """The same point in time in UTC. A naive one is taken as UTC.

    Raises:
        InvalidJob: the time zone does not work, or the time in UTC is before 1 or after 9999.
    """
    try:
        offset = moment.utcoffset()
    except Exception as error:  # a caller's own tzinfo may raise anything
        raise InvalidJob.of("value", f"its time zone raised {kind(error)}") from None
    if offset is None:
        return moment.replace(tzinfo=UTC)
    try:
        return (moment.replace(tzinfo=None) - offset).replace(tzinfo=UTC, fold=0)
    except OverflowError:
        raise InvalidJob.of("value", "in UTC it lies outside the years 1 to 9999") from None


def _read(shown: str, day: str, clock: str, zone: str) -> datetime:
    """The time that the parts of ISO 8601 text name.

    `datetime.fromisoformat` reads most of it; what is done here Python 3.11 or a later one lacks.
    """
    added = timedelta(0)
    if _MIDNIGHT_AT_END.fullmatch(clock):
        clock, added = "00", timedelta(days=1)
    leap_second = _SECOND_60.fullmatch(clock)
    if leap_second:
        clock, added = f"{leap_second[1]}59{leap_second[2]}", timedelta(seconds=1)
    if zone in {"z", "UTC", "GMT"}:
        zone = "Z"
    try:
        if _ORDINAL_DATE.fullmatch(day):
            day = _calendar_date(int(day[:4]), int(day[-3:])).isoformat()
        found = datetime.fromisoformat(f"{day}T{clock or '00'}{zone.replace('−', '-')}") + added
    except (ValueError, OverflowError):
        raise InvalidJob.of(
            "value", f"names a day, time or zone that does not exist; this is {shown}"
        ) from None
    if leap_second:
        utc = in_utc(found)
        if (utc.day, utc.hour, utc.minute, utc.second) != (1, 0, 0, 0):
            raise InvalidJob.of(
                "value",
                "names a second 60 that does not exist: a leap second is 23:59:60 in UTC, "
                f"at the end of a month; this is {shown}",
            )
    return found


def _calendar_date(year: int, day_of_year: int) -> date:
    found = date(year, 1, 1) + timedelta(days=day_of_year - 1)
    if found.year != year:
        raise ValueError("no such day in this year")
    return found


_ORDINAL_DATE = re.compile(r"[0-9]{4}-?[0-9]{3}")
_MIDNIGHT_AT_END = re.compile(r"24(?::?00){0,2}(?:[.,]0+)?")
_SECOND_60 = re.compile(r"([0-9]{2}:?[0-9]{2}:?)60((?:[.,][0-9]+)?)")
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
