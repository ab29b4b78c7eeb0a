"""Accepting jobs: from the inbox through the schema into the mailboxes, without Celery."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
import redis

from attribute_courier.jobs.job import Lane, mailbox_id_of
from attribute_courier.state.inbox import Inbox, Taken
from attribute_courier.worker import acceptance as module

from .desk import ADA, BOB, EVE, KEYS, RETENTION_S, Desk


@pytest.fixture
def desk(client: redis.Redis) -> Desk:
    return Desk(client)


def mailbox(desk: Desk, email: str) -> dict[str, str]:
    found: dict[str, str] = desk.client.hgetall(KEYS.of("mailbox", mailbox_id_of(email)))
    return found


def test_a_job_moves_from_the_inbox_into_its_mailbox(desk: Desk) -> None:
    job = desk.produced(ADA, plan="pro")
    assert desk.acceptance.accept() == 1
    assert desk.inbox.waiting() == 0
    assert "plan" in mailbox(desk, ADA)
    outcome = desk.outcome(job)
    assert (outcome.status, outcome.email, outcome.lane) == ("pending", ADA, "live")
    assert outcome.accepted_at is not None
    assert desk.notifier.received_jobs == [job]


def test_an_empty_inbox_is_nothing_to_accept(desk: Desk) -> None:
    assert desk.acceptance.accept() == 0
    assert (desk.notifier.accepts, desk.notifier.delivers) == (0, 0)


def test_a_bad_job_spoils_none_of_those_beside_it(desk: Desk) -> None:
    before = desk.produced(BOB, plan="pro")
    no_json = desk.put("{")
    newer = desk.put('{"v": 2}')
    ahead = desk.produced(ADA, occurred_at=datetime.now(UTC) + timedelta(hours=1), plan="pro")
    after = desk.produced(EVE, plan="pro")
    assert desk.acceptance.accept() == 5
    assert {desk.outcome(job).status for job in (before, newer, after)} == {"pending"}
    assert {desk.outcome(job).status for job in (no_json, ahead)} == {"invalid"}
    assert desk.client.hkeys(KEYS.inbox) == [newer], "a newer worker can read it"


class TestInvalid:
    @pytest.mark.parametrize("lane", ["live", "bulk"])
    def test_is_recorded_with_every_reason(
        self, desk: Desk, caplog: pytest.LogCaptureFixture, lane: Lane
    ) -> None:
        wire = '{"v": 1, "email": "nobody", "attributes": [], "colour": "red"}'
        job = desk.put(wire, lane=lane)
        desk.acceptance.accept()
        outcome = desk.outcome(job)
        assert outcome.status == "invalid"
        for field in ("email", "attributes", "colour"):
            assert field in (outcome.message or "")
        assert desk.notifier.reported_as() == [(job, "invalid")]
        assert f"job {job}: invalid: " in caplog.text
        assert desk.inbox.waiting() == 0
        assert 0 < desk.client.ttl(KEYS.of("outcome", job)) <= RETENTION_S

    def test_says_whose_it_is_where_that_can_be_read(self, desk: Desk) -> None:
        job = desk.put(f'{{"v": 1, "email": "{ADA}", "attributes": 5}}')
        desk.acceptance.accept()
        assert desk.outcome(job).email == ADA
        assert [each.job_id for each in desk.outcomes.of_email(ADA)] == [job]

    def test_keeps_the_first_of_very_many_reasons(self, desk: Desk) -> None:
        strange = ",".join(f'{{"strange_{n}": 1}}' for n in range(200))
        job = desk.put(f'{{"v": 1, "attributes": [{strange}]}}')
        desk.acceptance.accept()
        message = desk.outcome(job).message or ""
        assert len(message) == module.MAX_REASONS
        assert message.endswith("…")

    def test_an_id_of_any_form_makes_one_line_of_log(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk.client.hset(KEYS.inbox, "a\r\nb" + "i" * 5000, "{")
        desk.client.zadd(KEYS.of("inbox:live"), {"a\r\nb" + "i" * 5000: 1})
        desk.acceptance.accept()
        [message] = [record.getMessage() for record in caplog.records]
        assert message.startswith("job a\\r\\nb")
        assert len(message) < 1000

    def test_is_counted_once_though_it_comes_twice(self, desk: Desk) -> None:
        """Redis lost the answer, or the worker died in between."""
        job = desk.put("{")
        [taken] = desk.inbox.take(limit=1, within_s=5, bulk_share=0.1)
        assert desk.inbox.reject(taken, "first", email=None)
        assert not desk.inbox.reject(taken, "second", email=None)
        assert desk.outcome(job).message == "first"
        assert desk.health.status().last_hour == {"invalid": 1}


class TestTime:
    def test_a_job_that_says_no_time_is_as_new_as_its_arrival(self, desk: Desk) -> None:
        """Whatever clock its producer has, and in the order of arrival within one call."""
        older, newer = desk.produced(ADA, plan="free"), desk.produced(ADA, plan="pro")
        desk.acceptance.accept()
        assert desk.outcome(older).status == "superseded"
        desk.run()
        assert desk.chartmogul.sent[0].custom == {"plan": "pro"}
        assert desk.outcome(newer).status == "delivered"

    @pytest.mark.parametrize(
        ("ahead_s", "status"), [(-3600, "pending"), (200, "pending"), (400, "invalid")]
    )
    def test_a_time_far_ahead_of_all_clocks_is_invalid(
        self, desk: Desk, ahead_s: float, status: str
    ) -> None:
        at = datetime.now(UTC) + timedelta(seconds=ahead_s)
        job = desk.produced(ADA, occurred_at=at, plan="pro")
        desk.acceptance.accept()
        outcome = desk.outcome(job)
        assert outcome.status == status
        if status == "invalid":
            assert outcome.message == "occurred_at: lies more than 5 minutes ahead of all clocks"
            assert mailbox(desk, ADA) == {}
            assert desk.notifier.reported_as() == [(job, "invalid")]

    def test_an_older_job_is_superseded_by_what_stands_there(self, desk: Desk) -> None:
        newer = desk.accepted(ADA, plan="pro")
        older = desk.produced(ADA, occurred_at=datetime.now(UTC) - timedelta(hours=1), plan="free")
        desk.acceptance.accept()
        assert desk.outcome(older).status == "superseded"
        assert desk.outcome(newer).status == "pending"
        assert desk.notifier.reported_as() == [(older, "superseded")]

    def test_a_newer_job_brings_the_older_one_to_its_end(self, desk: Desk) -> None:
        older, newer = desk.accepted(ADA, plan="free"), desk.accepted(ADA, plan="pro")
        assert desk.notifier.reported_as() == [(older, "superseded")]
        assert desk.outcome(newer).status == "pending"


class TestTypes:
    def test_another_type_than_before_is_a_warning(self, desk: Desk) -> None:
        desk.accepted(BOB, seats=3)
        job = desk.accepted(ADA, seats="three")
        outcome = desk.outcome(job)
        assert outcome.status == "pending"
        assert outcome.warning == "seats: String, but Integer was used first"

    def test_where_types_are_strict_it_is_invalid(self, client: redis.Redis) -> None:
        desk = Desk(client, strict_types=True)
        desk.accepted(BOB, seats=3)
        job = desk.accepted(ADA, seats="three")
        outcome = desk.outcome(job)
        assert outcome.status == "invalid"
        assert outcome.message == (
            "seats: String, but Integer was used first (COURIER_STRICT_TYPES)"
        )
        assert mailbox(desk, ADA) == {}


def test_what_is_there_already_is_unchanged_where_a_job_asks_to_skip_it(desk: Desk) -> None:
    desk.accepted(ADA, plan="pro")
    desk.run()
    desk.notifier.reported.clear()
    job = desk.produced(ADA, only_changed=True, plan="pro")
    desk.acceptance.accept()
    assert desk.outcome(job).status == "unchanged"
    assert desk.notifier.reported_as() == [(job, "unchanged")]
    assert mailbox(desk, ADA) == {}


def test_a_job_of_a_newer_wire_format_is_left_and_told_of(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    job = desk.put('{"v": 2}')
    desk.acceptance.accept()
    assert f"job {job}: in a newer wire format" in caplog.text
    assert desk.acceptance.accept() == 0, "not again and again: another worker may take it"
    assert desk.inbox.waiting() == 1


def test_of_bulk_jobs_that_wait_flower_sees_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    job = desk.accepted(ADA, lane="bulk", plan="pro")
    assert desk.outcome(job).lane == "bulk"
    assert desk.notifier.received_jobs == []
    assert desk.notifier.reported == []


class TestBatches:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "AT_ONCE", 2)
        monkeypatch.setattr(module, "ROUNDS", 2)

    def test_one_call_takes_so_much_and_asks_for_another(self, desk: Desk) -> None:
        """A worker that is to stop does not wait for a whole table."""
        for n in range(5):
            desk.produced(f"{n}@example.com", plan="pro")
        assert desk.acceptance.accept() == 4
        assert desk.notifier.accepts == 1
        assert desk.acceptance.accept() == 1
        assert desk.notifier.accepts == 1

    def test_deliveries_begin_after_the_first_of_several(self, desk: Desk) -> None:
        for n in range(3):
            desk.produced(f"{n}@example.com", plan="pro")
        desk.acceptance.accept()
        assert desk.notifier.delivers == 1
        desk.produced(ADA, plan="pro")
        desk.acceptance.accept()
        assert desk.notifier.delivers == 1, "the caller delivers what is little"

    def test_bulk_has_its_share_while_live_jobs_keep_coming(self, desk: Desk) -> None:
        bulk = desk.produced(BOB, lane="bulk", plan="pro")
        for n in range(20):
            desk.produced(f"{n}@example.com", plan="pro")
        desk.acceptance.accept()
        assert desk.outcome(bulk).accepted_at is not None


class Held(Inbox):
    """Taking waits in the middle, so that other calls come meanwhile."""

    def __init__(self, client: redis.Redis, *args: object, **kwargs: int) -> None:
        super().__init__(client, KEYS, **kwargs)
        self.under_way = threading.Semaphore(0)
        self.go_on = threading.Event()

    def take(self, *, limit: int, within_s: float, bulk_share: float) -> list[Taken]:
        taken = super().take(limit=limit, within_s=within_s, bulk_share=bulk_share)
        self.under_way.release()
        assert self.go_on.wait(10)
        return taken


def test_few_threads_accept_for_all_that_call_meanwhile(client: redis.Redis) -> None:
    """More would keep the CPU from the deliveries; and what came meanwhile is not left."""
    desk = Desk(client, inbox=Held)
    held = desk.inbox
    assert isinstance(held, Held)
    first = desk.produced(ADA, plan="pro")
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(desk.acceptance.accept()))
        for _ in range(module.THREADS)
    ]
    for thread in threads:
        thread.start()
        assert held.under_way.acquire(timeout=10)
    late = desk.produced(BOB, plan="pro")
    assert desk.acceptance.accept() == 0, "the others do it"
    held.go_on.set()
    for thread in threads:
        thread.join(10)
    assert sum(counts) == 2
    assert [desk.outcome(job).accepted_at is not None for job in (first, late)] == [True, True]


def test_what_a_dead_worker_had_taken_is_taken_again(desk: Desk) -> None:
    job = desk.produced(ADA, plan="pro")
    desk.inbox.take(limit=10, within_s=0, bulk_share=0.1)
    assert desk.acceptance.accept() == 1
    assert desk.outcome(job).accepted_at is not None
    assert desk.acceptance.accept() == 0
