"""Every transition of an account's state, on the fake Redis and on the real one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from attribute_courier.jobs.attributes import Attribute, infer
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import VERSION_LENGTH, AttributeJob, Lane, mailbox_id_of
from attribute_courier.jobs.outcome import Outcome, Status
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import (
    TRANSIT_S,
    Claim,
    Early,
    JobResult,
    Lease,
    Mailboxes,
    PendingJob,
    Settlement,
    Staged,
)
from attribute_courier.state.outcomes import Outcomes

from ..waiting import wait_until

KEYS = Keys("default")
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
RETENTION_S = 1000

# Kept without end, since they empty themselves or are capped.
LASTING = {"inbox", "inbox:live", "inbox:bulk", "due:live", "due:bulk", "inflight", "leases"}
CAPPED = {"outcomes", "types"}


class Account:
    """An account's state, and the words in which these tests speak of it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        self.boxes = self.with_leases_of(60)
        self.outcomes = Outcomes(client, KEYS)

    def with_leases_of(self, seconds: float) -> Mailboxes:
        return Mailboxes(
            self.client, KEYS, lease_s=seconds, retention_s=RETENTION_S, rate_limit=10_000
        )

    def at_rate(self, rate_limit: float) -> Mailboxes:
        return Mailboxes(
            self.client, KEYS, lease_s=60, retention_s=RETENTION_S, rate_limit=rate_limit
        )

    @property
    def now(self) -> datetime:
        return self.outcomes.now()

    def job(
        self, email: str = ADA, *, ago_s: float = 10, lane: Lane = "live", **attributes: Any
    ) -> AttributeJob:
        """A job in the inbox, as a producer leaves it."""
        job = AttributeJob(
            job_id=new_job_id(),
            email=email,
            attributes=tuple(_attribute(key, value) for key, value in attributes.items()),
            occurred_at=self.now - timedelta(seconds=ago_s),
            lane=lane,
        )
        self.produce(job)
        return job

    def produce(self, job: AttributeJob) -> None:
        self.client.hset(KEYS.inbox, job.job_id, dump_wire(job))
        self.client.zadd(KEYS.inbox_lane(job.lane), {job.job_id: int(self.now.timestamp() * 1000)})

    def staged(self, *args: Any, **attributes: Any) -> AttributeJob:
        job = self.job(*args, **attributes)
        assert self.stage(job) == "staged"
        return job

    def stage(self, job: AttributeJob) -> Staged:
        ((answer, _),) = self.boxes.stage([job])
        return answer

    def release(self, limit: int = 20) -> list[Lease]:
        return self.boxes.release(max_parallel=limit)[0]

    def released(self) -> list[str]:
        """Emails that are due now, in their order; they are leased by this."""
        return [lease.email for lease in self.release()]

    def counted(self) -> dict[str, str]:
        """How many jobs came to which end, in the minutes of this test."""
        found: Counter[str] = Counter()
        for name in self.client.scan_iter(KEYS.prefix + "counters:*"):
            for status, count in self.client.hgetall(name).items():
                found[status] += int(count)
        return {status: str(count) for status, count in found.items()}

    def claim(self, *, when_due: bool = False) -> Claim:
        """What is sent for the one email that is due."""
        (lease,) = wait_until(self.release) if when_due else self.release()
        claim = self.boxes.claim(lease.mailbox_id, lease.token)
        assert isinstance(claim, Claim)
        return claim

    def settle(
        self,
        claim: Claim,
        status: Status = "delivered",
        *,
        jobs: dict[str, Status] | None = None,
        **options: Any,
    ) -> bool:
        results = tuple(
            JobResult(
                job_id=job.job_id,
                status=(jobs or {}).get(job.job_id, status),
                fields={"attempts": job.attempts + 1},
            )
            for job in claim.jobs
        )
        delivered = {result.job_id for result in results if result.status == "delivered"}
        seen = frozenset(v.attribute.key for v in claim.values if v.job_id in delivered)
        return self.carry_out(claim, Settlement(jobs=results, seen=seen, **options))

    def carry_out(self, claim: Claim, settlement: Settlement) -> bool:
        return self.boxes.settle_call(claim, settlement)() is not None

    def deliver_all(self) -> list[dict[str, Any]]:
        """Deliver until nothing is due. What was sent, request by request."""
        sent = []
        while leases := self.release():
            for lease in leases:
                claim = self.boxes.claim(lease.mailbox_id, lease.token)
                assert claim is not None
                sent.append(values(claim))
                assert self.settle(claim)
        return sent

    def outcome(self, job: AttributeJob) -> Outcome:
        found = self.outcomes.get(job.job_id)
        assert found is not None
        return found

    def status(self, job: AttributeJob) -> Status:
        return self.outcome(job).status

    def pending(self, email: str = ADA) -> dict[str, str]:
        """Job id → how many of the mailbox's values are its own."""
        box = self.client.hgetall(KEYS.mailbox(mailbox_id_of(email)))
        entries = [entry for field, entry in box.items() if field.startswith("#")]
        return {entry[16:VERSION_LENGTH]: entry[VERSION_LENGTH:] for entry in entries}

    def taken(self, *, limit: int = 10, within_s: float = 60) -> list[str]:
        return [job_id for job_id, _ in self.boxes.take(limit=limit, within_s=within_s)]

    def in_inbox(self) -> set[str]:
        found: set[str] = set(self.client.hkeys(KEYS.inbox))
        return found

    def names(self) -> set[str]:
        return set(self.client.keys("*"))

    def state(self) -> dict[str, Any]:
        """All that is in Redis, to see that nothing has changed."""
        read = {
            "hash": self.client.hgetall,
            "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            "list": lambda key: self.client.lrange(key, 0, -1),
            "stream": self.client.xrange,
            "string": self.client.get,
        }
        return {key: read[self.client.type(key)](key) for key in self.names()}


def _attribute(key: str, value: Any) -> Attribute:
    if isinstance(value, Attribute):
        return Attribute(type=value.type, key=key, value=value.value, source=value.source)
    type_, found = infer(value)
    return Attribute(type=type_, key=key, value=found)


def values(claim: Claim) -> dict[str, Any]:
    return {value.attribute.key: value.attribute.value for value in claim.values}


def job_version(claim: Claim, key: str) -> str:
    (version,) = (value.version for value in claim.values if value.attribute.key == key)
    return version


