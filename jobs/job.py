"""The job: custom attributes for the customers of one email, asked for at one time."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from .attributes import Attribute
from .emails import mailbox_id_of, normalized_email

Lane = Literal["live", "bulk"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME = EPOCH + timedelta(microseconds=10**16)
"""In the year 2286: from here on, 16 digits do not hold the microseconds of a version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttributeJob:
    """What was asked: set these attributes on every customer who has this email.

    `build.build_job` and `schema.load_wire` make jobs, and hold them to the rules. The repr shows
    no email, value or idempotency key, since a repr may reach a log.
    """

    job_id: str
    """A canonical UUID, also the id of the job's Celery task."""
    email: str = field(repr=False)
    """As it was given, only trimmed: ChartMogul is sent this spelling.

    Several spellings can be one email (`emails.normalized_email`); they have one `mailbox_id`.
    """
    attributes: tuple[Attribute, ...]
    """At least one, each key once."""
    occurred_at: datetime | None = None
    """When the values became true: UTC, to the microsecond. The newest job of a key wins.

    None: when Redis got it. The inbox fixes the order of arrival, and staging gives the time.
    """
    lane: Lane = "live"
    """Live jobs are delivered before bulk ones."""
    only_changed: bool = False
    """Whether values that were last confirmed as delivered are not sent again."""
    idempotency_key: str | None = field(default=None, repr=False)
    """Jobs of an account that share it are one job."""
    traceparent: str | None = None
    """The trace that it belongs to, as W3C's header of this name."""

    @property
    def mailbox_id(self) -> str:
        """The id of the mailbox in which the job's values wait."""
        return mailbox_id_of(self.email)


def content_digest(job: AttributeJob) -> str:
    """What an idempotency key stands for: 22 url-safe characters, the same for the same content.

    The content is the email (its identity), the attributes with type, value and source in any
    order, an explicit `occurred_at`, and `only_changed`. Job id, lane and trace are no part of it.
    """
    content = [
        normalized_email(job.email),
        sorted([a.key, a.type.value, json.dumps(a.value), a.source or ""] for a in job.attributes),
        None if job.occurred_at is None else job.occurred_at.isoformat(),
        job.only_changed,
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).digest()
    return urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def time_of(microseconds: int) -> datetime:
    """The time so many microseconds after the epoch, in UTC; Redis holds times so."""
    return EPOCH + timedelta(microseconds=microseconds)
