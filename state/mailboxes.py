"""The state of an account in Redis: its inbox, its mailboxes, who may deliver what, and outcomes.

Each method is one transition, and each transition one Lua script in `lua/`: it happens whole or
not at all, and may be repeated, since redis-py repeats a command whose answer was lost. Time is
Redis's own. Nothing else writes these keys, except `producers/enqueue.lua` the inbox.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import redis
from redis.commands.core import Script

from ..jobs.attributes import Attribute, AttributeType
from ..jobs.job import EPOCH, VERSION_LENGTH, AttributeJob, Lane, time_of
from ..jobs.outcome import Status
from .keys import Keys
from .scripts import PACKAGE, SHARED, Call, InTurn, T, transition

Staged = Literal["staged", "superseded", "unchanged", "known", "future", "mistyped"]

TRANSIT_S = 10
"""Seconds from its slot in which a lease must be claimed: how long a lost message costs."""
LEAD_S = 0.05
"""A delivery is made ready so long before its slot: what delays it then costs no slot."""
GATHER_S = 5
"""Seconds in which a bulk mailbox gathers jobs while more come in: a table with many rows for an
email is few requests."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to make one delivery to one mailbox, for a limited time."""

    mailbox_id: str
    token: str
    email: str
    attributes: int
    """How many attributes were waiting when the lease was given."""
    wait_s: float = 0
    """Seconds from then to its slot."""


@dataclass(frozen=True, kw_only=True)
class Early:
    """The slot of a lease is not near yet."""

    wait_s: float


@dataclass(frozen=True, kw_only=True)
class Departure:
    """When a request may leave, as Redis planned it between being asked and the answer."""

    at_us: int
    """By Redis's clock, in microseconds since the epoch; the request is counted as sent then."""
    wait_s: float
    asked_s: float
    """By this machine's monotonic clock, as the rest."""
    answered_s: float

    @classmethod
    def of(cls, plan: Sequence[Any], asked_s: float) -> Departure:
        """As a script answered it just now: the time, and in how many milliseconds that is."""
        at_us, wait_ms = plan
        return cls(
            at_us=int(at_us),
            wait_s=wait_ms / 1000,
            asked_s=asked_s,
            answered_s=time.monotonic(),
        )

    def wait(self) -> None:
        """Leave no request earlier than planned."""
        if (wait_s := self.answered_s + self.wait_s - time.monotonic()) > 0:
            time.sleep(wait_s)

    def late_s(self) -> float:
        """Seconds by which it is later than planned now, give or take half a round trip."""
        return time.monotonic() - (self.asked_s + self.answered_s) / 2 - self.wait_s


@dataclass(frozen=True, kw_only=True)
class Value:
    """One attribute's newest value, as it lies in a mailbox."""

    version: str
    attribute: Attribute

    @property
    def job_id(self) -> str:
        """The job that asked for it."""
        return self.version[16:]

    @property
    def occurred_at(self) -> datetime:
        """When it became true."""
        return time_of(int(self.version[:16]))

    @property
    def digest(self) -> str:
        """A short text that is the same for the same type and value."""
        return digest_of(self.attribute)


