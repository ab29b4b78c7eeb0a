"""What became of a job, as those who ask see it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from attribute_courier.config import Secret, load_settings
from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.errors import NotDelivered, NotReachable
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import time_of
from attribute_courier.jobs.outcome import STATUSES, SUCCESSES, Customer, Outcome, Status
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.producers import Producer
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state import outcomes as outcomes_module
from attribute_courier.state.claims import JobResult, Settlement
from attribute_courier.state.inbox import Inbox
from attribute_courier.state.outcomes import Outcomes

from ..account_state import ADA, BOB, KEYS, Account
from ..redis_clock import on_test_time
from ..waiting import wait_until

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
DELIVERED = Outcome(
    job_id="019abcde-0000-7000-8000-000000000000",
    account="default",
    status="delivered",
    email=ADA,
    lane="live",
    keys=("channel", "age"),
    attempts=2,
    http_status=200,
    customers=(Customer(uuid="cus_1", external_id=None),),
    occurred_at=NOW,
    accepted_at=NOW,
    sent_at=NOW,
    settled_at=NOW,
)


class TestAnOutcome:
    def test_is_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            DELIVERED.status = "failed"  # type: ignore[misc]

    def test_its_repr_shows_no_whole_email(self) -> None:
        assert repr(DELIVERED) == (
            "<Outcome 019abcde-0000-7000-8000-000000000000: "
            "a***@example.com · delivered · 1 customer>"
        )
        assert ADA not in f"{DELIVERED} {[DELIVERED]} {NotDelivered(DELIVERED)!r}"

    def test_it_can_be_written_as_json(self) -> None:
        assert json.loads(json.dumps(DELIVERED.to_dict())) == {
            "job_id": "019abcde-0000-7000-8000-000000000000",
            "account": "default",
            "status": "delivered",
            "email": ADA,
            "lane": "live",
            "keys": ["channel", "age"],
            "attempts": 2,
            "http_status": 200,
            "reason": "",
            "message": None,
            "warning": None,
            "customers": [{"uuid": "cus_1", "external_id": None}],
            "occurred_at": "2026-03-01T09:30:00+00:00",
            "accepted_at": "2026-03-01T09:30:00+00:00",
            "sent_at": "2026-03-01T09:30:00+00:00",
            "settled_at": "2026-03-01T09:30:00+00:00",
            "next_attempt_at": None,
        }

    @pytest.mark.parametrize("status", STATUSES)
    def test_which_statuses_settle_a_job_and_which_are_good(self, status: Status) -> None:
        outcome = replace(DELIVERED, status=status)
        assert outcome.settled == (status != "pending")
        assert outcome.successful == (status in {"delivered", "superseded", "unchanged"})
        assert outcome.successful == (status in SUCCESSES)

    @pytest.mark.parametrize(
        ("changed", "summary"),
        [
            ({"customers": ()}, "delivered · 0 customers"),
            ({"customers": DELIVERED.customers * 2}, "delivered · 2 customers"),
            ({"status": "superseded"}, "superseded"),
            ({"status": "refused", "message": "No such type"}, "refused · No such type"),
        ],
    )
    def test_in_a_line(self, changed: dict[str, Any], summary: str) -> None:
        assert replace(DELIVERED, **changed).summary() == summary

    def test_not_delivered_carries_it(self) -> None:
        refused = replace(DELIVERED, status="refused", message="No such type")
        error = NotDelivered(refused)
        assert error.outcome is refused
        assert str(error) == f"job {refused.job_id}: refused · No such type"


CUSTOMERS = [["cus_1", None], [None, "ext/é✓"], ["cus_3", "3"]]


class TestKeeping:
    """A settled job is kept in few bytes, and read back as it was."""

    @pytest.mark.parametrize(
        ("asked", "status", "fields"),
        [
            ({}, "delivered", {"http_status": 200}),
            ({}, "delivered", {"http_status": 200, "attempts": 2}),
            ({}, "delivered", {"http_status": 201}),
            ({"lane": "bulk"}, "delivered", {"http_status": 200}),
            ({}, "delivered", {"http_status": 200, "customers": json.dumps(CUSTOMERS)}),
            (
                {},
                "delivered",
                {"http_status": 202, "message": "shown by 1 of 2 \u201ccustomers\u201d"},
            ),
            ({"ago_s": 3}, "delivered", {"http_status": 200}),
            ({"ago_s": -120.000001}, "delivered", {"http_status": 200}),
            ({"ago_s": 40 * 365 * 86400.0}, "delivered", {"http_status": 200}),
            ({"ago_s": 10_000_000.0}, "delivered", {"http_status": 200}),  # 14 digits of µs
            ({}, "refused", {"http_status": 422, "message": "No such type"}),
            ({}, "refused", {"http_status": 200, "attempts": 1}),  # usual for others
            ({"lane": "bulk"}, "unmatched", {"http_status": 404, "unmatched": 3}),
            ({}, "failed", {"attempts": 1}),  # no answer: no HTTP status
        ],
    )
    def test_it_reads_as_the_worker_saw_it(
        self, account: Account, asked: dict[str, Any], status: Status, fields: dict[str, Any]
    ) -> None:
        account.staged(plan=1)  # so that the next one has a warning, too
        account.deliver_all()
        job = (
            account.staged(**asked, nps=9)
            if "ago_s" in asked
            else account.staged(**asked, nps=9, plan="pro")
        )
        account.clock.step(0.25)
        claim = account.claim()
        account.clock.step(0.125)
        sent = {"attempts": 1, "sent": claim.now_us} | fields
        result = JobResult(job_id=job.job_id, status=status, fields=sent)
        (told,) = account.carry_out(claim, Settlement(jobs=(result,))).outcomes
        found = account.outcome(job)
        assert found == told
        assert found == Outcome(
            job_id=job.job_id,
            account="default",
            status=status,
            email=ADA,
            lane=asked.get("lane", "live"),
            keys=tuple(attribute.key for attribute in job.attributes),
            attempts=sent["attempts"],
            http_status=fields.get("http_status"),
            message=fields.get("message"),
            warning=None if "ago_s" in asked else "plan: String, but Integer was used first",
            customers=tuple(
                Customer(uuid=uuid, external_id=external_id)
                for uuid, external_id in json.loads(fields.get("customers", "[]"))
            ),
            occurred_at=job.occurred_at or time_of(claim.now_us - 250_000),
            accepted_at=time_of(claim.now_us - 250_000),
            sent_at=time_of(claim.now_us),
            settled_at=account.clock.now,
        )

    def test_what_is_usual_is_left_out(self, account: Account) -> None:
        """Millions of them are kept."""
        job = account.staged(plan="pro")
        assert account.settle(account.claim(), fields={"http_status": 200})
        kept = account.client.get(KEYS.of("outcome", job.job_id))
        assert json.loads(kept).keys() == {"e", "k", "o", "a", "x"}
        assert account.outcome(job).http_status == 200

    @pytest.mark.parametrize("result", ["superseded", "unchanged"])
    def test_a_job_that_was_never_sent(self, account: Account, result: str) -> None:
        account.staged(plan="pro")
        account.deliver_all()
        ago_s, only_changed = (60, False) if result == "superseded" else (None, True)
        job = account.job(lane="bulk", ago_s=ago_s, only_changed=only_changed, plan="pro")
        assert account.stage(job) == result
        found = account.outcome(job)
        assert (found.status, found.email, found.lane) == (result, ADA, "bulk")
        assert (found.keys, found.attempts, found.http_status) == (("plan",), 0, None)
        assert found.accepted_at == found.settled_at == account.clock.now

    def test_what_was_no_job(self, account: Account) -> None:
        (job_id,) = rejected(account, 1)
        assert account.outcomes.get(job_id) == Outcome(
            job_id=job_id,
            account="default",
            status="invalid",
            reason="schema",
            email=ADA,
            message="no job",
            accepted_at=account.clock.now,
            settled_at=account.clock.now,
        )

    def test_a_status_of_a_later_release_does_not_break_asking(self, account: Account) -> None:
        job_id = new_job_id()
        account.client.set(KEYS.of("outcome", job_id), '{"s":"teleported","a":"1700000000000000"}')
        found = account.outcomes.get(job_id)
        assert found is not None
        assert found.status == "pending"


def rejected(account: Account, count: int) -> list[str]:
    """Jobs that are settled: none of them was one."""
    job_ids = []
    for _ in range(count):
        job = account.job(plan="pro")
        account.take()
        assert account.inbox.reject(account.taken[job.job_id], "no job", email=ADA)
        job_ids.append(job.job_id)
    return job_ids


def ids(found: list[Outcome]) -> list[str]:
    return [each.job_id for each in found]


class TestAsking:
    def test_nothing_is_known_of_an_unknown_job(self, account: Account) -> None:
        assert account.outcomes.get(new_job_id()) is None

    def test_a_job_in_the_inbox_is_pending(self, account: Account) -> None:
        job_id = account.job(plan="pro").job_id
        pending = Outcome(job_id=job_id, account="default", status="pending")
        assert account.outcomes.get(job_id) == pending
        assert account.outcomes.waiting() == 1
        account.take()  # a worker has it in its hands
        assert account.outcomes.get(job_id) == pending
        assert account.outcomes.waiting() == 1

    def test_a_staged_job_is_pending_and_tells_more(self, account: Account) -> None:
        found = account.outcome(account.staged(plan="pro", nps="9"))
        assert (found.status, found.email, found.lane) == ("pending", ADA, "live")
        assert found.keys == ("plan", "nps")
        assert found.accepted_at == account.clock.now
        assert (found.attempts, found.settled_at) == (0, None)

    def test_a_job_that_is_tried_again_tells_when(self, account: Account) -> None:
        job = account.staged(plan="pro")
        claim = account.claim()
        result = JobResult(job_id=job.job_id, status="pending", fields={"attempts": 1})
        settlement = Settlement(jobs=(result,), retry_s=60, failures=1)
        (told,) = account.carry_out(claim, settlement, "server").outcomes
        found = account.outcome(job)
        assert found == told
        assert (found.status, found.attempts) == ("pending", 1)
        assert found.next_attempt_at == account.clock.now + timedelta(seconds=60)

    def test_where_many_jobs_stand(self, account: Account) -> None:
        delivered, waiting = account.staged(plan="pro"), account.job(BOB, plan="pro")
        account.deliver_all()
        staged = account.staged(plan="max")
        asked = [waiting.job_id, "unknown", delivered.job_id, staged.job_id, delivered.job_id]
        found = account.outcomes.statuses(asked)
        assert found == ["pending", None, "delivered", "pending", "delivered"]
        assert account.outcomes.statuses([]) == []

    def test_outcomes_are_gone_after_their_time(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.deliver_all()
        account.client.delete(KEYS.of("outcome", job.job_id))
        assert account.outcomes.get(job.job_id) is None
        assert account.outcomes.of_email(ADA) == []
        assert account.outcomes.recent() == []


class TestAnEmail:
    def test_its_jobs_newest_first(self, account: Account) -> None:
        jobs = [account.staged(plan=n) for n in range(3)]
        account.staged(BOB, plan="pro")
        found = account.outcomes.of_email(ADA)
        assert ids(found) == [job.job_id for job in reversed(jobs)]
        assert [each.status for each in found] == ["pending", "superseded", "superseded"]
        assert ids(account.outcomes.of_email(ADA, limit=1)) == [jobs[-1].job_id]
        assert account.outcomes.of_email("nobody@example.com") == []

    def test_all_spellings_of_it_are_one(self, account: Account) -> None:
        account.staged("ada@EXAMPLE.com", plan="pro")
        assert len(account.outcomes.of_email(" ada@Example.COM ")) == 1

    def test_the_last_hundred_settled_jobs_and_all_that_wait(self, account: Account) -> None:
        settled = rejected(account, 105)
        waiting = [account.staged(**{f"n{n}": n}).job_id for n in range(3)]
        found = ids(account.outcomes.of_email(ADA, limit=1000))
        assert found == (settled[-100:] + waiting)[::-1]
        history = account.client.hkeys(KEYS.of("email", mailbox_id_of(ADA)))
        assert len(history) == 101  # and the count

    def test_a_replayed_job_is_listed_once(self, account: Account) -> None:
        job = refused(account)
        assert account.health.replay(job.job_id)
        assert [each.status for each in account.outcomes.of_email(ADA)] == ["pending"]
        assert account.stage(job) == "staged"
        assert [each.status for each in account.outcomes.of_email(ADA)] == ["pending"]
        account.deliver_all()
        assert [each.status for each in account.outcomes.of_email(ADA)] == ["delivered"]


def refused(account: Account) -> Any:
    job = account.staged(plan="pro")
    assert account.settle(account.claim(), "refused", fields={"document": dump_wire(job)})
    return job


class TestTheLatest:
    def test_newest_first(self, account: Account) -> None:
        job_ids = rejected(account, 5)
        account.staged(plan="pro")  # pending: not settled
        assert ids(account.outcomes.recent()) == job_ids[::-1]
        assert ids(account.outcomes.recent(limit=2)) == job_ids[:2:-1]

    def test_only_some_statuses(self, account: Account) -> None:
        invalid = rejected(account, 2)
        older = account.staged(plan="free").job_id
        account.staged(plan="pro")
        assert ids(account.outcomes.recent(statuses=["superseded"])) == [older]
        found = account.outcomes.recent(statuses=["superseded", "invalid"])
        assert ids(found) == [older, *invalid[::-1]]
        assert account.outcomes.recent(statuses=["delivered"]) == []

    def test_only_the_last_minutes(self, account: Account) -> None:
        hour_ago_ms = int((account.outcomes.now() - timedelta(hours=1)).timestamp() * 1000)
        job = account.job(plan="pro")
        account.client.xadd(
            KEYS.outcomes, {"job": job.job_id, "status": "invalid"}, id=f"{hour_ago_ms}-0"
        )
        account.take()
        account.inbox.reject(account.taken[job.job_id], "no job")
        account.client.xdel(KEYS.outcomes, account.client.xrange(KEYS.outcomes)[1][0])
        new = rejected(account, 1)
        assert ids(account.outcomes.recent()) == [*new, job.job_id]
        assert ids(account.outcomes.recent(since=timedelta(minutes=30))) == new
        assert len(account.outcomes.recent(since=timedelta(hours=2))) == 2

    def test_further_back_than_one_page(self, account: Account) -> None:
        (first,) = rejected(account, 1)
        pipeline = account.client.pipeline()
        for _ in range(1200):
            pipeline.xadd(KEYS.outcomes, {"job": "x", "status": "delivered"})
        pipeline.execute()
        assert ids(account.outcomes.recent(statuses=["invalid"])) == [first]
        assert ids(account.outcomes.recent()) == [first]

    def test_a_replayed_job_is_shown_once_and_as_it_stands(self, account: Account) -> None:
        job = refused(account)
        account.health.replay(job.job_id)
        assert account.outcomes.recent(statuses=["refused"]) == []
        account.stage(job)
        account.deliver_all()
        assert ids(account.outcomes.recent()) == [job.job_id]
        assert account.outcomes.recent()[0].status == "delivered"
        assert ids(account.outcomes.recent(statuses=["delivered"])) == [job.job_id]
        assert account.outcomes.recent(statuses=["refused"]) == []


class TestFollowing:
    def test_it_starts_now_and_misses_none(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rejected(account, 3)
        later: list[str] = []
        at_each_pause(monkeypatch, lambda: later.extend(rejected(account, 2)))
        following = account.outcomes.follow()
        found = [next(following).job_id for _ in range(5)]
        assert found == later[:5]

    def test_with_nothing_before(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        later: list[str] = []
        at_each_pause(monkeypatch, lambda: later.extend(rejected(account, 1)))
        assert [next(account.outcomes.follow()).job_id] == later

    def test_only_some_statuses(self, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
        def more() -> None:
            rejected(account, 1)
            account.staged(plan="pro")
            account.deliver_all()

        at_each_pause(monkeypatch, more)
        following = account.outcomes.follow(statuses=["delivered"])
        assert [next(following).status for _ in range(3)] == ["delivered"] * 3


def at_each_pause(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen instead of a pause between two looks."""
    clock = SimpleNamespace(sleep=lambda _: happens(), monotonic=time.monotonic)
    monkeypatch.setattr(outcomes_module, "time", clock)