@pytest.fixture
def account(client: redis.Redis) -> Iterator[Account]:
    """An account, of which every key must have the account's prefix in the end."""
    account = Account(client)
    yield account
    assert all(key.startswith("courier:{default}:") for key in account.names())


class TestStage:
    def test_takes_a_job_out_of_the_inbox_into_its_mailbox(self, account: Account) -> None:
        job = account.job(plan="pro", seats=3)
        assert account.in_inbox() == {job.job_id}
        assert account.stage(job) == "staged"
        assert account.in_inbox() == set()
        assert account.client.zcard(KEYS.inbox_lane("live")) == 0
        assert account.pending() == {job.job_id: "2"}
        assert account.released() == [ADA]

    def test_notes_what_was_asked(self, account: Account) -> None:
        job = account.staged(plan="pro", seats=3, lane="bulk")
        outcome = account.outcome(job)
        assert outcome.status == "pending"
        assert outcome.email == ADA
        assert outcome.lane == "bulk"
        assert outcome.keys == ("plan", "seats")
        assert outcome.occurred_at == job.occurred_at
        assert outcome.accepted_at is not None
        assert abs(outcome.accepted_at - account.now) < timedelta(seconds=60)
        assert account.outcomes.of_email(ADA) == [outcome]

    @pytest.mark.parametrize("order", ["oldest first", "newest first"])
    def test_keeps_the_newest_value_of_each_key_whatever_the_order(
        self, account: Account, order: str
    ) -> None:
        jobs = [
            account.job(ago_s=30, plan="free", seats=1, city="Ulm"),
            account.job(ago_s=20, plan="pro", seats=2),
            account.job(ago_s=10, plan="max"),
        ]
        for job in jobs if order == "oldest first" else reversed(jobs):
            assert account.stage(job) == "staged"
        assert account.pending() == {job.job_id: "1" for job in jobs}
        assert account.deliver_all() == [{"plan": "max", "seats": 2, "city": "Ulm"}]
        assert {account.status(job) for job in jobs} == {"delivered"}

    def test_of_one_moment_takes_the_job_that_was_asked_for_last(self, account: Account) -> None:
        first = account.job(plan="free")
        second = AttributeJob(
            job_id=new_job_id(),
            email=ADA,
            attributes=(_attribute("plan", "pro"),),
            occurred_at=first.occurred_at,
        )
        account.produce(second)
        assert account.stage(second) == "staged"
        assert account.stage(first) == "superseded"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_ends_a_job_whose_values_are_all_older(self, account: Account) -> None:
        newer = account.staged(plan="pro", seats=3)
        older = account.job(ago_s=20, plan="free")
        assert account.stage(older) == "superseded"
        assert account.status(older) == "superseded"
        assert account.pending() == {newer.job_id: "2"}
        assert older.job_id not in account.in_inbox()

    def test_ends_an_older_job_that_loses_its_last_value(self, account: Account) -> None:
        older = account.staged(ago_s=20, plan="free", seats=1)
        account.staged(ago_s=15, plan="pro")
        assert account.status(older) == "pending"
        account.staged(ago_s=10, seats=2)
        assert account.status(older) == "superseded"
        assert older.job_id not in account.pending()

    def test_ends_an_older_job_also_while_its_delivery_is_only_announced(
        self, account: Account
    ) -> None:
        older = account.staged(ago_s=20, plan="free")
        (lease,) = account.release()
        account.staged(plan="pro")
        assert account.status(older) == "superseded"
        claim = account.boxes.claim(lease.mailbox_id, lease.token)
        assert claim is not None
        assert values(claim) == {"plan": "pro"}

    def test_leaves_an_older_job_whose_values_are_in_flight_to_their_answer(
        self, account: Account
    ) -> None:
        older = account.staged(ago_s=20, plan="free")
        claim = account.claim()
        newer = account.staged(plan="pro")
        assert account.status(older) == "pending"
        assert account.settle(claim)
        assert account.status(older) == "delivered"
        assert account.status(newer) == "pending"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_knows_what_was_delivered_and_takes_nothing_older(self, account: Account) -> None:
        account.staged(plan="pro")
        account.deliver_all()
        older = account.job(ago_s=20, plan="free", seats=1)
        assert account.stage(older) == "staged"
        assert account.deliver_all() == [{"seats": 1}]
        assert account.status(older) == "delivered"
        oldest = account.job(ago_s=30, plan="none", seats=0)
        assert account.stage(oldest) == "superseded"
        assert account.deliver_all() == []

    def test_knows_a_job_that_comes_again(self, account: Account) -> None:
        job = account.staged(plan="pro")
        before = account.state()
        account.produce(job)
        assert account.stage(job) == "known"
        assert account.state() == before
        account.deliver_all()
        account.produce(job)
        assert account.stage(job) == "known"
        assert account.status(job) == "delivered"
        assert account.deliver_all() == []
        assert job.job_id not in account.in_inbox()

    @pytest.mark.parametrize(
        ("ahead_s", "staged"), [(4 * 60, "staged"), (6 * 60, "future"), (10**9, "future")]
    )
    def test_takes_no_job_from_more_than_five_minutes_ahead(
        self, account: Account, ahead_s: int, staged: str
    ) -> None:
        job = account.job(ago_s=-ahead_s, plan="pro")
        before = account.state()
        assert account.stage(job) == staged
        assert (account.state() == before) is (staged == "future")

    def test_of_two_emails_fills_two_mailboxes(self, account: Account) -> None:
        account.staged(ADA, plan="pro")
        account.staged(BOB, plan="free")
        assert sorted(account.released()) == [ADA, BOB]

    def test_in_the_live_lane_takes_the_whole_mailbox_along(self, account: Account) -> None:
        account.staged(BOB, lane="bulk", plan="pro")
        account.staged(ADA, lane="bulk", plan="pro")
        account.staged(ADA, lane="live", seats=1)
        account.staged(ADA, lane="bulk", city="Ulm")
        (lease,) = account.release(1)
        assert (lease.email, lease.attributes) == (ADA, 3)
        assert account.client.zcard(KEYS.prefix + "due:live") == 0
        assert account.client.zrange(KEYS.prefix + "due:bulk", 0, -1) == [mailbox_id_of(BOB)]