@dataclass(frozen=True, kw_only=True)
class PendingJob:
    """A job that a delivery answers for, and what its earlier attempts came to."""

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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is to be sent for an email in one request, and for which jobs."""

    mailbox_id: str
    token: str
    now_us: int
    """Redis's time of the claim, in microseconds since the epoch."""
    email: str
    failures: int
    """Failures of the server in a row, for this mailbox."""
    values: tuple[Value, ...]
    jobs: tuple[PendingJob, ...]
    departure: Departure


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What one answer means for one job."""

    job_id: str
    status: Status
    """`pending` when the job is to be tried again."""
    fields: dict[str, str | int]
    """What to note in its outcome."""


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
    alone: bool = False
    """Whether the jobs of this mailbox are tried one by one from now on."""


class Mailboxes:
    """One account's state.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        lease_s: seconds that a lease lasts from its claim. Must be longer than a request can take
            plus the time that a lost request can still act. Until its claim it lasts `TRANSIT_S`
            from its slot, if that is less.
        retention_s: seconds that outcomes and delivered versions are kept.
        rate_limit: requests a second that the account may spend here.
        bulk_share: share of the leases that bulk mailboxes get while live ones wait, too.
        strict_types: whether a key must keep the type that was first used for it.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        lease_s: float,
        retention_s: int,
        rate_limit: float,
        bulk_share: float = 0.1,
        strict_types: bool = False,
    ) -> None:
        self.ended: Callable[[Sequence[str]], None] = lambda _: None
        """Is told the ids of live jobs that ended without an answer, because newer ones came."""
        self._prefix = keys.prefix
        self._lease_ms = round(lease_s * 1000)
        self._transit_ms = min(self._lease_ms, TRANSIT_S * 1000)
        self._retention_s = retention_s
        self._rate_limit = rate_limit
        self._bulk_share = bulk_share
        self._strict = "1" if strict_types else ""
        self._client: Any = client  # redis-py's types allow for bytes at every turn
        self._keys = keys

        self._take = transition(client, "take")
        self._stage = transition(client, "stage")
        self._reject = transition(client, "reject")
        self._release = transition(client, "release")
        self._claim = transition(client, "claim")
        self._settle = transition(client, "settle")
        names = ("observe.lua", "settle.lua", "release.lua")
        self._conclude = InTurn(client, PACKAGE, shared=SHARED, names=names)

    def take(self, *, limit: int, within_s: float) -> list[tuple[str, str]]:
        """Jobs of the inbox to be accepted, as id and document; live ones first.

        No other worker gets them, until they have stayed there for `within_s`.
        """
        answer: list[str] = self._call(self._take, limit, round(within_s * 1000))
        return list(pairs(answer))

    def stage(self, jobs: Sequence[AttributeJob]) -> list[tuple[Staged, str]]:
        """Move jobs from the inbox to their emails' mailboxes; each by itself, in one round trip.

        Returns:
            For each job what came of it, and in words which keys had another type before.
        """
        pipeline = self._client.pipeline(transaction=False)
        for job in jobs:
            self._stage(keys=[self._prefix], args=self._stage_args(job), client=pipeline)
        found: list[tuple[Staged, str]] = []
        for staged, ended, mistyped in pipeline.execute():
            found.append((staged, mistyped))
            if ended:
                self.ended(ended)
        return found

    def _stage_args(self, job: AttributeJob) -> list[str | int]:
        args: list[str | int] = [
            job.job_id,
            job.mailbox_id,
            job.email,
            job.lane,
            _version(job),
            self._retention_s,
            self._strict,
            "1" if job.only_changed else "",
        ]
        for attribute in job.attributes:
            args += [attribute.key, _payload(attribute)]
            if job.only_changed:
                args.append(digest_of(attribute))
        return args

    def reject(self, job_id: str, reasons: str, *, mailbox_id: str = "", email: str = "") -> bool:
        """Record as `invalid` what makes no job. False when it has an outcome already."""
        return bool(self._call(self._reject, job_id, reasons, self._retention_s, mailbox_id, email))

    def release(self, *, max_parallel: int) -> tuple[list[Lease], float | None]:
        """Lease due mailboxes: `release_call`, run alone."""
        return self.release_call(max_parallel=max_parallel)()

    def release_call(self, *, max_parallel: int) -> Call[tuple[list[Lease], float | None]]:
        """Lease due mailboxes while fewer than `max_parallel` are in flight.

        Each gets a slot of the account's pace: the rate limit, or less if it was cut.

        Live ones come first, but for bulk's share.

        Also takes back leases that have expired.

        Returns:
            The new leases, and seconds until there may be more (None: nothing is waiting).
        """
        return self._prepare(
            self._release,
            _leases,
            max_parallel,
            self._transit_ms,
            f"{random.getrandbits(64):x}",  # unique, and known to whoever may read Redis
            self._bulk_share,
            GATHER_S * 1000,
            self._rate_limit,
        )

    def claim(self, mailbox_id: str, token: str) -> Claim | Early | None:
        """Take what is to be sent now, `LEAD_S` before the lease's slot at the earliest.

        None when the lease is not valid, nothing is left, or the account was paused or held.
        """
        asked_s = time.monotonic()
        answer = self._call(
            self._claim,
            mailbox_id,
            token,
            self._lease_ms,
            self._retention_s,
            self._rate_limit,
            round(LEAD_S * 1000),
        )
        if answer is None:
            return None
        if isinstance(answer, int):
            return Early(wait_s=answer / 1000)
        now_us, failures, values, jobs, superseded, plan = answer
        self.ended(superseded)
        outcomes = _fields_by_job(jobs)
        return Claim(
            mailbox_id=mailbox_id,
            token=token,
            now_us=int(now_us),
            email=next(iter(outcomes.values()))["email"],
            failures=int(failures),
            values=tuple(_value(key, held) for key, held in pairs(values)),
            jobs=tuple(_pending(job_id, fields) for job_id, fields in outcomes.items()),
            departure=Departure.of(plan, asked_s),
        )

    def settle_call(
        self, claim: Claim, settlement: Settlement
    ) -> Call[dict[str, dict[str, str]] | None]:
        """Carry out what an answer means.

        Returns:
            The live jobs' ids, each with the fields of its outcome; None when the lease had ended:
            nothing was changed.
        """
        args: list[str | int] = [
            claim.mailbox_id,
            claim.token,
            self._retention_s,
            round(settlement.retry_s * 1000),
            round(settlement.rest_s * 1000),
            settlement.failures,
            "1" if settlement.alone else "",
            len(claim.values),
        ]
        for value in claim.values:
            key = value.attribute.key
            taken = "-" if key in settlement.taken else ""
            args += [key, value.version, value.digest if key in settlement.seen else taken]
        args.append(len(settlement.jobs))
        for job in settlement.jobs:
            args += [job.job_id, job.status, len(job.fields)]
            for name, content in job.fields.items():
                args += [name, content]
        return self._prepare(
            self._settle, lambda answer: None if answer is None else _fields_by_job(answer), *args
        )

    def conclude(
        self, observe: Call[bool], claim: Claim, settlement: Settlement, *, max_parallel: int
    ) -> tuple[bool, dict[str, dict[str, str]] | None, list[Lease]]:
        """All that follows from an answer, in one step.

        What it says of the account is noted (`AccountHealth.observe_call`), it is settled
        (`settle_call`), and what may be delivered now is leased (`release`).
        """
        noted, settled, (leases, _) = self._conclude(
            observe,
            self.settle_call(claim, settlement),
            self.release_call(max_parallel=max_parallel),
        )
        return noted, settled, leases

    def _call(self, script: Script, *args: str | float) -> Any:
        return script(keys=[self._prefix], args=args)

    def _prepare(self, script: Script, read: Callable[[Any], T], *args: str | float) -> Call[T]:
        return Call(script, [self._prefix], args, read)


