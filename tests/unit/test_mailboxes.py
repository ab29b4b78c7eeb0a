"""Every transition of a mailbox, on the fake Redis and on the real one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import redis

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.outcome import Status
from attribute_courier.state.attribute_form import digest_of
from attribute_courier.state.claims import (
    AccountNews,
    Claim,
    JobResult,
    PendingJob,
    Settlement,
    Wait,
)
from attribute_courier.state.inbox import Inbox
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Mailboxes

from ..account_state import (
    ADA,
    BOB,
    EVE,
    KEEP_S,
    KEYS,
    LIMITS,
    RETENTION_S,
    Account,
    idle,
    is_fake,
    values,
)
from ..redis_clock import RedisClock


class TestStage:
    def test_takes_a_job_out_of_the_inbox_into_its_mailbox(self, account: Account) -> None:
        job = account.job(plan="pro", seats=3)
        assert account.in_inbox() == {job.job_id}
        assert account.stage(job) == "staged"
        assert account.in_inbox() == set()
        assert account.size("inbox:live") == account.size("inbox:taken") == 0
        assert account.pending() == {job.job_id: "2"}
        assert account.claimed() == [ADA]

    def test_notes_what_was_asked(self, account: Account) -> None:
        job = account.staged(plan="pro", seats=3, lane="bulk", ago_s=10)
        outcome = account.outcome(job)
        assert (outcome.status, outcome.email, outcome.lane) == ("pending", ADA, "bulk")
        assert outcome.keys == ("plan", "seats")
        assert outcome.occurred_at == job.occurred_at
        assert outcome.accepted_at == account.clock.now
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
        first, second = account.job(ago_s=1, plan="free"), account.job(ago_s=1, plan="pro")
        second = replace(second, occurred_at=first.occurred_at)
        assert account.stage(second) == "staged"
        assert account.stage(first) == "superseded"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_without_a_time_the_job_that_arrived_last_is_the_newest(self, account: Account) -> None:
        first, second = account.job(plan="free"), account.job(plan="pro")
        assert account.stage(second) == "staged"
        assert account.stage(first) == "superseded"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_settles_a_job_whose_values_are_all_older(self, account: Account) -> None:
        newer = account.staged(plan="pro", seats=3)
        older = account.job(ago_s=20, plan="free")
        assert account.stage(older) == "superseded"
        assert account.status(older) == "superseded"
        assert account.pending() == {newer.job_id: "2"}
        assert older.job_id not in account.in_inbox()

    def test_settles_an_older_job_that_loses_its_last_value_and_names_it(
        self, account: Account
    ) -> None:
        older = account.staged(plan="free", seats=1)
        account.staged(plan="pro")
        assert account.status(older) == "pending"
        staged = account.stage_all(account.job(seats=2))
        assert staged.superseded == (older.job_id,)
        assert account.status(older) == "superseded"
        assert older.job_id not in account.pending()

    def test_supersedes_to_the_last_moment_before_a_claim(self, account: Account) -> None:
        slow = account.mailboxes(rate_limit=2)
        account.staged(BOB, n=1)
        account.claim(slow)
        older = account.staged(plan="free")
        waiting = slow.claim("s")
        assert isinstance(waiting, Wait)
        account.staged(plan="pro")
        assert account.status(older) == "superseded"
        account.clock.time_passes(waiting.wait_s)
        claim = slow.claim("s", reserved=waiting.reserved)
        assert isinstance(claim, Claim)
        assert values(claim) == {"plan": "pro"}

    def test_leaves_an_older_job_whose_values_are_in_flight_to_their_answer(
        self, account: Account
    ) -> None:
        older = account.staged(plan="free")
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
        oldest = account.job(ago_s=30, plan="none", seats=0)
        assert account.stage(oldest) == "superseded"
        assert account.deliver_all() == []

    def test_knows_a_job_that_comes_again(self, account: Account) -> None:
        job = account.staged(plan="pro")
        taken = account.taken[job.job_id]
        before = account.state()
        assert account.boxes.stage([(taken, job)])[0].result == "known"
        assert account.state() == before
        account.deliver_all()
        assert account.boxes.stage([(taken, job)])[0].result == "known"
        assert account.status(job) == "delivered"
        assert account.deliver_all() == []

    @pytest.mark.parametrize(
        ("ahead_s", "staged"), [(4 * 60, "staged"), (6 * 60, "future"), (10**9, "future")]
    )
    def test_takes_no_job_from_more_than_five_minutes_ahead(
        self, account: Account, ahead_s: int, staged: str
    ) -> None:
        job = account.job(ago_s=-ahead_s, plan="pro")
        account.take()
        before = account.state()
        assert account.stage(job) == staged
        assert (account.state() == before) is (staged == "future")

    def test_of_two_emails_fills_two_mailboxes(self, account: Account) -> None:
        account.staged(ADA, plan="pro")
        account.staged(BOB, plan="free")
        assert account.claimed() == [ADA, BOB]

    def test_of_two_spellings_fills_one_and_sends_the_newest(self, account: Account) -> None:
        account.staged("ada@EXAMPLE.com", plan="pro")
        account.staged("ada@example.com", seats=1)
        claim = account.claim()
        assert claim.email == "ada@example.com"
        assert values(claim) == {"plan": "pro", "seats": 1}

    def test_in_the_live_lane_takes_the_whole_mailbox_along(self, account: Account) -> None:
        account.staged(BOB, lane="bulk", plan="pro")
        account.staged(ADA, lane="bulk", plan="pro")
        account.staged(ADA, lane="live", seats=1)
        account.staged(ADA, lane="bulk", city="Ulm")
        claim = account.claim()
        assert (claim.email, len(claim.values)) == (ADA, 3)
        assert account.size("due:live") == 0
        assert account.client.zrange(KEYS.of("due:bulk"), 0, -1) == [mailbox_id_of(BOB)]

    def test_keeps_the_place_in_the_lane(self, account: Account) -> None:
        account.staged(ADA, plan="free")
        account.clock.time_passes(1)
        account.staged(BOB, plan="free")
        account.clock.time_passes(1)
        account.staged(ADA, plan="pro")
        assert account.claimed() == [ADA, BOB]


STRANGE = {
    "emoji": "😀👩‍👩‍👧",
    "quotes": "\"'\\/ x",
    "long": "ß" * 255,
    "digits": "0" * 254 + "1",
    "braces": '{"a": [1, null]}',
    "big": 123456789012345678901234567890,
    "negative": -(2**63),
    "past_2_53": 2**53 + 1,
    "decimal": Decimal("0.1234567890123456789012345678901234567890"),
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
        newer = account.job(ago_s=9, plan="pro")
        older = account.job(ago_s=9.000002, plan="free")
        assert account.stage(newer) == "staged"
        assert account.stage(older) == "superseded"
        (value,) = account.claim().values
        assert value.occurred_at == newer.occurred_at
        assert value.job_id == newer.job_id

    def test_have_a_digest_that_tells_types_and_values_apart(self, account: Account) -> None:
        account.staged(a="8", b=8, c=Decimal(8), d="8", e=True)
        digests = {v.attribute.key: digest_of(v.attribute) for v in account.claim().values}
        assert digests["a"] == digests["d"]
        assert len(set(digests.values())) == 4

    def test_under_the_longest_and_shortest_keys(self, account: Account) -> None:
        account.staged(**{"k" * 255: 1, "k": 2, "0": 3, "_": 4})
        assert values(account.claim()) == {"k" * 255: 1, "k": 2, "0": 3, "_": 4}


class TestClaim:
    def test_gives_each_email_once(self, account: Account) -> None:
        account.staged(plan="pro")
        assert account.claim().mailbox_id == mailbox_id_of(ADA)
        assert idle(account.next()) == "nothing due"

    def test_never_has_more_in_flight_than_the_limit(self, account: Account) -> None:
        two = account.mailboxes(max_parallel=2)
        for n in range(4):
            account.staged(f"{n}@example.com", lane="live" if n % 2 else "bulk", n=n)
        first = account.claim(two)
        account.claim(two)
        before = account.state()
        assert idle(account.next(two)) == "no room"
        assert account.state() == before
        assert account.settle(first)
        account.claim(two)
        assert idle(account.next(two)) == "no room"
        assert account.size("leases") == 2

    def test_gives_tokens_that_are_never_the_same(self, account: Account) -> None:
        tokens = set()
        for _ in range(15):
            account.staged(plan="pro")
            claim = account.claim()
            tokens.add(claim.token)
            assert account.settle(claim)
        assert len(tokens) == 15

    def test_remembers_what_earlier_attempts_came_to(self, account: Account) -> None:
        job = account.staged(plan="pro")
        noted: dict[str, str | int] = {
            "attempts": 3,
            "unmatched": 1,
            "unmatched_until": 1_772_357_400_123_456,
            "unconfirmed": 2,
            "unconfirmed_until": 1_772_357_400_123_457,
            "failing_since": 1_772_357_400_123_458,
            "sent": 1_772_357_400_123_459,
        }
        result = JobResult(job_id=job.job_id, status="pending", fields=noted, failed_alone=True)
        account.carry_out(account.claim(), Settlement(jobs=(result,), failures=7, batch=3))
        claim = account.claim()
        assert (claim.failures, claim.batch) == (7, 3)
        (found,) = claim.jobs
        assert replace(found, fields={}) == PendingJob(
            job_id=job.job_id,
            attempts=3,
            unmatched=1,
            unmatched_until_us=1_772_357_400_123_456,
            unconfirmed=2,
            unconfirmed_until_us=1_772_357_400_123_457,
            failing_since_us=1_772_357_400_123_458,
            sent_us=1_772_357_400_123_459,
            failed_alone=True,
        )

    def test_asks_for_another_stint_while_more_is_due_and_nobody_waits(
        self, account: Account
    ) -> None:
        account.staged(ADA, n=1)
        account.staged(BOB, n=1)
        assert account.claim().ask
        assert not account.claim().ask

    def test_tells_whether_jobs_wait_to_be_accepted(self, account: Account) -> None:
        account.staged(ADA, n=1)
        assert not account.claim().inbox
        account.staged(BOB, n=1)
        account.job(EVE, n=1)
        account.clock.time_passes(0.1)
        assert account.claim().inbox


class TestLeases:
    def test_end_with_their_time_when_a_worker_died(self, account: Account) -> None:
        job = account.staged(plan="pro")
        lost = account.claim()
        account.clock.time_passes(LIMITS.lease_s - 1)
        assert account.claimed() == []
        account.clock.time_passes(1)
        claim = account.claim()
        assert claim.token != lost.token
        assert values(claim) == {"plan": "pro"}
        before = account.state("pace", "clock")
        assert not account.settle(lost), "its answer came too late"
        assert account.state("pace", "clock") == before
        assert account.status(job) == "pending"
        assert account.settle(claim)
        assert account.status(job) == "delivered"

    def test_that_ended_settle_nothing_also_while_the_email_is_due(self, account: Account) -> None:
        account.staged(plan="pro")
        lost = account.claim()
        account.clock.time_passes(LIMITS.lease_s + 1)
        assert account.size("leases") == 1
        account.claimed()
        account.clock.time_passes(LIMITS.lease_s + 1)
        before = account.state("pace", "clock")
        assert not account.settle(lost)
        assert not account.boxes.give_back(lost)
        assert account.state("pace", "clock") == before

    def test_are_asked_for_by_their_token(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        for other in (replace(claim, token="made up"), replace(claim, mailbox_id="nobody")):
            before = account.state("pace")
            assert not account.settle(other)
            assert not account.boxes.give_back(other)
            assert account.state("pace") == before
        assert account.settle(claim)

    def test_of_a_request_that_was_never_judged_settle_what_was_superseded_under_it(
        self, account: Account
    ) -> None:
        older = account.staged(plan="free")
        account.claim()
        newer = account.staged(plan="pro")
        assert account.status(older) == "pending"
        account.clock.time_passes(LIMITS.lease_s)
        claim = account.claim()
        assert claim.superseded == (older.job_id,)
        assert [job.job_id for job in claim.jobs] == [newer.job_id]
        assert account.status(older) == "superseded"

    def test_of_a_request_that_was_never_judged_let_nothing_older_follow(
        self, account: Account
    ) -> None:
        """ChartMogul may have taken it; the second try is refused."""
        account.staged(plan="pro")
        account.claim()
        account.clock.time_passes(LIMITS.lease_s)
        assert account.settle(account.claim(), "refused")
        assert account.stage(account.job(ago_s=500, plan="free")) == "superseded"


class TestGiveBack:
    def test_makes_the_email_due_as_before(self, account: Account) -> None:
        account.staged(plan="pro")
        before = account.state()
        claim = account.claim()
        assert account.boxes.give_back(claim)
        after = account.state("pace", "clock", "ledger")
        assert after == {key: content for key, content in before.items() if key in after}
        assert not account.client.zscore(KEYS.of("ledger"), claim.token), "so is its time"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_lets_an_older_job_follow_since_nothing_was_sent(self, account: Account) -> None:
        account.staged(plan="pro")
        assert account.boxes.give_back(account.claim())
        assert account.settle(account.claim(), "refused")
        assert account.stage(account.job(ago_s=20, plan="free")) == "staged"


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
        settled = account.carry_out(claim, Settlement(jobs=(result,), seen=frozenset({"plan"})))
        outcome = account.outcome(job)
        assert settled.outcomes == (outcome,)
        assert outcome.status == "delivered"
        assert (outcome.attempts, outcome.http_status, outcome.message) == (1, 200, None)
        assert [customer.uuid for customer in outcome.customers] == ["cus_ß"]
        assert outcome.next_attempt_at is None
        assert outcome.sent_at == outcome.settled_at == account.clock.now
        assert account.outcomes.recent() == [outcome]
        assert account.counted() == {"delivered": 1}
        assert account.box() == {}
        account.assert_nothing_is_left()

    def test_of_a_retry_makes_the_email_due_again_then(self, account: Account) -> None:
        job = account.staged(plan="pro")
        assert account.settle(account.claim(), "pending", retry_s=60)
        outcome = account.outcome(job)
        assert (outcome.status, outcome.attempts) == ("pending", 1)
        assert outcome.next_attempt_at == account.clock.now + timedelta(seconds=60)
        assert account.size("leases") == 0
        account.clock.time_passes(59)
        assert account.claimed() == []
        account.clock.time_passes(1)
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_of_a_retry_passes_while_nothing_runs(self, account: Account) -> None:
        account.staged(plan="pro")
        assert account.settle(account.claim(), "pending", retry_s=60)
        account.clock.step(60)
        assert account.claimed() == [ADA]

    def test_of_a_retry_is_overtaken_by_a_newer_job(self, account: Account) -> None:
        older = account.staged(plan="free")
        account.settle(account.claim(), "pending", retry_s=60)
        newer = account.staged(plan="pro")
        assert account.deliver_all() == [{"plan": "pro"}]
        assert account.status(older) == "superseded"
        assert account.outcome(older).next_attempt_at is None
        assert account.status(newer) == "delivered"

    def test_makes_due_at_once_what_came_in_meanwhile(self, account: Account) -> None:
        first = account.staged(plan="free")
        claim = account.claim()
        account.staged(city="Ulm")
        assert account.settle(claim, "pending", retry_s=60)
        assert account.deliver_all() == [{"plan": "free", "city": "Ulm"}]
        assert account.status(first) == "delivered"

    def test_with_a_rest_holds_back_newer_jobs_too(self, account: Account) -> None:
        account.staged(plan="free")
        claim = account.claim()
        account.staged(city="Ulm")
        assert account.settle(claim, "pending", retry_s=10, rest_s=10)
        account.staged(plan="pro")
        account.clock.time_passes(9)
        assert account.claimed() == []
        account.clock.time_passes(1)
        assert account.deliver_all() == [{"plan": "pro", "city": "Ulm"}]

    def test_with_a_rest_holds_back_newer_jobs_also_after_the_last_one_was_settled(
        self, account: Account
    ) -> None:
        """A job can be given up while its last request may still act."""
        older = account.staged(plan="free")
        assert account.settle(account.claim(), "failed", rest_s=10)
        assert account.status(older) == "failed"
        account.assert_nothing_is_left()
        newer = account.staged(plan="pro")
        account.clock.time_passes(9)
        assert account.claimed() == []
        box = KEYS.of("mailbox", mailbox_id_of(ADA))
        assert account.client.ttl(box) == -1, "its mailbox does not end with the rest"
        account.clock.time_passes(1)
        assert account.deliver_all() == [{"plan": "pro"}]
        assert account.status(newer) == "delivered"
        account.assert_nothing_is_left()

    def test_with_a_rest_outlasts_a_step_of_the_clock(self, account: Account) -> None:
        account.staged(plan="free")
        assert account.settle(account.claim(), "pending", rest_s=10)
        account.clock.step(3600)
        account.staged(plan="pro")
        assert account.claimed() == []

    def test_keeps_a_newer_value_that_came_in_meanwhile(self, account: Account) -> None:
        older = account.staged(plan="free", seats=1)
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
        assert account.claimed() == []
        assert account.box() == {}

    def test_of_two_jobs_settles_one_and_keeps_the_other(self, account: Account) -> None:
        first, second = account.staged(plan="pro"), account.staged(seats=3)
        claim = account.claim()
        assert account.settle(claim, jobs={second.job_id: "pending"})
        assert account.status(first) == "delivered"
        assert account.status(second) == "pending"
        assert account.deliver_all() == [{"seats": 3}]

    def test_of_what_may_have_been_taken_lets_nothing_older_follow(self, account: Account) -> None:
        job = account.staged(plan="pro", seats=3)
        failed = JobResult(job_id=job.job_id, status="failed", fields={})
        account.carry_out(account.claim(), Settlement(jobs=(failed,), taken=frozenset({"plan"})))
        older = account.job(ago_s=20, plan="free", seats=1)
        assert account.stage(older) == "staged"
        assert account.deliver_all() == [{"seats": 1}]

    def test_keeps_a_digest_of_what_was_seen(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        claim = account.claim()
        found = {v.attribute.key: v for v in claim.values}
        ended = JobResult(job_id=claim.jobs[0].job_id, status="unconfirmed", fields={})
        both = frozenset({"plan", "seats"})
        account.carry_out(claim, Settlement(jobs=(ended,), taken=both, seen=frozenset({"plan"})))
        kept = account.client.hmget(KEYS.of("email", mailbox_id_of(ADA)), "plan", "seats")
        digest = digest_of(found["plan"].attribute)
        assert kept == [found["plan"].version + digest, found["seats"].version + "-"]

    def test_keeps_what_ended_well_for_a_time_of_its_own(self, account: Account) -> None:
        good, bad = account.staged(ADA, n=1), account.staged(BOB, n=1)
        assert account.settle(account.claim())
        assert account.settle(account.claim(), "failed")
        lives = [account.client.ttl(KEYS.of("outcome", each.job_id)) for each in (good, bad)]
        assert KEEP_S - 100 < lives[0] <= KEEP_S < RETENTION_S - 100 < lives[1] <= RETENTION_S
        for email in (ADA, BOB):
            life_s = account.client.ttl(KEYS.of("email", mailbox_id_of(email)))
            assert KEEP_S < life_s <= RETENTION_S, "the delivered version lasts"

    def test_answers_the_next_delivery_of_the_stint(self, account: Account) -> None:
        job = account.staged(ADA, n=1)
        account.staged(BOB, n=2)
        claim = account.claim()
        result = JobResult(job_id=job.job_id, status="delivered", fields={})
        account.clock.time_passes(0.01)
        settled = account.boxes.settle(
            claim, Settlement(jobs=(result,)), AccountNews(kind="taken"), stint="s"
        )
        assert isinstance(settled.next, Claim)
        assert settled.next.email == BOB


class TestLargeMailboxes:
    def test_are_emptied_in_requests_of_so_many_attributes(self, account: Account) -> None:
        jobs = [account.staged(**{f"k{n}a": n, f"k{n}b": n, f"k{n}c": n}) for n in range(5)]
        account.boxes = account.mailboxes(max_attributes=7)
        assert [len(sent) for sent in account.deliver_all()] == [6, 6, 3]
        assert {account.status(job) for job in jobs} == {"delivered"}
        account.assert_nothing_is_left()

    def test_are_emptied_in_requests_of_so_many_bytes(self, account: Account) -> None:
        jobs = [account.staged(**{f"key{n}": "ß" * 200}) for n in range(6)]
        account.boxes = account.mailboxes(max_bytes=1000)
        assert [len(sent) for sent in account.deliver_all()] == [2, 2, 2]
        assert {account.status(job) for job in jobs} == {"delivered"}

    def test_of_one_job_larger_than_a_request_are_delivered_in_part(self, account: Account) -> None:
        job = account.staged(**{f"k{n:02}": n for n in range(25)})
        account.boxes = account.mailboxes(max_attributes=10)
        sent: dict[str, object] = {}
        for count in (10, 10, 5):
            assert account.status(job) == "pending"
            claim = account.claim()
            assert len(claim.values) == count
            assert account.settle(claim)
            sent |= values(claim)
        assert sent == {f"k{n:02}": n for n in range(25)}
        assert account.status(job) == "delivered"
        account.assert_nothing_is_left()

    @pytest.mark.long
    def test_of_thousands_of_jobs_are_all_settled(self, account: Account) -> None:
        if is_fake(account.client):
            pytest.skip("the fake server takes long")
        jobs = [
            account.job(ADA, lane="live", only_changed=False, ago_s=None, **{f"k{n}": n})
            for n in range(1000)
        ]
        account.take()
        account.boxes.stage([(account.taken[job.job_id], job) for job in jobs])
        assert [len(sent) for sent in account.deliver_all()] == [250] * 4
        assert account.counted() == {"delivered": 1000}
        account.assert_nothing_is_left()


class TestCulprits:
    """A merged request that fails as a whole is halved until the culprit is alone (promise 7)."""

    def test_a_batch_carries_the_oldest_jobs(self, account: Account) -> None:
        for n in range(4):
            account.staged(**{f"k{n}": n})
        account.settle(account.claim(), "pending", batch=2)
        claim = account.claim()
        assert values(claim) == {"k0": 0, "k1": 1}
        account.settle(claim, batch=2)
        assert values(account.claim()) == {"k2": 2, "k3": 3}

    def test_only_the_bad_one_is_refused(self, account: Account) -> None:
        bad, good = account.staged(plan="bad"), account.staged(seats=1)
        account.settle(account.claim(), "pending", batch=1)
        claim = account.claim()
        assert values(claim) == {"plan": "bad"}
        assert account.settle(claim, "refused")
        assert account.deliver_all() == [{"seats": 1}]
        assert (account.status(bad), account.status(good)) == ("refused", "delivered")

    def test_who_failed_alone_goes_last_and_alone(self, account: Account) -> None:
        account.staged(plan="bad")
        account.staged(seats=1)
        account.settle(account.claim(), "pending", batch=1)
        assert account.settle(account.claim(), "pending", batch=1, failed_alone=True)
        account.staged(city="Ulm")
        account.settle(account.claim(), batch=0)
        assert account.deliver_all() == [{"city": "Ulm"}, {"plan": "bad"}]

    def test_jobs_are_merged_again_after_the_culprit_has_gone(self, account: Account) -> None:
        """CM17: an email with steady traffic does not stay one by one."""
        account.staged(plan="bad")
        account.staged(seats=1)
        account.settle(account.claim(), "pending", batch=1)
        claim = account.claim()
        account.staged(city="Ulm")
        account.staged(age=8)
        assert account.settle(claim, "refused")
        assert account.deliver_all() == [{"seats": 1, "city": "Ulm", "age": 8}]

    def test_a_waiting_job_that_is_superseded_under_another_ones_request_is_settled(
        self, account: Account
    ) -> None:
        """Its values are not in flight, so no answer will judge it."""
        first, waiting = account.staged(plan="bad"), account.staged(seats=1)
        account.settle(account.claim(), "pending", batch=1)
        claim = account.claim()
        newer = account.staged(seats=2)
        assert account.settle(claim, "refused")
        assert account.deliver_all() == [{"seats": 2}]
        found = [account.status(job) for job in (first, waiting, newer)]
        assert found == ["refused", "superseded", "delivered"]
        account.assert_nothing_is_left()


class TestWaitingForACustomer:
    def test_new_jobs_join_and_wait_as_well(self, account: Account) -> None:
        """CM16: one request a step of the schedule, however many updates."""
        account.staged(plan="pro")
        account.settle(account.claim(), "pending", retry_s=300, waits=True)
        for n in range(5):
            account.staged(seats=n)
            assert account.claimed() == []
        account.clock.time_passes(299)
        assert account.claimed() == []
        account.clock.time_passes(1)
        assert account.deliver_all() == [{"plan": "pro", "seats": 4}]

    def test_so_does_a_job_that_came_while_the_request_was_in_flight(
        self, account: Account
    ) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        account.staged(seats=1)
        account.settle(claim, "pending", retry_s=300, waits=True)
        assert account.claimed() == []

    def test_is_over_when_the_answer_says_so(self, account: Account) -> None:
        account.staged(plan="pro")
        account.settle(account.claim(), "pending", retry_s=5, waits=True)
        account.clock.time_passes(5)
        account.settle(account.claim(), "pending", retry_s=300)
        account.staged(seats=1)
        assert account.deliver_all() == [{"plan": "pro", "seats": 1}]


def claimed_in_turn(account: Account, count: int) -> str:
    """The first letters of the emails that are claimed, one after another."""
    boxes = account.mailboxes(max_parallel=1000)
    return "".join(account.claim(boxes).email[0] for _ in range(count))


class TestLanes:
    """Promise 9: live before bulk, which has a share all the same."""

    def test_live_before_bulk_and_each_in_its_order(self, account: Account) -> None:
        for n in range(1, 5):
            account.staged(f"{n}@example.com", lane="bulk" if n < 3 else "live", n=n)
            account.clock.time_passes(0.1)
        assert claimed_in_turn(account, 4) == "3412"

    def test_bulk_gets_its_share_while_live_jobs_wait(self, account: Account) -> None:
        for n in range(40):
            account.staged(f"live-{n}@example.com", plan="pro")
            account.staged(f"bulk-{n}@example.com", plan="pro", lane="bulk")
        found = claimed_in_turn(account, 30)
        assert found.count("b") == 3
        assert found == (found[:10]) * 3

    def test_bulk_saves_no_share_up_while_it_has_nothing_to_send(self, account: Account) -> None:
        for n in range(40):
            account.staged(f"live-{n}@example.com", plan="pro")
        assert claimed_in_turn(account, 20) == "l" * 20
        for n in range(5):
            account.staged(f"bulk-{n}@example.com", plan="pro", lane="bulk")
        assert claimed_in_turn(account, 10).count("b") <= 1

    def test_emails_that_failed_come_last_with_a_share(self, account: Account) -> None:
        for n in range(3):
            account.staged(f"failing-{n}@example.com", n=n)
        for claim in [account.claim() for _ in range(3)]:
            account.fails(claim)
        for n in range(12):
            account.staged(f"live-{n}@example.com", n=n)
        found = claimed_in_turn(account, 12)
        assert found.startswith("l")
        assert 1 <= found.count("f") <= 2, "one in ten"

    def test_emails_that_failed_never_take_more_than_half_of_the_places(
        self, account: Account
    ) -> None:
        for n in range(6):
            account.staged(f"failing-{n}@example.com", n=n)
        claims = [account.claim() for _ in range(6)]
        for claim in claims:
            account.fails(claim)
            account.client.delete(KEYS.of("circuit"))
        four = account.mailboxes(max_parallel=4)
        first = account.claim(four)
        account.claim(four)
        assert idle(account.next(four)) == "nothing due"
        account.staged(plan="pro")
        assert account.claim(four).email == ADA, "there is room for others"
        account.settle(first)
        account.claim(four)

    def test_bulk_gathers_while_more_comes_in(self, account: Account) -> None:
        account.staged(plan="free", lane="bulk", ago_s=20)
        more = account.job(plan="pro", lane="bulk")
        assert account.claimed() == []
        assert account.stage(more) == "staged"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_bulk_does_not_gather_for_ever(self, account: Account) -> None:
        account.staged(plan="free", lane="bulk")
        account.job(BOB, plan="pro", lane="bulk")
        account.clock.time_passes(4.9)
        assert account.claimed() == []
        account.clock.time_passes(0.1)
        assert account.claimed() == [ADA]


class TestDamage:
    def test_a_value_without_its_job_costs_that_value(self, account: Account) -> None:
        """RC13."""
        account.staged(plan="free", seats=1)
        account.client.hdel(KEYS.of("mailbox", mailbox_id_of(ADA)), "#1")
        job = account.staged(plan="pro")
        claim = account.claim()
        assert claim.damaged == 1
        assert values(claim) == {"plan": "pro"}
        assert account.settle(claim)
        assert account.status(job) == "delivered"
        assert account.box() == {}

    def test_a_lease_without_its_token_ends_with_its_time(self, account: Account) -> None:
        """RC14."""
        account.staged(plan="pro")
        account.claim()
        account.client.hdel(KEYS.of("mailbox", mailbox_id_of(ADA)), "@lease")
        account.clock.time_passes(LIMITS.lease_s)
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_a_lost_record_of_a_job_costs_that_job(self, account: Account) -> None:
        """RC16."""
        lost = account.staged(plan="free")
        good = account.staged(seats=1)
        account.client.delete(KEYS.of("job", lost.job_id))
        claim = account.claim()
        assert claim.damaged == 1
        assert values(claim) == {"seats": 1}
        assert account.settle(claim)
        assert account.status(good) == "delivered"
        later = account.staged(plan="pro")
        account.deliver_all()
        assert account.status(later) == "delivered"

    def test_a_record_that_is_lost_in_flight_costs_that_job(self, account: Account) -> None:
        """RC16: what an answer notes makes no half a record."""
        lost = account.staged(plan="free")
        claim = account.claim()
        account.client.delete(KEYS.of("job", lost.job_id))
        assert account.settle(claim, "pending", retry_s=0)
        later = account.staged(seats=1)
        found = account.claim()
        assert found.damaged == 1
        assert account.settle(found)
        assert account.status(later) == "delivered"
        account.assert_nothing_is_left()

    def test_a_lost_mailbox_stops_no_other(self, account: Account) -> None:
        account.staged(ADA, n=1)
        account.staged(BOB, n=2)
        account.client.delete(KEYS.of("mailbox", mailbox_id_of(ADA)))
        assert account.deliver_all() == [{"n": 2}]
        account.staged(ADA, n=3)
        assert account.deliver_all() == [{"n": 3}]


class TestTwice:
    """redis-py repeats a command whose answer was lost: whatever ran, runs once more."""

    def test_every_step_of_a_jobs_way(self, account: Account) -> None:
        older, newer = account.job(plan="free", seats=1), account.job(plan="pro")
        for job in (newer, older):
            assert account.stage(job) == "staged"
            after = account.state()
            again = account.boxes.stage([(account.taken[job.job_id], job)])
            assert again[0].result == "known"
            assert account.state() == after
        claim = account.claim()
        assert idle(account.boxes.claim("same")) == "nothing due"
        assert account.settle(claim)
        after = account.state("pace")
        assert not account.settle(claim)
        assert account.state("pace") == after
        assert account.counted() == {"delivered": 2}

    def test_a_retry(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        assert account.settle(claim, "pending", retry_s=60, rest_s=60, failures=1, batch=1)
        after = account.state("pace")
        assert not account.settle(claim, "pending", retry_s=60, rest_s=60, failures=1)
        assert account.state("pace") == after

    def test_a_return(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        assert account.boxes.give_back(claim)
        after = account.state()
        assert not account.boxes.give_back(claim)
        assert account.state() == after


class TestTypes:
    def test_the_type_first_used_for_a_key_is_remembered(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        account.staged(BOB, plan=1)
        assert account.health.types(["plan", "seats", "age"]) == {
            "plan": "String",
            "seats": "Integer",
        }

    def test_another_type_is_a_warning(self, account: Account) -> None:
        account.staged(plan="pro")
        job = account.job(plan=1, seats=3)
        words = "plan: Integer, but String was used first"
        assert account.stage_all(job).mistyped == words
        assert account.outcome(job).warning == words
        assert account.deliver_all() == [{"plan": 1, "seats": 3}]

    def test_where_types_are_strict_nothing_is_staged(self, account: Account) -> None:
        account.staged(plan="pro")
        job = account.job(BOB, plan=1, seats=3)
        account.take()
        before = account.state()
        found = account.stage_all(job, account.mailboxes(strict_types=True))
        assert (found.result, found.mistyped) == (
            "mistyped",
            "plan: Integer, but String was used first",
        )
        assert account.state() == before


class TestOnlyChanged:
    """What was confirmed as delivered is not sent again, if that is asked for."""

    def test_a_job_that_changes_nothing_is_settled_as_unchanged(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        account.deliver_all()
        job = account.job(plan="pro", seats=3, only_changed=True)
        assert account.stage(job) == "unchanged"
        assert account.status(job) == "unchanged"
        assert account.claimed() == []

    def test_the_rest_is_sent(self, account: Account) -> None:
        account.staged(plan="pro", seats=3)
        account.deliver_all()
        job = account.staged(plan="pro", seats=4, only_changed=True)
        assert account.deliver_all() == [{"seats": 4}]
        assert account.status(job) == "delivered"

    def test_the_same_value_of_another_type_is_a_change(self, account: Account) -> None:
        account.staged(seats=1)
        account.deliver_all()
        account.staged(seats=True, only_changed=True)

    def test_what_was_only_sent_is_sent_again(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        result = JobResult(job_id=claim.jobs[0].job_id, status="unconfirmed", fields={})
        account.carry_out(claim, Settlement(jobs=(result,), taken=frozenset({"plan"})))
        account.staged(plan="pro", only_changed=True)

    def test_what_waits_to_be_replaced_is_sent(self, account: Account) -> None:
        account.staged(plan="pro")
        account.deliver_all()
        other = account.staged(plan="free")
        account.staged(plan="pro", only_changed=True)
        assert account.status(other) == "superseded"
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_it_is_the_newest_all_the_same(self, account: Account) -> None:
        account.staged(ago_s=20, plan="pro")
        account.deliver_all()
        assert account.stage(account.job(ago_s=5, plan="pro", only_changed=True)) == "unchanged"
        assert account.stage(account.job(ago_s=10, plan="free")) == "superseded"


def test_when_all_jobs_are_settled_nothing_lasts(account: Account) -> None:
    emails = [ADA, BOB, EVE]
    endings: list[Status] = ["delivered", "pending", "refused"]
    for n in range(30):
        account.staged(emails[n % 3], lane="bulk" if n % 2 else "live", **{f"n{n}": n})
        if n % 7 == 0 and isinstance(claim := account.next(), Claim):
            account.staged(claim.email, late=n)
            account.settle(claim, endings[n % 3], batch=n % 2)
    account.deliver_all()
    account.assert_nothing_is_left()


def test_two_accounts_share_nothing(client: redis.Redis, clock: RedisClock) -> None:
    account = Account(client, clock)
    keys = Keys("eu")
    other = Mailboxes(client, keys, limits=LIMITS, retention_s=RETENTION_S)
    job = account.staged(plan="pro")
    assert idle(other.claim("s")) == "nothing due"
    assert not Inbox(client, keys, retention_s=1).take(limit=9, within_s=9, bulk_share=0.1)
    other.stage([(account.taken[job.job_id], job)])
    assert isinstance(other.claim("s"), Claim)
    assert isinstance(account.next(), Claim)
    tags = {re.match(r"courier:(\{[a-z]+\}):", str(key))[1] for key in account.names()}  # type: ignore[index]
    assert tags == {"{default}", "{eu}"}


def test_scores_keep_their_microseconds(account: Account) -> None:
    """Times have 16 digits: a Lua number that becomes text in the usual way keeps 14."""
    job = account.staged(plan="pro")
    score = account.client.zscore(KEYS.of("due:live"), job.mailbox_id)
    assert int(score) == account.clock.us
    accepted = account.client.hget(KEYS.of("job", job.job_id), "accepted")
    assert accepted == str(account.clock.us)