STRANGE = {
    "emoji": "😀👩‍👩‍👧",
    "umlauts": "Größe \u0000 \u2028 é",
    "quotes": "\"'\\/ \t\r\n",
    "long": "ß" * 255,
    "digits": "0" * 254 + "1",
    "braces": '{"a": [1, null]}',
    "big": 123456789012345678901234567890,
    "most": int("9" * 255),
    "negative": -(2**63),
    "past_2_53": 2**53 + 1,
    "decimal": Decimal("0.1234567890123456789012345678901234567890"),
    "tiny": 5e-324,
    "pi": 3.141592653589793,
    "yes": True,
    "no": False,
    "moment": datetime(2016, 1, 31, 12, 30, 15, 123456, tzinfo=UTC),
}


class TestValues:
    def test_of_every_form_come_out_as_they_went_in(self, account: Account) -> None:
        job = account.staged(**STRANGE)
        claim = account.claim()
        assert {v.attribute for v in claim.values} == set(job.attributes)
        assert account.settle(claim)
        assert account.status(job) == "delivered"

    def test_keep_their_source(self, account: Account) -> None:
        sourced = Attribute.of("String", "Facebook", source="Größe 😀 integration")
        account.staged(channel=sourced, age=8)
        found = {v.attribute.key: v.attribute.source for v in account.claim().values}
        assert found == {"channel": "Größe 😀 integration", "age": None}

    def test_have_versions_that_keep_every_digit(self, account: Account) -> None:
        """Two jobs a microsecond apart, in the wrong order: 16 digits count."""
        now = account.now.replace(microsecond=999_998)
        older, newer = (
            AttributeJob(
                job_id=new_job_id(),
                email=ADA,
                attributes=(_attribute("plan", plan),),
                occurred_at=moment,
            )
            for plan, moment in (
                ("free", now - timedelta(seconds=9)),
                ("pro", now - timedelta(seconds=9) + timedelta(microseconds=1)),
            )
        )
        assert account.stage(newer) == "staged"
        assert account.stage(older) == "superseded"
        (value,) = account.claim().values
        assert value.version == newer.version
        assert value.job_id == newer.job_id

    def test_have_a_digest_that_tells_types_and_values_apart(self, account: Account) -> None:
        account.staged(a="8", b=8, c=Decimal(8), d="8", e=True)
        digests = {v.attribute.key: v.digest for v in account.claim().values}
        assert digests["a"] == digests["d"]
        assert len(set(digests.values())) == 4

    def test_of_250_keys_go_into_one_request(self, account: Account) -> None:
        account.staged(**{f"key_{n}": "x" * 150 for n in range(250)})
        claim = account.claim()
        assert len(claim.values) == 250
        assert account.settle(claim)

    def test_under_the_longest_and_shortest_keys(self, account: Account) -> None:
        account.staged(**{"k" * 255: 1, "k": 2, "0": 3, "_": 4})
        assert values(account.claim()) == {"k" * 255: 1, "k": 2, "0": 3, "_": 4}


