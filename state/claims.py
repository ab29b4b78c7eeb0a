"""What passes between the mailboxes and the worker: limits, claims, and what an answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ..jobs.attributes import Attribute
from ..jobs.job import Lane, time_of
from ..jobs.outcome import Outcome, Status


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an account may spend, and how much one request carries."""

    rate_limit: float
    """Requests a second."""
    max_parallel: int
    """Requests in flight."""
    lease_s: float
    """Seconds that a claim lasts: longer than a request can take and a lost one can still act."""
    bulk_share: float = 0.1
    """Share of the deliveries for bulk emails while live ones wait, too."""
    max_attributes: int = 250
    """Attributes in one request."""
    max_bytes: int = 64 * 1024
    """About how many bytes of attributes are in one request."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What came of moving a job from the inbox to its mailbox."""

    result: Literal[
        "staged",
        "superseded",
        "unchanged",
        "forgotten",
        "known",
        "future",
        "mistyped",
        "error",
    ]
    """`forgotten`: it occurred before its email was forgotten, and is canceled. `error`: Redis
    could not, since a key of this email is damaged; the job stays there."""
    superseded: tuple[str, ...] = ()
    """Ids of the jobs that this one brought to their end, since it is newer."""
    mistyped: str = ""
    """In words, which keys had another type before; or what Redis answered."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """One attribute's newest value, as it lies in a mailbox."""

    version: str
    """16 digits of microseconds and the job's id: of two, the greater is the newer."""
    attribute: Attribute

    @property
    def job_id(self) -> str:
        """The job that asked for it."""
        return self.version[16:]

    @property
    def occurred_at(self) -> datetime:
        """When it became true."""
        return time_of(int(self.version[:16]))


@dataclass(frozen=True, kw_only=True)
class PendingJob:
    """A job that a request is made for, and what its earlier attempts came to."""

    job_id: str
    lane: Lane = "live"
    attempts: int = 0
    """Requests made for it so far."""
    unmatched: int = 0
    """How many of them found no customer, each after its waiting time."""
    unmatched_until_us: int = 0
    """When the waiting time for a customer is over."""
    unconfirmed: int = 0
    """How many of them were answered with 2xx, but without its values, each after its time."""
    unconfirmed_until_us: int = 0
    """When the waiting time for its values to show is over."""
    sent_us: int = 0
    """When the last of them was claimed."""
    failing_since_us: int | None = None
    """When the server began to fail on it without a break; None if it did not the last time."""
    failed_alone: bool = False
    """Whether the server failed on it the last time, with no other job in the request."""
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    """All that Redis holds of it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be sent for an email in one request, and for which jobs. The lease has begun."""

    mailbox_id: str
    token: str
    email: str
    now_us: int
    """Redis's time of the claim, in microseconds since 1970."""
    account_us: int
    """The account's time of it."""
    claimed_s: float
    """This machine's monotonic time just before the claim was asked for."""
    answered_s: float
    """The same, when it was answered."""
    values: tuple[Value, ...]
    jobs: tuple[PendingJob, ...]
    unsent: tuple[Value, ...] = ()
    """Further values of the last job, which did not fit into the request."""
    failures: int = 0
    """Failures of the server in a row, for this email."""
    batch: int = 0
    """How many jobs go into a request at most, while a culprit is searched for; 0 for all."""
    ask: bool = False
    """Whether more emails are due and no other stint waits: one is to be asked for."""
    inbox: bool = False
    """Whether jobs wait to be accepted."""
    superseded: tuple[str, ...] = ()
    damaged: int = 0


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A time is reserved; when it has come, the next email is claimed."""

    reserved: str
    wait_s: float
    superseded: tuple[str, ...] = ()
    damaged: int = 0


@dataclass(frozen=True, kw_only=True)
class Idle:
    """There is nothing for a stint to do now."""

    why: str
    superseded: tuple[str, ...] = ()
    damaged: int = 0


Next = Claim | Wait | Idle
"""A stint's next delivery. `superseded` are ids of jobs that newer ones ended; `damaged` counts
entries that were removed, since what belonged to them is lost."""


@dataclass(frozen=True, kw_only=True)
class AccountNews:
    """What an answer says of the account as a whole."""

    kind: str
    """Of the verdict: `server`, `pace`, `account` and others."""
    attempt_class: str = "2xx"
    """What the attempt counts as."""
    took_s: float | None = None
    """Seconds from the request's write to the end of the answer, or of the wait for it."""
    reason: str = ""
    """In words, without what is private."""
    retry_after_s: float | None = None
    probe_delays_s: tuple[float, ...] = (60.0,)
    """Seconds before each ping of a paused account; the last one repeats."""


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What one answer means for one job."""

    job_id: str
    status: Status
    """`pending` when the job is to be tried again."""
    fields: dict[str, str | int]
    """What to note in its outcome."""
    failed_alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What one answer means for a mailbox and all its jobs."""

    jobs: tuple[JobResult, ...]
    taken: frozenset[str] = frozenset()
    """Keys of the values that ChartMogul took or may have taken: nothing older may follow them."""
    seen: frozenset[str] = frozenset()
    """Keys of those that its answer showed, as far as the settings ask for it."""
    retry_s: float = 0
    """Seconds until what is left is tried again."""
    rest_s: float = 0
    """Seconds in which nothing is sent for this email, not even a newer job."""
    failures: int = 0
    batch: int = 0
    """How many jobs go into the next request at most; 0 for all."""
    waits: bool = False
    """Whether a customer is waited for: new jobs join, and wait as well."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a settlement changed."""

    held: bool
    """Whether the lease was still valid; else another delivery answers for the jobs."""
    paused: bool
    """Whether this answer is the one that paused the account."""
    outcomes: tuple[Outcome, ...]
    """How the jobs stand now."""
    next: Next | None
    """The stint's next delivery, if it goes on."""