class TestWaiting:
    def test_the_channel_wakes_the_waiter(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outcomes_module, "_LOOK_AGAIN_S", 600)
        job = account.staged(plan="pro")
        channel = KEYS.of("settled", job.job_id)

        def deliver() -> None:
            wait_until(lambda: account.client.pubsub_numsub(channel)[0][1])
            account.deliver_all()

        with meanwhile(deliver):
            found = account.outcomes.wait(job.job_id, 10)
        assert found == account.outcome(job)
        assert found.status == "delivered"
        assert account.client.pubsub_numsub(channel)[0][1] == 0

    def test_a_message_that_was_lost_is_made_up_for(
        self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publishes = "redis.call('PUBLISH', key('settled:' .. job), status)"
        account = Account(client, on_test_time(client, monkeypatch, broken=(publishes, "")))
        monkeypatch.setattr(outcomes_module, "_LOOK_AGAIN_S", 0.05)
        job = account.staged(plan="pro")

        def deliver() -> None:
            wait_until(lambda: account.client.pubsub_numsub(KEYS.of("settled", job.job_id))[0][1])
            account.deliver_all()

        with meanwhile(deliver):
            found = account.outcomes.wait(job.job_id, 10)
        assert found is not None
        assert found.status == "delivered"

    def test_who_may_not_subscribe_looks_again_and_again(
        self, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            account = Account(client, on_test_time(client, monkeypatch))
            job = account.staged(plan="pro")
            with limited_user(client) as limited:
                with pytest.raises(redis.ResponseError, match="channel"):
                    limited.publish(KEYS.of("settled", job.job_id), "")
                at_each_pause(monkeypatch, account.deliver_all)
                found = Outcomes(limited, KEYS).wait(job.job_id, 10)
            assert found == account.outcome(job)
            assert found.status == "delivered"

    @pytest.mark.parametrize("timeout_s", [None, 0, -1, 600])
    def test_a_settled_job_is_answered_at_once(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None
    ) -> None:
        monkeypatch.setattr(outcomes_module, "_LOOK_AGAIN_S", 600)
        (job_id,) = rejected(account, 1)
        found = account.outcomes.wait(job_id, timeout_s)
        assert found == account.outcomes.get(job_id)
        assert found is not None
        assert found.settled

    @pytest.mark.parametrize("timeout_s", [-1, 0, 0.05])
    def test_when_the_time_is_up_the_job_stands_as_it_stands(
        self, account: Account, timeout_s: float
    ) -> None:
        job = account.staged(plan="pro")
        assert account.outcomes.wait(job.job_id, timeout_s) == account.outcome(job)
        assert account.outcomes.wait("unknown", timeout_s) is None


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread; its errors are the test's."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(20)
    assert not errors


@contextmanager
def limited_user(client: redis.Redis) -> Iterator[redis.Redis]:
    """A connection that may use all keys, and no channel."""
    any_client: Any = client
    any_client.execute_command(
        "ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "+@all", "resetchannels"
    )
    pool = client.connection_pool
    options = pool.connection_kwargs | {"username": "limited", "password": "secret"}
    limited = redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options)
    )
    try:
        yield limited
    finally:
        limited.close()
        any_client.execute_command("ACL", "DELUSER", "limited")