class TestRelease:
    def test_gives_each_lease_once_and_says_what_it_is_for(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        (lease,) = account.release()
        assert (lease.email, lease.attributes) == (ADA, 2)
        assert lease.mailbox_id == mailbox_id_of(ADA)
        assert account.release() == []

    def test_takes_live_before_bulk_and_each_in_the_order_of_their_times(
        self, account: Account
    ) -> None:
        account.staged("1@example.com", lane="bulk", n=1)
        account.staged("2@example.com", lane="bulk", n=2)
        account.staged("3@example.com", n=3)
        account.staged("4@example.com", n=4)
        order = [lease.email[0] for _ in range(4) for lease in account.release(20)]
        assert order == ["3", "4", "1", "2"]

    def test_never_has_more_in_flight_than_the_limit(self, account: Account) -> None:
        for n in range(5):
            account.staged(f"{n}@example.com", lane="live" if n % 2 else "bulk", n=n)
        assert len(account.release(2)) == 2
        assert account.release(2) == []
        (third,) = account.release(3)
        claim = account.boxes.claim(third.mailbox_id, third.token)
        assert claim is not None
        assert account.settle(claim)
        assert len(account.release(3)) == 1
        assert account.client.zcard(KEYS.prefix + "inflight") == 3

    def test_gives_tokens_that_are_never_the_same(self, account: Account) -> None:
        tokens = []
        for _ in range(3):
            for n in range(5):
                account.staged(f"{n}@example.com", n=n)
            for lease in account.release():
                tokens.append(lease.token)
                claim = account.boxes.claim(lease.mailbox_id, lease.token)
                assert claim is not None
                assert account.settle(claim)
        assert len(set(tokens)) == len(tokens) == 15

    def test_takes_back_a_lease_that_nobody_used(self, account: Account) -> None:
        account.staged(plan="pro")
        short = account.with_leases_of(0.05)
        (lost,), _ = short.release(max_parallel=1)
        (lease,) = wait_until(lambda: account.release(1))
        assert lease.token != lost.token
        assert account.boxes.claim(lost.mailbox_id, lost.token) is None
        assert account.boxes.claim(lease.mailbox_id, lease.token) is not None

    def test_takes_back_the_lease_of_a_worker_that_died_with_its_request(
        self, account: Account
    ) -> None:
        job = account.staged(plan="pro")
        (lease,) = account.release()
        short = account.with_leases_of(0.05)
        lost = short.claim(lease.mailbox_id, lease.token)
        assert lost is not None
        claim = account.claim(when_due=True)
        assert values(claim) == {"plan": "pro"}
        assert not account.settle(lost), "its answer came too late"
        assert account.status(job) == "pending"
        assert account.settle(claim)
        assert account.status(job) == "delivered"

    def test_says_when_to_look_again(self, account: Account) -> None:
        assert account.boxes.release(max_parallel=1) == ([], None)
        account.staged(ADA, plan="pro")
        account.staged(BOB, plan="pro")
        leases, again_s = account.with_leases_of(5).release(max_parallel=1)
        assert len(leases) == 1
        assert again_s is not None
        assert 0 < again_s <= 5, "nothing can be released before the lease ends"
        leases, again_s = account.boxes.release(max_parallel=2)
        assert [lease.email for lease in leases] == [BOB]

    def test_says_when_the_next_retry_is_due(self, account: Account) -> None:
        account.staged(plan="pro")
        account.settle(account.claim(), "pending", retry_s=5)
        _, again_s = account.boxes.release(max_parallel=1)
        assert again_s is not None
        assert 0 < again_s <= 5
        account.staged(BOB, plan="pro")
        _, again_s = account.boxes.release(max_parallel=0)
        assert again_s is None, "with no room, it is a lease that ends first"


class TestSlots:
    def test_are_evenly_spaced(self, account: Account) -> None:
        for n in range(4):
            account.staged(f"{n}@example.com", n=n)
        leases, _ = account.at_rate(2).release(max_parallel=20)
        assert [lease.wait_s for lease in leases] == [0, 0.5, 1, 1.5]

    def test_are_not_saved_up(self, account: Account) -> None:
        boxes = account.at_rate(20)
        account.staged(plan="pro")
        assert len(boxes.release(max_parallel=1)[0]) == 1
        throttle = KEYS.prefix + "throttle"
        wait_until(
            lambda: (
                float(account.client.hget(throttle, "slot") or 0) < account.now.timestamp() * 1e6
            )
        )
        for n in range(2):
            account.staged(f"{n}@example.com", n=n)
        leases, _ = boxes.release(max_parallel=3)
        assert [lease.wait_s for lease in leases] == [0, 0.05]

    def test_are_given_only_while_they_are_near(self, account: Account) -> None:
        for n in range(2):
            account.staged(f"{n}@example.com", n=n)
        boxes = account.at_rate(0.1)
        (first,), again_s = boxes.release(max_parallel=20)
        assert first.email == "0@example.com"
        assert again_s is not None
        assert 5 < again_s <= 8
        assert boxes.release(max_parallel=20)[0] == []
        due = account.client.zrange(KEYS.prefix + "due:live", 0, -1)
        assert due == [mailbox_id_of("1@example.com")], "it keeps its place"

    def test_may_be_claimed_when_they_are_near(self, account: Account) -> None:
        for n in range(2):
            account.staged(f"{n}@example.com", n=n)
        boxes = account.at_rate(0.6)
        (first, second), _ = boxes.release(max_parallel=20)
        before = account.state()
        early = boxes.claim(second.mailbox_id, second.token)
        assert isinstance(early, Early)
        assert 0 < early.wait_s <= 1 / 0.6 - 0.049
        assert account.state() == before
        assert isinstance(boxes.claim(first.mailbox_id, first.token), Claim)

    def test_after_a_hold_are_not_claimed_within_it(self, account: Account) -> None:
        account.staged(plan="pro")
        hold = int(account.now.timestamp() * 1e6) + 1_500_000
        account.client.hset(KEYS.prefix + "throttle", "hold", hold)
        (lease,) = account.release()
        before = account.state()
        early = account.boxes.claim(lease.mailbox_id, lease.token)
        assert isinstance(early, Early), "it is not given back either"
        assert account.now.timestamp() * 1e6 + early.wait_s * 1e6 >= hold
        assert account.state() == before

    def test_keep_their_lease_good_until_after_them(self, account: Account) -> None:
        for n in range(2):
            account.staged(f"{n}@example.com", n=n)
        leases, _ = account.at_rate(0.6).release(max_parallel=20)
        ends = [
            account.client.zscore(KEYS.prefix + "inflight", lease.mailbox_id) for lease in leases
        ]
        assert ends[1] - ends[0] == pytest.approx(1e6 / 0.6, abs=1)
        slot = int(leases[1].token.partition("@")[2])
        assert ends[1] - slot == pytest.approx(TRANSIT_S * 1e6, abs=1)


class TestClaim:
    def test_counts_the_request_as_sent_when_it_is_told_to_leave(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        sent = account.client.lrange(KEYS.prefix + "sent", 0, -1)
        assert sent == [str(claim.departure.at_us)]
        assert 0 <= claim.departure.at_us - claim.now_us <= 2_000_000

    def test_happens_once(self, account: Account) -> None:
        account.staged(plan="pro")
        (lease,) = account.release()
        assert account.boxes.claim(lease.mailbox_id, "made up") is None
        assert account.boxes.claim("nobody", lease.token) is None
        assert account.boxes.claim(lease.mailbox_id, lease.token) is not None
        assert account.boxes.claim(lease.mailbox_id, lease.token) is None

    def test_takes_what_is_newest_then(self, account: Account) -> None:
        first = account.staged(ago_s=20, plan="free", seats=1)
        (lease,) = account.release()
        second = account.staged(plan="pro")
        claim = account.boxes.claim(lease.mailbox_id, lease.token)
        assert claim is not None
        assert values(claim) == {"plan": "pro", "seats": 1}
        assert {job.job_id for job in claim.jobs} == {first.job_id, second.job_id}
        assert claim.email == ADA
        assert claim.failures == 0
        assert abs(claim.now_us / 1e6 - account.now.timestamp()) < 60

    def test_remembers_what_earlier_attempts_came_to(self, account: Account) -> None:
        job = account.staged(plan="pro")
        noted: dict[str, str | int] = {
            "attempts": 3,
            "unmatched": 1,
            "unmatched_until": 1_772_357_400_123_456,
            "unconfirmed": 2,
            "unconfirmed_until": 1_772_357_400_123_457,
            "failing_since": 1_772_357_400_123_458,
        }
        result = JobResult(job_id=job.job_id, status="pending", fields=noted)
        account.carry_out(account.claim(), Settlement(jobs=(result,), failures=7))
        claim = account.claim()
        assert claim.failures == 7
        assert claim.jobs == (
            PendingJob(
                job_id=job.job_id,
                attempts=3,
                unmatched=1,
                unmatched_until_us=1_772_357_400_123_456,
                unconfirmed=2,
                unconfirmed_until_us=1_772_357_400_123_457,
                failing_since_us=1_772_357_400_123_458,
            ),
        )

    def test_ends_what_was_superseded_under_a_request_that_was_never_judged(
        self, account: Account
    ) -> None:
        older = account.staged(ago_s=20, plan="free")
        (lease,) = account.release()
        assert account.with_leases_of(0.05).claim(lease.mailbox_id, lease.token) is not None
        newer = account.staged(plan="pro")
        assert account.status(older) == "pending"
        claim = account.claim(when_due=True)
        assert [job.job_id for job in claim.jobs] == [newer.job_id]
        assert account.status(older) == "superseded"


class TestSettle:
    def test_of_a_delivery_leaves_no_mailbox(self, account: Account) -> None:
        job = account.staged(plan="pro")
        claim = account.claim()
        result = JobResult(
            job_id=job.job_id,
            status="delivered",
            fields={
                "attempts": 1,
                "http_status": 200,
                "message": "",
                "customers": '[["cus_ß", null]]',
                "sent": claim.now_us,
            },
        )
        seen = frozenset({"plan"})
        assert account.carry_out(claim, Settlement(jobs=(result,), seen=seen))
        outcome = account.outcome(job)
        assert outcome.status == "delivered"
        assert (outcome.attempts, outcome.http_status, outcome.message) == (1, 200, None)
        assert [customer.uuid for customer in outcome.customers] == ["cus_ß"]
        assert outcome.next_attempt_at is None
        assert outcome.sent_at is not None
        assert outcome.settled_at is not None
        assert outcome.settled_at >= outcome.sent_at
        assert account.outcomes.recent() == [outcome]
        assert account.counted() == {"delivered": "1"}
        assert account.released() == []

    def test_of_a_retry_makes_the_email_due_again_then(self, account: Account) -> None:
        job = account.staged(plan="pro")
        assert account.settle(account.claim(), "pending", retry_s=60)
        outcome = account.outcome(job)
        assert outcome.status == "pending"
        assert outcome.attempts == 1
        assert outcome.next_attempt_at is not None
        assert 55 < (outcome.next_attempt_at - account.now).total_seconds() <= 60
        assert account.released() == []
        assert account.client.zcard(KEYS.prefix + "inflight") == 0

    def test_of_a_retry_at_once_makes_it_due_at_once(self, account: Account) -> None:
        account.staged(plan="pro")
        assert account.settle(account.claim(), "pending")
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_of_a_retry_is_overtaken_by_a_newer_job(self, account: Account) -> None:
        older = account.staged(ago_s=20, plan="free")
        account.settle(account.claim(), "pending", retry_s=60)
        newer = account.staged(plan="pro")
        assert account.deliver_all() == [{"plan": "pro"}]
        assert account.status(older) == "superseded"
        assert account.outcome(older).next_attempt_at is None
        assert account.status(newer) == "delivered"

    def test_makes_at_once_due_what_came_in_meanwhile(self, account: Account) -> None:
        first = account.staged(ago_s=20, plan="free")
        claim = account.claim()
        account.staged(city="Ulm")
        assert account.settle(claim, "pending", retry_s=60)
        assert account.deliver_all() == [{"plan": "free", "city": "Ulm"}]
        assert account.status(first) == "delivered"

    def test_with_a_rest_holds_back_newer_jobs_too(self, account: Account) -> None:
        account.staged(ago_s=20, plan="free")
        claim = account.claim()
        account.staged(city="Ulm")
        assert account.settle(claim, "pending", retry_s=1, rest_s=1)
        began = account.now
        account.staged(plan="pro")
        assert account.client.zscore(KEYS.prefix + "due:live", claim.mailbox_id) > (
            began.timestamp() * 1e6
        )
        wait_until(lambda: account.deliver_all() == [{"plan": "pro", "city": "Ulm"}])
        assert account.now - began > timedelta(seconds=0.1)

    def test_with_a_rest_holds_back_newer_jobs_also_after_the_last_one_ended(
        self, account: Account
    ) -> None:
        """A job can be given up while its last request may still act."""
        older = account.staged(ago_s=20, plan="free")
        assert account.settle(account.claim(), "failed", rest_s=1)
        assert account.status(older) == "failed"
        began = account.now
        newer = account.staged(plan="pro")
        assert account.released() == []
        box = KEYS.prefix + "mailbox:" + mailbox_id_of(ADA)
        assert account.client.ttl(box) == -1, "its mailbox does not end with the rest"
        wait_until(lambda: account.deliver_all() == [{"plan": "pro"}])
        assert account.now - began > timedelta(seconds=0.1)
        assert account.status(newer) == "delivered"

    def test_with_a_rest_leaves_nothing_behind_that_lasts(self, account: Account) -> None:
        account.staged(plan="free")
        assert account.settle(account.claim(), "failed", rest_s=1)
        assert_nothing_is_left(account)
        older = account.job(ago_s=20, plan="none")
        assert account.stage(older) == "staged"
        claim = account.claim(when_due=True)
        assert account.settle(claim)
        wait_until(lambda: not account.client.keys(KEYS.prefix + "mailbox:*"))
        assert_nothing_is_left(account)

    def test_keeps_a_newer_value_that_came_in_meanwhile(self, account: Account) -> None:
        older = account.staged(ago_s=20, plan="free", seats=1)
        claim = account.claim()
        newer = account.staged(plan="pro")
        assert account.settle(claim)
        assert account.status(older) == "delivered"
        assert account.pending() == {newer.job_id: "1"}
        assert account.deliver_all() == [{"plan": "pro"}]

    @pytest.mark.parametrize("ending", ["refused", "failed", "unmatched", "unconfirmed"])
    def test_of_another_ending_takes_the_values_out_as_well(
        self, account: Account, ending: Status
    ) -> None:
        job = account.staged(plan="pro")
        assert account.settle(account.claim(), ending)
        assert account.status(job) == ending
        assert not account.outcome(job).successful
        assert account.released() == []

    def test_of_two_jobs_ends_one_and_keeps_the_other(self, account: Account) -> None:
        first, second = account.staged(plan="pro"), account.staged(seats=3)
        claim = account.claim()
        assert account.settle(claim, jobs={second.job_id: "pending"})
        assert account.status(first) == "delivered"
        assert account.status(second) == "pending"
        assert account.deliver_all() == [{"seats": 3}]

    def test_without_a_valid_lease_changes_nothing(self, account: Account) -> None:
        account.staged(plan="pro")
        (lease,) = account.release()
        short = account.with_leases_of(0.05)
        lost = short.claim(lease.mailbox_id, lease.token)
        assert lost is not None
        (current,) = wait_until(account.release)
        before = account.state()
        assert not account.settle(lost)
        assert account.state() == before
        claim = account.boxes.claim(current.mailbox_id, current.token)
        assert claim is not None
        before = account.state()
        assert not account.settle(lost), "nor while the other is in flight"
        assert account.state() == before
        assert account.settle(claim)

    def test_without_a_claim_changes_nothing(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        account.settle(claim, "pending")
        (lease,) = account.release()
        unclaimed = Claim(
            mailbox_id=lease.mailbox_id,
            token=lease.token,
            now_us=0,
            email=ADA,
            failures=0,
            values=claim.values,
            jobs=claim.jobs,
            departure=claim.departure,
        )
        before = account.state()
        assert not account.settle(unclaimed)
        assert account.state() == before

    def test_of_what_may_have_been_taken_lets_nothing_older_follow(self, account: Account) -> None:
        job = account.staged(plan="pro", seats=3)
        taken = frozenset({"plan"})
        failed = JobResult(job_id=job.job_id, status="failed", fields={})
        assert account.carry_out(account.claim(), Settlement(jobs=(failed,), taken=taken))
        older = account.job(ago_s=20, plan="free", seats=1)
        assert account.stage(older) == "staged"
        assert account.deliver_all() == [{"seats": 1}]

    def test_keeps_a_digest_of_what_was_seen(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        claim = account.claim()
        digests = {v.attribute.key: v.version + v.digest for v in claim.values}
        (job,) = claim.jobs
        ended = JobResult(job_id=job.job_id, status="unconfirmed", fields={})
        settlement = Settlement(
            jobs=(ended,), taken=frozenset({"plan", "seats"}), seen=frozenset({"plan"})
        )
        assert account.carry_out(claim, settlement)
        kept = account.client.hgetall(KEYS.prefix + "delivered:" + mailbox_id_of(ADA))
        assert kept == {"plan": digests["plan"], "seats": job_version(claim, "seats") + "-"}

    def test_of_an_end_keeps_the_version_for_as_long_as_outcomes(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.deliver_all()
        for key in (KEYS.outcome(job.job_id), KEYS.prefix + "delivered:" + mailbox_id_of(ADA)):
            assert 0 < account.client.ttl(key) <= RETENTION_S


class TestOneByOne:
    """After a refusal of several jobs in one request (promise 7)."""

    def test_the_jobs_are_tried_in_the_order_of_their_versions(self, account: Account) -> None:
        jobs = [
            account.job(ADA, ago_s=ago_s, lane="live", **{f"k{ago_s}": ago_s})
            for ago_s in (10, 40, 20, 30)
        ]
        for job in jobs:
            account.stage(job)
        assert account.settle(account.claim(), "pending", alone=True)
        assert account.deliver_all() == [{"k40": 40}, {"k30": 30}, {"k20": 20}, {"k10": 10}]
        assert {account.status(job) for job in jobs} == {"delivered"}

    def test_only_the_bad_one_is_refused(self, account: Account) -> None:
        bad = account.staged(ago_s=20, plan="bad")
        good = account.staged(ago_s=10, seats=1)
        assert account.settle(account.claim(), "pending", alone=True)
        claim = account.claim()
        assert values(claim) == {"plan": "bad"}
        assert account.settle(claim, "refused")
        assert account.deliver_all() == [{"seats": 1}]
        assert (account.status(bad), account.status(good)) == ("refused", "delivered")

    def test_those_behind_wait_for_the_one_that_is_retried(self, account: Account) -> None:
        account.staged(ago_s=20, plan="bad")
        account.staged(ago_s=10, seats=1)
        assert account.settle(account.claim(), "pending", alone=True)
        assert account.settle(account.claim(), "pending", retry_s=60)
        assert account.released() == []

    def test_a_job_that_comes_later_takes_its_turn(self, account: Account) -> None:
        account.staged(ago_s=20, plan="bad")
        account.staged(ago_s=10, seats=1)
        assert account.settle(account.claim(), "pending", alone=True)
        account.staged(ago_s=30, city="Ulm")
        assert account.deliver_all() == [{"city": "Ulm"}, {"plan": "bad"}, {"seats": 1}]

    def test_a_waiting_job_that_is_superseded_under_another_ones_request_ends(
        self, account: Account
    ) -> None:
        """Its values are not in flight, so no answer will judge it."""
        first = account.staged(ago_s=20, plan="bad")
        waiting = account.staged(ago_s=10, seats=1)
        assert account.settle(account.claim(), "pending", alone=True)
        claim = account.claim()
        newer = account.staged(ago_s=5, seats=2)
        assert account.settle(claim, "refused")
        assert account.deliver_all() == [{"seats": 2}]
        assert [account.status(job) for job in (first, waiting, newer)] == [
            "refused",
            "superseded",
            "delivered",
        ]
        assert_nothing_is_left(account)

    def test_ends_with_the_last_of_them(self, account: Account) -> None:
        account.staged(ago_s=20, plan="bad")
        account.staged(ago_s=10, seats=1)
        assert account.settle(account.claim(), "pending", alone=True)
        account.deliver_all()
        account.staged(plan="x")
        account.staged(seats=2)
        assert account.deliver_all() == [{"plan": "x", "seats": 2}]


class TestReject:
    def test_records_what_is_no_job(self, account: Account) -> None:
        account.client.hset(KEYS.inbox, "garbage", "{")
        account.client.zadd(KEYS.inbox_lane("bulk"), {"garbage": 1})
        assert account.boxes.reject("garbage", "the document is not JSON")
        outcome = account.outcomes.get("garbage")
        assert outcome is not None
        assert outcome.status == "invalid"
        assert outcome.message == "the document is not JSON"
        assert account.outcomes.recent() == [outcome]
        assert not account.client.exists(KEYS.inbox, KEYS.inbox_lane("bulk"))
        assert 0 < account.client.ttl(KEYS.outcome("garbage")) <= RETENTION_S

    def test_lists_it_under_its_email_where_that_is_known(self, account: Account) -> None:
        job = account.job(plan="pro")
        assert account.boxes.reject(job.job_id, "bad", mailbox_id=job.mailbox_id, email=ADA)
        (outcome,) = account.outcomes.of_email(ADA)
        assert (outcome.job_id, outcome.email) == (job.job_id, ADA)

    def test_changes_no_outcome_that_is_there(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.produce(job)
        assert not account.boxes.reject(job.job_id, "bad")
        assert account.status(job) == "pending"
        assert job.job_id not in account.in_inbox()
        assert account.deliver_all() == [{"plan": "pro"}]
        assert not account.boxes.reject(job.job_id, "bad")
        assert account.status(job) == "delivered"

    def test_takes_ids_of_any_form(self, account: Account) -> None:
        for job_id in ("", " ", "ß😀", "a:b", "x" * 10_000, "{other}", "%s", "1", "\n"):
            account.client.hset(KEYS.inbox, job_id, "{")
            assert account.boxes.reject(job_id, "no job")
            outcome = account.outcomes.get(job_id)
            assert outcome is not None
            assert outcome.status == "invalid"
        assert account.client.hlen(KEYS.inbox) == 0


class TestTake:
    def test_gives_what_is_in_the_inbox(self, account: Account) -> None:
        job = account.job(plan="pro")
        assert account.boxes.take(limit=10, within_s=60) == [(job.job_id, dump_wire(job))]

    def test_gives_a_job_to_one_worker_and_again_if_it_stays(self, account: Account) -> None:
        job = account.job(plan="pro")
        assert account.taken(within_s=0.05) == [job.job_id]
        wait_until(lambda: account.taken(within_s=60) == [job.job_id])
        assert account.taken() == []

    def test_gives_live_jobs_first_and_the_oldest_of_each_lane(self, account: Account) -> None:
        lanes: tuple[Lane, Lane] = ("bulk", "live")
        jobs = {lane: [account.job(n=n, lane=lane) for n in range(3)] for lane in lanes}
        for lane in lanes:
            for age, job in enumerate(jobs[lane]):
                account.client.zadd(KEYS.inbox_lane(lane), {job.job_id: 100 - age})
        live, bulk = ([job.job_id for job in reversed(jobs[lane])] for lane in ("live", "bulk"))
        assert account.taken(limit=4) == [*live, bulk[0]]
        assert account.taken(limit=4) == bulk[1:]

    def test_finds_an_entry_that_has_no_time(self, account: Account) -> None:
        job = account.job(plan="pro")
        orphan = account.job(plan="max")
        account.client.zrem(KEYS.inbox_lane("live"), orphan.job_id)
        assert sorted(account.taken()) == [job.job_id, orphan.job_id]

    def test_forgets_a_time_that_has_no_entry(self, account: Account) -> None:
        """It would be looked at for ever, and hide an entry without a time."""
        account.client.zadd(KEYS.inbox_lane("live"), {"gone": 1})
        account.client.hset(KEYS.inbox, "orphan", "{")
        wait_until(lambda: account.taken() == ["orphan"])
        assert not account.client.exists(KEYS.inbox_lane("live"))

    def test_of_an_empty_inbox_gives_nothing(self, account: Account) -> None:
        assert account.taken() == []
        account.staged(plan="pro")
        assert account.taken() == []


class TestTwice:
    """redis-py repeats a command whose answer was lost: whatever ran, runs once more."""

    def test_every_step_of_a_jobs_way(self, account: Account) -> None:
        older = account.job(ago_s=20, plan="free", seats=1)
        newer = account.job(plan="pro")
        for job in (newer, older):
            assert account.stage(job) == "staged"
            after = account.state()
            assert account.stage(job) == "known"
            assert account.state() == after
        (lease,) = account.release()
        after = account.state()
        assert account.release() == []
        assert account.state() == after
        claim = account.boxes.claim(lease.mailbox_id, lease.token)
        assert claim is not None
        after = account.state()
        assert account.boxes.claim(lease.mailbox_id, lease.token) is None
        assert account.state() == after
        assert account.settle(claim)
        after = account.state()
        assert not account.settle(claim)
        assert account.state() == after
        assert account.counted() == {"delivered": "2"}

    def test_a_retry(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        assert account.settle(claim, "pending", retry_s=60, rest_s=60, failures=1, alone=True)
        after = account.state()
        assert not account.settle(claim, "pending", retry_s=60, rest_s=60, failures=1)
        assert account.state() == after

    def test_a_rejection(self, account: Account) -> None:
        job = account.job(plan="pro")
        assert account.boxes.reject(job.job_id, "bad", mailbox_id=job.mailbox_id, email=ADA)
        after = account.state()
        assert not account.boxes.reject(job.job_id, "bad", mailbox_id=job.mailbox_id, email=ADA)
        assert account.state() == after


def assert_nothing_is_left(account: Account) -> None:
    """All jobs are at their end: what is left ends by itself, or is capped."""
    for key in account.names():
        name = key.removeprefix(KEYS.prefix)
        assert name not in LASTING, f"{key} is not empty"
        if name not in CAPPED:
            assert account.client.pttl(key) > 0, f"{key} has no time to live"


def test_when_all_jobs_are_at_their_end_nothing_lasts(account: Account) -> None:
    emails = [ADA, BOB, EVE]
    endings: list[Status] = ["delivered", "pending", "refused"]
    for n in range(30):
        job = account.job(emails[n % 3], ago_s=100 - n, lane="bulk" if n % 2 else "live", n=n)
        account.stage(job)
        if n % 5 == 0:
            account.boxes.reject(account.job(ADA, n=n).job_id, "bad")
        if n % 7 == 0:
            for lease in account.release(2):
                claim = account.boxes.claim(lease.mailbox_id, lease.token)
                assert claim is not None
                account.staged(lease.email, ago_s=0, late=n)
                account.settle(claim, endings[n % 3], alone=n % 2 == 0)
    account.deliver_all()
    assert_nothing_is_left(account)


def test_an_emails_history_is_capped(account: Account) -> None:
    for n in range(120):
        account.boxes.reject(account.job(n=n).job_id, "bad", mailbox_id=mailbox_id_of(ADA))
    assert account.client.llen(KEYS.history(mailbox_id_of(ADA))) == 100


def test_two_accounts_share_nothing(client: redis.Redis) -> None:
    account = Account(client)
    other = Mailboxes(client, Keys("eu"), lease_s=60, retention_s=RETENTION_S, rate_limit=10_000)
    job = account.staged(plan="pro")
    assert other.stage([job]) == [("staged", "")]
    assert len(other.release(max_parallel=1)[0]) == 1
    assert len(account.release(1)) == 1
    tags = {re.match(r"courier:(\{[a-z]+\}):", str(key))[1] for key in account.names()}  # type: ignore[index]
    assert tags == {"{default}", "{eu}"}


def test_scores_keep_their_microseconds(account: Account) -> None:
    """Times have 16 digits: a Lua number that becomes text in the usual way keeps 14."""
    account.staged(plan="pro")
    (score,) = (
        score
        for _, score in account.client.zrange(KEYS.prefix + "due:live", 0, -1, withscores=True)
    )
    accepted = account.outcomes.of_email(ADA)[0].accepted_at
    assert accepted is not None
    assert score == round(accepted.timestamp() * 1_000_000)
    (raw,) = account.client.hmget(
        KEYS.outcome(account.outcomes.of_email(ADA)[0].job_id), "accepted"
    )
    assert re.fullmatch(r"\d{16}", raw)
    assert json.loads(raw) == score


def released_in_turn(account: Account, boxes: Mailboxes, count: int) -> str:
    """The first letters of the emails that are leased, one after another."""
    letters = ""
    for _ in range(count):
        in_flight = account.client.zcard(KEYS.prefix + "inflight")
        letters += "".join(each.email[0] for each in boxes.release(max_parallel=in_flight + 1)[0])
    return letters


class TestLanes:
    """Promise 9: live before bulk, which has a share all the same."""

    def test_bulk_gets_its_share_while_live_jobs_wait(self, account: Account) -> None:
        for n in range(30):
            account.staged(f"live-{n}@example.com", plan="pro")
            account.staged(f"bulk-{n}@example.com", plan="pro", lane="bulk")
        assert released_in_turn(account, account.boxes, 30) == ("l" * 9 + "b") * 3

    def test_bulk_saves_no_share_up_while_it_has_nothing_to_send(self, account: Account) -> None:
        for n in range(30):
            account.staged(f"live-{n}@example.com", plan="pro")
        assert released_in_turn(account, account.boxes, 20) == "l" * 20
        for n in range(3):
            account.staged(f"bulk-{n}@example.com", plan="pro", lane="bulk")
        assert released_in_turn(account, account.boxes, 10) == "l" * 9 + "b"

    def test_the_share_is_a_setting(self, account: Account) -> None:
        boxes = Mailboxes(
            account.client,
            KEYS,
            lease_s=60,
            retention_s=RETENTION_S,
            rate_limit=10_000,
            bulk_share=0.5,
        )
        for n in range(6):
            account.staged(f"live-{n}@example.com", plan="pro")
            account.staged(f"bulk-{n}@example.com", plan="pro", lane="bulk")
        assert released_in_turn(account, boxes, 6) == "lblblb"

    def test_bulk_gathers_while_more_comes_in(self, account: Account) -> None:
        account.staged(plan="free", lane="bulk", ago_s=20)
        more = account.job(plan="pro", lane="bulk")
        leases, again_s = account.boxes.release(max_parallel=20)
        assert leases == []
        assert again_s is not None
        assert 0 < again_s <= 5
        assert account.stage(more) == "staged"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_bulk_does_not_gather_for_ever(self, account: Account) -> None:
        job = account.staged(plan="free", lane="bulk")
        account.job(BOB, plan="pro", lane="bulk")
        account.client.zincrby(KEYS.prefix + "due:bulk", -5_000_000, job.mailbox_id)
        assert account.released() == [ADA]


class TestTypes:
    def test_the_type_first_used_for_a_key_is_remembered(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        account.staged(BOB, plan=1)
        assert account.client.hgetall(KEYS.types) == {"plan": "String", "seats": "Integer"}

    def test_another_type_is_a_warning(self, account: Account) -> None:
        account.staged(plan="pro")
        job = account.job(plan=1, seats=3)
        words = "plan: Integer, but String was used first"
        assert account.boxes.stage([job]) == [("staged", words)]
        assert account.outcome(job).warning == words
        assert account.deliver_all() == [{"plan": 1, "seats": 3}]

    def test_where_types_are_strict_nothing_is_staged(self, account: Account) -> None:
        strict = Mailboxes(
            account.client,
            KEYS,
            lease_s=60,
            retention_s=RETENTION_S,
            rate_limit=10_000,
            strict_types=True,
        )
        account.staged(plan="pro")
        job = account.job(BOB, plan=1, seats=3)
        before = account.state()
        words = "plan: Integer, but String was used first"
        assert strict.stage([job]) == [("mistyped", words)]
        assert account.state() == before


class TestOnlyChanged:
    """What was confirmed as delivered is not sent again, if that is asked for."""

    def job(self, account: Account, *, ago_s: float = 5, **attributes: Any) -> AttributeJob:
        job = replace(account.job(ago_s=ago_s, **attributes), only_changed=True)
        account.produce(job)
        return job

    def test_a_job_that_changes_nothing_ends_unchanged(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        account.deliver_all()
        job = self.job(account, plan="pro", seats=3)
        assert account.stage(job) == "unchanged"
        assert account.status(job) == "unchanged"
        assert account.outcomes.of_email(ADA)[0].job_id == job.job_id
        assert account.released() == []

    def test_the_rest_is_sent(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        account.deliver_all()
        job = self.job(account, plan="pro", seats=4)
        assert account.stage(job) == "staged"
        assert account.deliver_all() == [{"seats": 4}]
        assert account.status(job) == "delivered"

    def test_the_same_value_of_another_type_is_a_change(self, account: Account) -> None:
        account.staged(seats=1)
        account.deliver_all()
        assert account.stage(self.job(account, seats=True)) == "staged"

    def test_what_was_only_sent_is_sent_again(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        taken = frozenset({"plan"})
        results = (JobResult(job_id=claim.jobs[0].job_id, status="unconfirmed", fields={}),)
        assert account.carry_out(claim, Settlement(jobs=results, taken=taken))
        assert account.stage(self.job(account, plan="pro")) == "staged"

    def test_what_waits_to_be_replaced_is_sent(self, account: Account) -> None:
        account.staged(ago_s=20, plan="pro")
        account.deliver_all()
        other = account.staged(ago_s=10, plan="free")
        assert account.stage(self.job(account, plan="pro")) == "staged"
        assert account.status(other) == "superseded"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_it_is_the_newest_all_the_same(self, account: Account) -> None:
        account.staged(ago_s=20, plan="pro")
        account.deliver_all()
        assert account.stage(self.job(account, ago_s=5, plan="pro")) == "unchanged"
        late = account.job(ago_s=10, plan="free")
        assert account.stage(late) == "superseded"

    def test_without_being_asked_for_it_is_sent_again(self, account: Account) -> None:
        account.staged(plan="pro")
        account.deliver_all()
        account.staged(ago_s=5, plan="pro")
        assert account.deliver_all() == [{"plan": "pro"}]