def pairs(flat: Sequence[Any]) -> zip[tuple[Any, Any]]:
    """A hash as Lua answers it: field, value, field, value."""
    return zip(flat[::2], flat[1::2], strict=True)


def _leases(answer: Any) -> tuple[list[Lease], float | None]:
    again_ms, released = answer
    leases = [
        Lease(
            mailbox_id=mailbox_id,
            token=token,
            email=email,
            attributes=attributes,
            wait_s=wait_ms / 1000,
        )
        for mailbox_id, token, email, attributes, wait_ms in released
    ]
    return leases, None if again_ms < 0 else again_ms / 1000


def _fields_by_job(answer: Sequence[Any]) -> dict[str, dict[str, str]]:
    return {job_id: dict(pairs(fields)) for job_id, fields in pairs(answer)}


def digest_of(attribute: Attribute) -> str:
    """A short text that is the same for the same type and value."""
    content = json.dumps([attribute.type, attribute.value], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _version(job: AttributeJob) -> str:
    microseconds = ((job.occurred_at or datetime.now(UTC)) - EPOCH) // timedelta(microseconds=1)
    return f"{microseconds:016d}{job.job_id}"


def _payload(attribute: Attribute) -> str:
    content = [attribute.type, attribute.value]
    if attribute.source is not None:
        content.append(attribute.source)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _value(key: str, held: str) -> Value:
    kind, value, *source = json.loads(held[VERSION_LENGTH:])
    return Value(
        version=held[:VERSION_LENGTH],
        attribute=Attribute(
            type=AttributeType(kind), key=key, value=value, source=source[0] if source else None
        ),
    )


def _pending(job_id: str, fields: dict[str, str]) -> PendingJob:
    since = fields.get("failing_since")
    return PendingJob(
        job_id=job_id,
        lane="bulk" if fields.get("lane") == "bulk" else "live",
        attempts=int(fields.get("attempts", 0)),
        unmatched=int(fields.get("unmatched", 0)),
        unmatched_until_us=int(fields.get("unmatched_until", 0)),
        unconfirmed=int(fields.get("unconfirmed", 0)),
        unconfirmed_until_us=int(fields.get("unconfirmed_until", 0)),
        sent_us=int(fields.get("sent", 0)),
        failing_since_us=int(since) if since else None,
    )
