"""An account's state, and the words in which the tests of `state/` speak of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import redis

from attribute_courier.jobs.attributes import Attribute, infer
from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob, Lane
from attribute_courier.jobs.outcome import Outcome, Status
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.claims import (
    AccountNews,
    Claim,
    Idle,
    JobResult,
    Limits,
    Next,
    Settled,
    Settlement,
    Staged,
    Wait,
)
from attribute_courier.state.counts import Counters
from attribute_courier.state.inbox import Entry, Inbox, Taken
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Mailboxes
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.state.removal import Removal

from .redis_clock import KEY, RedisClock

KEYS = Keys("default")
VERSION_LENGTH = 52
"""Characters of a version: 16 of microseconds, 36 of the job's id."""
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
RETENTION_S, KEEP_S = 1000, 500
LIMITS = Limits(rate_limit=10_000, max_parallel=20, lease_s=60)

EMPTIES_ITSELF = {
    "inbox",
    "inbox:live",
    "inbox:bulk",
    "inbox:taken",
    "due:live",
    "due:bulk",
    "due:failing",
    "later",
    "leases",
    "leases:failing",
    "waiting",
}
"""Kept without end, and gone when no job waits."""
CAPPED = {
    "outcomes",
    "events",
    "watched",
    "types",
    "ledger",
    "pace",
    "clock",
    "arrivals",
    "repairs",
    "counts",
}
"""Kept without end, and small."""


def is_fake(client: Any) -> bool:
    """Whether this is fakeredis."""
    return "fakeredis" in type(client).__module__


