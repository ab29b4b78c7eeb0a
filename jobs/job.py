"""The job: custom attributes for the customers of one email, asked for at one time."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from .attributes import Attribute

Lane = Literal["live", "bulk"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VERSION_LENGTH = 52
"""Characters of a version: 16 of microseconds, 36 of the job's id."""
END_OF_TIME = EPOCH + timedelta(microseconds=10**16)
"""In the year 2286: from here on, 16 digits do not hold the microseconds of a version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeJob:
    """What was asked: set these attributes on every customer who has this email.

    Made by `schema.load_job`, which is what holds it to the rules. Its repr shows no email, value
    or idempotency key, since a repr may reach a log.
    """

    job_id: str
    """A canonical UUID, also the id of the job's Celery task."""
    email: str = field(repr=False)
    """As `normalized_email` leaves it: the email's identity."""
    attributes: tuple[Attribute, ...]
    """At least one, each key once."""
    occurred_at: datetime
    """When the values became true: UTC, to the microsecond. The newest job of a key wins."""
    lane: Lane = "live"
    """Live jobs are released before bulk ones."""
    only_changed: bool = False
    """Whether values that were last confirmed as delivered are not sent again."""
    idempotency_key: str | None = field(default=None, repr=False)
    """Jobs of an account that share it are one job."""

    @property
    def version(self) -> str:
        """What makes one job newer than another: compared as text, the later is greater."""
        microseconds = (self.occurred_at - EPOCH) // timedelta(microseconds=1)
        return f"{microseconds:016d}{self.job_id}"

    @property
    def mailbox_id(self) -> str:
        """The id of the mailbox in which the job's values wait."""
        return mailbox_id_of(self.email)


def time_of(microseconds: int) -> datetime:
    """The time so many microseconds after the epoch, in UTC; Redis holds times so."""
    return EPOCH + timedelta(microseconds=microseconds)


def normalized_email(email: str) -> str:
    """An email's identity: trimmed, its domain in lower case, the part before "@" as given."""
    local, at, domain = email.strip().rpartition("@")
    return f"{local}{at}{domain.lower()}"


def mailbox_id_of(email: str) -> str:
    """The id of an email's mailbox: 22 url-safe characters that do not show the email.

    Spellings of one email that `normalized_email` makes equal have the same one.
    """
    content = normalized_email(email).encode(errors="surrogatepass")
    return urlsafe_b64encode(hashlib.sha256(content).digest()[:16]).rstrip(b"=").decode()


def redacted_email(email: object) -> str:
    """An email as people may see it where it must stay private: `a***@example.com`.

    Of anything that does not look like an email, nothing is shown.
    """
    if not isinstance(email, str) or not email.isprintable():
        return "***"
    local, at, domain = email.strip().rpartition("@")
    return f"{local[:1]}***@{domain}" if at else "***"


def describe(email: str, attributes: int) -> str:
    """What is for an email, in a line for people: `a***@example.com · 2 attributes`."""
    # Of what made no job, the attributes are not known.
    count = f" · {attributes} {'attribute' if attributes == 1 else 'attributes'}"
    return redacted_email(email) + (count if attributes else "")