@pytest.fixture
def producer(server: EmbeddedRedis) -> Iterator[Producer]:
    found = Producer(replace(load_settings(), redis_url=Secret(server.url), enqueue_timeout_s=1))
    yield found
    found.close()


class TestAReceipt:
    def test_tells_what_became_of_the_job_so_far(self, producer: Producer) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        outcome = receipt.outcome()
        assert outcome is not None
        assert outcome.status == "pending"
        assert producer.outcome(receipt.job_id) == outcome

    def test_shows_no_email(self, producer: Producer) -> None:
        assert ADA not in repr(producer.add_attributes(ADA, {"plan": "pro"}))

    def test_waits_until_the_job_is_settled(
        self, producer: Producer, server: EmbeddedRedis
    ) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        with rejects_all(server):
            outcome = receipt.wait(20)
        assert (outcome.status, outcome.message) == ("invalid", "no job")

    def test_waits_without_blocking_the_event_loop(
        self, producer: Producer, server: EmbeddedRedis
    ) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})

        async def ask() -> Outcome:
            waiting = asyncio.create_task(receipt.wait_async(20))
            await asyncio.sleep(0.05)  # the loop goes on while it waits
            assert not waiting.done()
            with rejects_all(server):
                return await waiting

        assert asyncio.run(ask()).status == "invalid"

    def test_does_not_wait_longer_than_told(self, producer: Producer) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        with pytest.raises(TimeoutError, match=f"job {receipt.job_id} is still pending"):
            receipt.wait(0.05)
        with pytest.raises(TimeoutError):
            receipt.wait(0)
        with pytest.raises(TimeoutError):
            asyncio.run(receipt.wait_async(0.05))

    def test_says_so_when_redis_does_not_answer(
        self, producer: Producer, server: EmbeddedRedis
    ) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        server.pause()
        try:
            with pytest.raises(NotReachable, match="COURIER_REDIS_URL"):
                receipt.wait(10)
        finally:
            server.resume()

    def test_the_jobs_of_an_email(self, producer: Producer, server: EmbeddedRedis) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        with rejects_all(server):
            receipt.wait(20)
        assert ids(list(producer.outcomes("ada@EXAMPLE.COM"))) == [receipt.job_id]


def rejects_all(server: EmbeddedRedis) -> AbstractContextManager[None]:
    """A worker, for which nothing is a job."""

    def reject() -> None:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            inbox = Inbox(client, KEYS, retention_s=1000)
            for taken in inbox.take(limit=9, within_s=60, bulk_share=0.1):
                inbox.reject(taken, "no job", email=ADA)

    return meanwhile(reject)
