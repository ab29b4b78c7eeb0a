"""The mailboxes of an account, and who may deliver what and when.

Each method is one transition, and each transition one Lua script in `lua/`: it happens whole or not
at all, and it may be repeated, since redis-py repeats a command whose answer was lost. Time is
Redis's own. `lua/_mailbox.lua` says how a mailbox is kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import redis

from ..jobs.attributes import Attribute, AttributeType
from ..jobs.job import EPOCH, AttributeJob, Lane, time_of
from ..jobs.outcome import Outcome, Status
from .inbox import Taken
from .keys import Keys
from .outcomes import outcome_of
from .scripts import Script

GATHER_S = 5
"""Seconds in which a bulk email gathers jobs while more come in: a table with many rows for an
email is few requests."""


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

    result: Literal["staged", "superseded", "unchanged", "known", "future", "mistyped"]
    superseded: tuple[str, ...] = ()
    """Ids of the jobs that this one brought to their end, since it is newer."""
    mistyped: str = ""
    """In words, which keys had another type before."""


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
    values: tuple[Value, ...]
    jobs: tuple[PendingJob, ...]
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


class Mailboxes:
    """One account's mailboxes. All methods raise `redis.RedisError` when Redis fails.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        limits: what the account may spend.
        retention_s: seconds that outcomes and delivered versions are kept.
        keep_s: seconds that outcomes are kept that ended well.
        strict_types: whether a key must keep the type that was first used for it.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        limits: Limits,
        retention_s: int,
        keep_s: int | None = None,
        strict_types: bool = False,
    ) -> None:
        self._account = keys.account
        self._limits = limits
        self._kept = {"retention_s": retention_s, "keep_s": keep_s or retention_s}
        self._strict = strict_types
        self._stage = Script(client, keys.prefix, "stage")
        self._claim = Script(client, keys.prefix, "claim")
        self._settle = Script(client, keys.prefix, "settle")
        self._give_back = Script(client, keys.prefix, "give_back")

    def stage(self, jobs: Sequence[tuple[Taken, AttributeJob]]) -> list[Staged]:
        """Move jobs from the inbox to their mailboxes: one after the other, in one round trip."""
        worker_us = time.time_ns() // 1000
        answers = self._stage.batch(
            [self._stage_args(taken, job, worker_us) for taken, job in jobs]
        )
        return [
            Staged(
                result=answer["result"],
                superseded=tuple(answer["superseded"] or ()),
                mistyped=answer["mistyped"],
            )
            for answer in map(json.loads, answers)
        ]

    def _stage_args(self, taken: Taken, job: AttributeJob, worker_us: int) -> dict[str, object]:
        when: dict[str, object] = {"arrived": taken.arrived_us}
        if job.occurred_at is not None:
            when = {"occurred": (job.occurred_at - EPOCH) // _MICROSECOND}
        attributes = [
            {
                "key": attribute.key,
                "type": attribute.type,
                "payload": _payload(attribute),
                "digest": digest_of(attribute) if job.only_changed else "",
            }
            for attribute in job.attributes
        ]
        return {
            "job": job.job_id,
            "taken": taken.entry,
            "email": job.email,
            "mailbox": job.mailbox_id,
            "lane": job.lane,
            "worker_us": worker_us,
            "attributes": attributes,
            "strict": self._strict,
            "only_changed": job.only_changed,
            **when,
            **self._kept,
        }

    def claim(self, stint: str, *, reserved: str | None = None) -> Next:
        """Reserve the time of a stint's next request, or, when it has come, claim an email.

        Args:
            stint: a short text that no other stint has.
            reserved: of the `Wait` that was answered before.
        """
        asked_s = time.monotonic()
        answer = self._claim(next=self._next_args(stint, reserved), **self._kept)
        return _next(json.loads(answer), asked_s)

    def settle(
        self, claim: Claim, settlement: Settlement, news: AccountNews, *, stint: str | None
    ) -> Settled:
        """Carry out all that follows from an answer, in one step.

        Args:
            stint: which goes on with its next delivery; None if it ends.
        """
        asked_s = time.monotonic()
        before = {job.job_id: job.fields for job in claim.jobs}
        arg: dict[str, object] = {
            "mailbox": claim.mailbox_id,
            "token": claim.token,
            "retry_us": round(settlement.retry_s * 1e6),
            "rest_us": round(settlement.rest_s * 1e6),
            "failures": settlement.failures,
            "batch": settlement.batch,
            "waits": settlement.waits,
            "answer": self._answer_args(claim, news),
            "values": [_settled_value(value, settlement) for value in claim.values],
            "jobs": [
                {
                    "id": job.job_id,
                    "status": job.status,
                    "fields": _changed(job, before.get(job.job_id, {})),
                    "failed": job.failed_alone,
                }
                for job in settlement.jobs
            ],
        }
        if stint is not None:
            arg["next"] = self._next_args(stint, None)
        answer = json.loads(self._settle(**arg, **self._kept))
        held = bool(answer["held"])
        following = answer.get("next")
        return Settled(
            held=held,
            paused=bool(answer["paused"]),
            outcomes=self._outcomes(claim, settlement, answer) if held else (),
            next=_next(following, asked_s) if following else None,
        )

    def give_back(self, claim: Claim) -> bool:
        """End a lease whose request was not sent: its email is due as before.

        False when the lease had ended.
        """
        return bool(self._give_back(mailbox=claim.mailbox_id, token=claim.token))

    def _next_args(self, stint: str, reserved: str | None) -> dict[str, object]:
        limits = self._limits
        arg: dict[str, object] = {
            "stint": stint,
            "rate_limit": limits.rate_limit,
            "max_parallel": limits.max_parallel,
            "lease_us": round(limits.lease_s * 1e6),
            "bulk_share": limits.bulk_share,
            "gather_us": GATHER_S * 1_000_000,
            "max_attributes": limits.max_attributes,
            "max_bytes": limits.max_bytes,
        }
        return arg if reserved is None else arg | {"reserved": reserved}

    def _answer_args(self, claim: Claim, news: AccountNews) -> dict[str, object]:
        arg: dict[str, object] = {
            "kind": news.kind,
            "claimed_us": claim.account_us,
            "rate_limit": self._limits.rate_limit,
            "reason": news.reason,
            "fresh": claim.failures == 0,
        }
        if news.kind == "account":
            arg["probe_delays_us"] = [round(delay_s * 1e6) for delay_s in news.probe_delays_s]
        if news.retry_after_s is not None:
            arg["retry_after_us"] = round(news.retry_after_s * 1e6)
        return arg

    def _outcomes(
        self, claim: Claim, settlement: Settlement, answer: Mapping[str, Any]
    ) -> tuple[Outcome, ...]:
        before = {job.job_id: job.fields for job in claim.jobs}
        open_jobs = answer["open"] or ()
        found = []
        for job in settlement.jobs:
            fields = {**before.get(job.job_id, {})}
            fields |= _changed(job, fields)
            fields.pop("next", None)
            if job.status != "pending" and job.job_id not in open_jobs:
                fields |= {"status": job.status, "settled": answer["settled_us"]}
            elif due_us := answer.get("due_us"):
                fields["next"] = due_us
            found.append(outcome_of(job.job_id, self._account, fields))
        return tuple(found)


def _next(answer: Mapping[str, Any], asked_s: float) -> Next:
    superseded, damaged = tuple(answer["superseded"] or ()), int(answer["damaged"])
    match answer["kind"]:
        case "wait":
            return Wait(
                reserved=answer["reserved"],
                wait_s=float(answer["wait_us"]) / 1e6,
                superseded=superseded,
                damaged=damaged,
            )
        case "idle":
            return Idle(why=answer["why"], superseded=superseded, damaged=damaged)
    jobs = [_pending(job) for job in answer["jobs"]]
    return Claim(
        mailbox_id=answer["mailbox"],
        token=answer["token"],
        email=jobs[-1].fields["email"],  # as the newest job spells it
        now_us=int(answer["redis_us"]),
        account_us=int(answer["account_us"]),
        claimed_s=asked_s,
        values=tuple(_value(value) for value in answer["values"]),
        jobs=tuple(jobs),
        failures=int(answer["failures"]),
        batch=int(answer["batch"]),
        ask=bool(answer["ask"]),
        inbox=bool(answer["inbox"]),
        superseded=superseded,
        damaged=damaged,
    )


def _value(held: Mapping[str, str]) -> Value:
    type_, value, *source = json.loads(held["payload"])
    return Value(
        version=held["version"],
        attribute=Attribute(
            type=AttributeType(type_),
            key=held["key"],
            value=value,
            source=source[0] if source else None,
        ),
    )


def _pending(job: Mapping[str, Any]) -> PendingJob:
    flat = job["fields"]
    fields: dict[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))
    since = fields.get("failing_since")
    return PendingJob(
        job_id=job["id"],
        lane="bulk" if fields.get("lane") == "bulk" else "live",
        attempts=int(fields.get("attempts", 0)),
        unmatched=int(fields.get("unmatched", 0)),
        unmatched_until_us=int(fields.get("unmatched_until", 0)),
        unconfirmed=int(fields.get("unconfirmed", 0)),
        unconfirmed_until_us=int(fields.get("unconfirmed_until", 0)),
        sent_us=int(fields.get("sent", 0)),
        failing_since_us=int(since) if since else None,
        failed_alone=bool(job["failed"]),
        fields=fields,
    )


def _changed(job: JobResult, before: Mapping[str, str]) -> dict[str, str]:
    """A job's new fields. An empty one is needed only to clear what an attempt before left."""
    fields = {name: str(content) for name, content in job.fields.items()}
    return {name: content for name, content in fields.items() if content or before.get(name)}


def _settled_value(value: Value, settlement: Settlement) -> dict[str, str]:
    key = value.attribute.key
    took = "-" if key in settlement.taken else ""
    if key in settlement.seen:
        took = digest_of(value.attribute)
    return {"key": key, "version": value.version, "took": took}


def digest_of(attribute: Attribute) -> str:
    """Eight characters that are the same for the same type and value."""
    content = json.dumps([attribute.type, attribute.value], ensure_ascii=False)
    return urlsafe_b64encode(hashlib.sha256(content.encode()).digest()[:6]).decode()


def _payload(attribute: Attribute) -> str:
    content = [attribute.type, attribute.value]
    if attribute.source is not None:
        content.append(attribute.source)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


_MICROSECOND = time_of(1) - time_of(0)
