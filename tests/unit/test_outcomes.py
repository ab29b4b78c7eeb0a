"""What became of a job, as those who ask see it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from attribute_courier.config import Secret, load_settings
from attribute_courier.jobs import Customer, NotDelivered, Outcome, Outcomes
from attribute_courier.jobs.errors import NotReachable
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import mailbox_id_of
from attribute_courier.jobs.outcome import STATUSES, SUCCESSES
from attribute_courier.jobs.schema import load_job
from attribute_courier.producers import Producer, Receipt
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Mailboxes

ADA = "ada@example.com"
KEYS = Keys("default")
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
    def test_which_statuses_end_a_job_and_which_are_good(self, status: str) -> None:
        outcome = replace(DELIVERED, status=status)
        assert outcome.ended == (status != "pending")
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
    def test_in_a_line(self, changed: dict[str, object], summary: str) -> None:
        assert replace(DELIVERED, **changed).summary() == summary  # type: ignore[arg-type]

    def test_not_delivered_carries_it(self) -> None:
        refused = replace(DELIVERED, status="refused", message="No such type")
        error = NotDelivered(refused)
        assert error.outcome is refused
        assert str(error) == f"job {refused.job_id}: refused · No such type"


@pytest.fixture
def outcomes(client: redis.Redis) -> Outcomes:
    return Outcomes(client, KEYS)


@pytest.fixture
def mailboxes(client: redis.Redis) -> Mailboxes:
    return Mailboxes(client, KEYS, lease_s=9, retention_s=1000, rate_limit=10_000)


def stage(mailboxes: Mailboxes, email: str = ADA, **attributes: str) -> str:
    job = load_job(
        new_job_id(),
        {
            "v": 1,
            "email": email,
            "attributes": [
                {"type": "String", "key": key, "value": value} for key, value in attributes.items()
            ],
            "occurred_at": datetime.now(UTC),
        },
    )
    mailboxes.stage([job])
    return job.job_id


def end(mailboxes: Mailboxes, count: int) -> list[str]:
    """Jobs that are at their end: none of them was one."""
    job_ids = [new_job_id() for _ in range(count)]
    for job_id in job_ids:
        mailboxes.reject(job_id, "no job", mailbox_id=mailbox_id_of(ADA), email=ADA)
    return job_ids


class TestAsking:
    def test_nothing_is_known_of_an_unknown_job(self, outcomes: Outcomes) -> None:
        assert outcomes.get(new_job_id()) is None

    def test_a_job_in_the_inbox_is_pending(self, client: redis.Redis, outcomes: Outcomes) -> None:
        job_id = new_job_id()
        client.hset(KEYS.inbox, job_id, "{}")
        assert outcomes.get(job_id) == Outcome(job_id=job_id, account="default", status="pending")
        assert outcomes.waiting() == 1

    def test_a_staged_job_is_pending_and_tells_more(
        self, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        outcome = outcomes.get(stage(mailboxes, plan="pro", nps="9"))
        assert outcome is not None
        assert (outcome.status, outcome.email, outcome.lane) == ("pending", ADA, "live")
        assert outcome.keys == ("plan", "nps")
        assert outcome.accepted_at is not None
        assert outcome.attempts == 0

    def test_the_jobs_of_an_email_newest_first(
        self, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        job_ids = [stage(mailboxes, plan=str(n)) for n in range(3)]
        stage(mailboxes, email="two@example.com", plan="pro")
        found = outcomes.of_email(ADA)
        assert [each.job_id for each in found] == job_ids[::-1]
        assert [each.status for each in found] == ["pending", "superseded", "superseded"]
        assert [each.job_id for each in outcomes.of_email(ADA, limit=1)] == job_ids[-1:]
        assert outcomes.of_email("nobody@example.com") == []

    def test_all_spellings_of_an_email_are_one(
        self, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        stage(mailboxes, email="ada@EXAMPLE.com", plan="pro")
        assert len(outcomes.of_email(" ada@Example.COM ")) == 1

    def test_the_latest_that_ended_newest_first(
        self, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        job_ids = end(mailboxes, 5)
        stage(mailboxes, plan="pro")  # pending: not at its end
        assert [each.job_id for each in outcomes.recent()] == job_ids[::-1]
        assert [each.job_id for each in outcomes.recent(limit=2)] == job_ids[:2:-1]

    def test_only_some_statuses(self, outcomes: Outcomes, mailboxes: Mailboxes) -> None:
        invalid = end(mailboxes, 2)
        older = stage(mailboxes, plan="free")
        stage(mailboxes, plan="pro")
        assert [each.job_id for each in outcomes.recent(statuses=["superseded"])] == [older]
        found = outcomes.recent(statuses=["superseded", "invalid"])
        assert {each.job_id for each in found} == {*invalid, older}
        assert outcomes.recent(statuses=["delivered"]) == []

    def test_only_the_last_minutes(
        self, client: redis.Redis, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        hour_ago_ms = int((outcomes.now() - timedelta(hours=1)).timestamp() * 1000)
        old, new = new_job_id(), new_job_id()
        client.xadd(KEYS.outcomes, {"job": old, "status": "invalid"}, id=f"{hour_ago_ms}-0")
        for job_id in (old, new):
            mailboxes.reject(job_id, "no job")
        client.xdel(KEYS.outcomes, client.xrange(KEYS.outcomes, count=2)[1][0])
        assert [each.job_id for each in outcomes.recent()] == [new, old]
        found = outcomes.recent(since=timedelta(minutes=30))
        assert [each.job_id for each in found] == [new]
        assert len(outcomes.recent(since=timedelta(hours=2))) == 2

    def test_further_back_than_one_page(
        self, client: redis.Redis, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        [first] = end(mailboxes, 1)
        pipeline = client.pipeline()
        for _ in range(1200):
            pipeline.xadd(KEYS.outcomes, {"job": "x", "status": "delivered"})
        pipeline.execute()
        found = outcomes.recent(statuses=["invalid"])
        assert [each.job_id for each in found] == [first]

    def test_following_starts_now_and_misses_none(
        self, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        end(mailboxes, 3)
        following = outcomes.follow(poll_s=0.01)
        found: list[str] = []

        def follow() -> None:
            found.extend(next(following).job_id for _ in range(4))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        started = threading.Event()
        # The first look is the thread's: what comes before it is not followed.
        later: list[str] = []
        while thread.is_alive() and not started.wait(0.05):
            later += end(mailboxes, 1)
        thread.join(10)
        assert len(found) == 4
        assert found == [job_id for job_id in later if job_id in found]
        assert later.index(found[-1]) - later.index(found[0]) == 3

    def test_a_status_of_a_later_release_does_not_break_asking(
        self, client: redis.Redis, outcomes: Outcomes, mailboxes: Mailboxes
    ) -> None:
        job_id = stage(mailboxes, plan="pro")
        client.hset(KEYS.outcome(job_id), "status", "teleported")
        outcome = outcomes.get(job_id)
        assert outcome is not None
        assert outcome.status == "pending"


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

    def test_waits_until_the_job_is_at_its_end(
        self, producer: Producer, server: EmbeddedRedis
    ) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        with self._rejected_soon(receipt, server):
            outcome = receipt.wait(20, poll=0.01)
        assert (outcome.status, outcome.message) == ("invalid", "no job")

    def test_waits_without_blocking_the_event_loop(
        self, producer: Producer, server: EmbeddedRedis
    ) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        turns = 0

        async def ask() -> Outcome:
            nonlocal turns
            waiting = asyncio.create_task(receipt.wait_async(20, poll=0.01))
            while not waiting.done():
                await asyncio.sleep(0.01)
                turns += 1
            return await waiting

        with self._rejected_soon(receipt, server):
            assert asyncio.run(ask()).status == "invalid"
        assert turns > 1

    def test_does_not_wait_longer_than_told(self, producer: Producer) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        with pytest.raises(TimeoutError, match=f"job {receipt.job_id} is still pending"):
            receipt.wait(0.05, poll=0.01)
        with pytest.raises(TimeoutError):
            receipt.wait(0)
        with pytest.raises(TimeoutError):
            asyncio.run(receipt.wait_async(0.05, poll=0.01))

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

    @staticmethod
    def _rejected_soon(receipt: Receipt, server: EmbeddedRedis) -> _Soon:
        def reject() -> None:
            with redis.Redis.from_url(server.url, decode_responses=True) as client:
                boxes = Mailboxes(client, KEYS, lease_s=9, retention_s=1000, rate_limit=10_000)
                boxes.reject(receipt.job_id, "no job")

        return _Soon(reject)


class _Soon(threading.Timer):
    def __init__(self, action: object) -> None:
        super().__init__(0.2, action)  # type: ignore[arg-type]

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.join(10)


def test_the_jobs_of_an_email_through_the_producer(producer: Producer) -> None:
    with redis.Redis.from_url(
        producer.settings.redis_url.reveal(), decode_responses=True
    ) as client:
        job_id = stage(
            Mailboxes(client, KEYS, lease_s=9, retention_s=1000, rate_limit=10_000), plan="pro"
        )
    assert [each.job_id for each in producer.outcomes("ada@EXAMPLE.COM")] == [job_id]
