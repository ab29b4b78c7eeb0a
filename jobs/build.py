"""Making a job of what an application hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from .attributes import Attribute
from .errors import FieldError, InvalidJob
from .ids import new_job_id
from .job import AttributeJob, Lane
from .schema import make_job

Attributes = Mapping[str, Any] | Sequence[Mapping[str, Any] | Attribute]
"""Key → plain value or `Attribute`, or the list of dicts of ChartMogul's reference."""

MAX_AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie in the future."""


def build_job(
    email: str,
    attributes: Attributes,
    *,
    source: str | None,
    occurred_at: datetime | None,
    idempotency_key: str | None,
    lane: Lane,
    only_changed: bool,
    now: datetime,
    job_id: str | None = None,
) -> AttributeJob:
    """A job of the arguments of `add_attributes`, at the time `now`.

    Raises:
        InvalidJob: something is not accepted.
    """
    job = make_job(
        new_job_id() if job_id is None else job_id,
        email=email,
        attributes=attributes,
        source=source,
        occurred_at=now if occurred_at is None else occurred_at,
        lane=lane,
        only_changed=only_changed,
        idempotency_key=idempotency_key,
    )
    if job.occurred_at > now + MAX_AHEAD:
        message = "lies more than 5 minutes in the future"
        raise InvalidJob([FieldError(path="occurred_at", message=message)])
    return job
