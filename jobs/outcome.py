"""What became of a job, and how to ask."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from .emails import redacted_email
from .text import counted

Status = Literal[
    "pending",
    "delivered",
    "superseded",
    "unchanged",
    "canceled",
    "unmatched",
    "unconfirmed",
    "invalid",
    "refused",
    "failed",
    "disabled",
]
STATUSES: tuple[Status, ...] = tuple(each for each in get_args(Status) if each != "disabled")
"""What a job in Redis can have: a `disabled` one was dropped by its producer."""
REPLAYABLE: tuple[Status, ...] = ("failed", "unmatched", "unconfirmed", "refused")
"""Outcomes after which a job's values are kept, so that it can be sent again."""
Reason = Literal[
    "",
    "no_customer",
    "not_shown",
    "no_proof",
    "content",
    "too_large",
    "server",
    "timeout",
    "connection",
    "not_chartmogul",
    "account",
    "pace",
    "schema",
    "future",
    "type",
    "asked",
    "forgotten",
]
"""In one word, why a job did not end well, or why it was not delivered the last time it was tried.
`docs/outcomes.md` says what each means. Empty for a job that ended well, or was not tried yet."""
REASONS: tuple[Reason, ...] = get_args(Reason)
SUCCESSES: frozenset[Status] = frozenset({"delivered", "superseded", "unchanged"})


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A ChartMogul customer that has the job's email."""

    uuid: str | None
    external_id: str | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Outcome:
    """What became of a job. Its repr shows no email, since logs and Flower show it."""

    job_id: str
    account: str
    status: Status
    email: str | None = None
    """None while the job is in the inbox, and for what never was a job."""
    lane: str | None = None
    keys: tuple[str, ...] = ()
    """Names of the job's attributes."""
    attempts: int = 0
    """Requests made for the job."""
    http_status: int | None = None
    """Of the last answer."""
    reason: Reason = ""
    """Why, as a word to count by."""
    message: str | None = None
    """Why, in words; without the email and the values."""
    warning: str | None = None
    """What is strange about the job: keys that had another type before."""
    customers: tuple[Customer, ...] = ()
    """Who has the job's email, by the last answer."""
    occurred_at: datetime | None = None
    accepted_at: datetime | None = None
    sent_at: datetime | None = None
    """When the last request was made."""
    settled_at: datetime | None = None
    next_attempt_at: datetime | None = None
    """When a pending job is tried again."""

    @property
    def settled(self) -> bool:
        """Whether the job has its final outcome; `courier replay` alone can change it."""
        return self.status != "pending"

    @property
    def successful(self) -> bool:
        """Whether the job was settled well: `delivered`, `superseded` or `unchanged`."""
        return self.status in SUCCESSES

    def summary(self) -> str:
        """Such as `delivered · 1 customer`, or `refused · Value is not valid`."""
        if self.status == "delivered":
            return f"delivered · {counted(len(self.customers), 'customer')}"
        return f"{self.status} · {self.message}" if self.message else self.status

    def to_dict(self) -> dict[str, Any]:
        """As JSON types: times in ISO 8601, `keys` and `customers` as lists."""

        def plain(value: Any) -> Any:
            return value.isoformat() if isinstance(value, datetime) else value

        content = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}
        content["keys"] = list(self.keys)
        content["customers"] = [
            {"uuid": customer.uuid, "external_id": customer.external_id}
            for customer in self.customers
        ]
        return content

    def __repr__(self) -> str:
        email = redacted_email(self.email) if self.email else "?"
        return f"<Outcome {self.job_id}: {email} · {self.summary()}>"