class Account:
    """The state of one account, as its producers and workers change it."""

    def __init__(self, client: redis.Redis, clock: RedisClock, **limits: Any) -> None:
        self.client: Any = client
        self.clock = clock
        self.limits = replace(LIMITS, **limits)
        self.boxes = self.mailboxes()
        self.inbox = Inbox(client, KEYS, retention_s=RETENTION_S, keep_s=KEEP_S)
        self.outcomes = Outcomes(client, KEYS)
        self.removal = Removal(client, KEYS, retention_s=RETENTION_S, keep_s=KEEP_S)
        self.health = AccountHealth(
            client,
            KEYS,
            rate_limit=self.limits.rate_limit,
            max_parallel=self.limits.max_parallel,
            probe_delays_s=(60, 120),
        )
        self.taken: dict[str, Taken] = {}
        self.stints = 0

    def mailboxes(self, *, strict_types: bool = False, **limits: Any) -> Mailboxes:
        return Mailboxes(
            self.client,
            KEYS,
            limits=replace(self.limits, **limits),
            retention_s=RETENTION_S,
            keep_s=KEEP_S,
            strict_types=strict_types,
        )

    def limited(self, **limits: Any) -> Account:
        """The same account, seen by a worker with other limits."""
        return Account(self.client, self.clock, **limits)

    # Producing and accepting.

    def job(
        self,
        email: str = ADA,
        *,
        ago_s: float | None = None,
        lane: Lane = "live",
        only_changed: bool = False,
        **attributes: Any,
    ) -> AttributeJob:
        """A job in the inbox. Without `ago_s` it does not say when it occurred."""
        job = AttributeJob(
            job_id=new_job_id(),
            email=email,
            attributes=tuple(_attribute(key, value) for key, value in attributes.items()),
            occurred_at=None if ago_s is None else self.clock.now - timedelta(seconds=ago_s),
            lane=lane,
            only_changed=only_changed,
        )
        self.put(job)
        return job

    def put(self, job: AttributeJob) -> None:
        self.clock.step(1e-6)  # as it does between two calls
        self.inbox.put(job.lane, [Entry(job_id=job.job_id, wire=dump_wire(job))])

    def take(self, *, limit: int = 1000, within_s: float = 60) -> list[str]:
        taken = self.inbox.take(limit=limit, within_s=within_s, bulk_share=0.1)
        self.taken |= {each.job_id: each for each in taken}
        return [each.job_id for each in taken]

    def stage_all(self, job: AttributeJob, boxes: Mailboxes | None = None) -> Staged:
        """Stage a job. The whole answer."""
        self.take()
        (staged,) = (boxes or self.boxes).stage([(self.taken[job.job_id], job)])
        return staged

    def stage(self, job: AttributeJob) -> str:
        return self.stage_all(job).result

    def staged(self, *args: Any, **attributes: Any) -> AttributeJob:
        job = self.job(*args, **attributes)
        assert self.stage(job) == "staged"
        return job

    # Delivering.

    def next(self, boxes: Mailboxes | None = None) -> Next:
        """The next delivery of a new stint, after the time that it waits for has come."""
        boxes = boxes or self.boxes
        self.stints += 1
        stint = f"stint-{self.stints}"
        found = boxes.claim(stint)
        while isinstance(found, Wait):
            self.clock.time_passes(found.wait_s)
            found = boxes.claim(stint, reserved=found.reserved)
        return found

    def claim(self, boxes: Mailboxes | None = None) -> Claim:
        found = self.next(boxes)
        assert isinstance(found, Claim), found
        return found

    def claimed(self) -> list[str]:
        """Emails that are due now, in their order. They are leased by this."""
        emails = []
        while isinstance(found := self.next(), Claim):
            emails.append(found.email)
        return emails

    def settle(
        self,
        claim: Claim,
        status: Status = "delivered",
        *,
        jobs: Mapping[str, Status] | None = None,
        failed_alone: bool = False,
        fields: Mapping[str, str | int] | None = None,
        **options: Any,
    ) -> bool:
        """Settle a claim; whether its lease was still valid."""
        results = tuple(
            JobResult(
                job_id=job.job_id,
                status=(jobs or {}).get(job.job_id, status),
                fields={"attempts": job.attempts + 1, **(fields or {})},
                failed_alone=failed_alone,
            )
            for job in claim.jobs
        )
        delivered = {result.job_id for result in results if result.status == "delivered"}
        seen = frozenset(v.attribute.key for v in claim.values if v.job_id in delivered)
        return self.carry_out(claim, Settlement(jobs=results, seen=seen, **options)).held

    def carry_out(
        self, claim: Claim, settlement: Settlement, kind: str = "taken", **news: Any
    ) -> Settled:
        return self.boxes.settle(claim, settlement, AccountNews(kind=kind, **news), stint=None)

    def fails(self, claim: Claim, **options: Any) -> bool:
        """The server fails on a request, which is tried again."""
        results = tuple(
            JobResult(job_id=job.job_id, status="pending", fields={"attempts": job.attempts + 1})
            for job in claim.jobs
        )
        options = {"failures": claim.failures + 1, "retry_s": 0} | options
        return self.carry_out(
            claim, Settlement(jobs=results, **options), "server", reason="HTTP 500"
        ).held

    def deliver_all(self) -> list[dict[str, Any]]:
        """Deliver until nothing is due. What was sent, request by request."""
        sent = []
        while isinstance(claim := self.next(), Claim):
            sent.append(values(claim))
            assert self.settle(claim)
        return sent

    # Looking.

    def outcome(self, job: AttributeJob) -> Outcome:
        found = self.outcomes.get(job.job_id)
        assert found is not None
        return found

    def status(self, job: AttributeJob) -> Status:
        return self.outcome(job).status

    def box(self, email: str = ADA) -> dict[str, str]:
        found: dict[str, str] = self.client.hgetall(KEYS.of("mailbox", mailbox_id_of(email)))
        return found

    def pending(self, email: str = ADA) -> dict[str, str]:
        """Job id → how many of the mailbox's values are its own."""
        entries = [entry for name, entry in self.box(email).items() if name.startswith("#")]
        return {entry[16:VERSION_LENGTH]: entry[VERSION_LENGTH:] for entry in entries}

    def in_inbox(self) -> set[str]:
        return set(self.client.hkeys(KEYS.inbox))

    def counted(self) -> dict[str, int]:
        """How many jobs were settled with which outcome."""
        return dict(Counters(self.client, KEYS).now().by_status())

    def size(self, name: str) -> int:
        return int(self.client.zcard(KEYS.of(name)))

    def names(self) -> set[str]:
        return set(self.client.keys("*")) - {KEY}

    def state(self, *but: str) -> dict[str, Any]:
        """All that is in Redis, to see that nothing has changed."""
        read = {
            "hash": self.client.hgetall,
            "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            "set": self.client.smembers,
            "stream": self.client.xrange,
            "string": self.client.get,
        }
        left_out = {KEYS.of(name) for name in but}
        return {key: read[self.client.type(key)](key) for key in self.names() - left_out}

    def assert_nothing_is_left(self) -> None:
        """All jobs are settled: what is left ends by itself, or is capped."""
        for key in self.names():
            name = key.removeprefix(KEYS.prefix)
            assert name not in EMPTIES_ITSELF, f"{key} is not empty"
            if name not in CAPPED:
                assert self.client.pttl(key) > 0, f"{key} has no time to live"


def _attribute(key: str, value: Any) -> Attribute:
    if isinstance(value, Attribute):
        return replace(value, key=key)
    type_, found = infer(value)
    return Attribute(type=type_, key=key, value=found)


def values(claim: Claim) -> dict[str, Any]:
    return {value.attribute.key: value.attribute.value for value in claim.values}


def idle(found: Next) -> str:
    assert isinstance(found, Idle), found
    return found.why
