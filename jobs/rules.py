"""The rules of a job's fields: producers build by them, and the schema validates by them.

Each function returns the value as a job keeps it, or raises InvalidJob with the path "value". The
rules of an attribute's fields stand in `attributes`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import cast, get_args

from .emails import email_fault, trimmed
from .errors import InvalidJob
from .ids import is_job_id
from .job import END_OF_TIME, EPOCH, Lane
from .plain import kind, plain
from .times import in_utc, instant


def job_id(value: object) -> str:
    """A UUID in its canonical form."""
    found = plain(value)
    if type(found) is str and is_job_id(found):
        return found
    raise InvalidJob.of("value", f"must be a UUID in lowercase with dashes; this is {kind(value)}")


def email(value: object) -> str:
    """An email, trimmed. `email_fault` says what can be one."""
    text = plain(value)
    if type(text) is not str:
        raise InvalidJob.of("value", f"must be an email, not {kind(value)}")
    found = trimmed(text)
    if fault := email_fault(found):
        raise InvalidJob.of("value", fault)
    return found


def occurred_at(value: object) -> datetime:
    """When a job's values became true, in UTC."""
    moment = instant(value)
    utc = in_utc(moment)
    if moment.utcoffset() is None:
        # An hour's guess would let an older value win.
        raise InvalidJob.of(
            "value",
            "must name its zone, as 2016-01-31T00:00:00Z does, since it decides which job is the "
            "newer one. (An attribute's Timestamp without a zone is taken as UTC.)",
        )
    if not EPOCH <= utc < END_OF_TIME:
        raise InvalidJob.of("value", f"must lie between {EPOCH:%Y} and {END_OF_TIME:%Y}")
    return utc


def lane(value: object) -> Lane:
    """`live` or `bulk`."""
    found = plain(value)
    if type(found) is str and found in get_args(Lane):
        return cast(Lane, found)
    raise InvalidJob.of("value", f'must be "live" or "bulk"; this is {kind(value)}')


def traceparent(value: object) -> str | None:
    """A trace's context. What is none is left out: no job is refused for its trace."""
    found = plain(value)
    return found if type(found) is str and _TRACEPARENT.fullmatch(found) else None


def flag(value: object) -> bool:
    """True or false."""
    found = plain(value)
    if type(found) is not bool:
        raise InvalidJob.of("value", f"must be true or false; this is {kind(value)}")
    return found


_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 00. Hexadecimal digits are lowercase, and an id is not all zeros."""
