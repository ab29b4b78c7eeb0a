"""Once a second: what no message asks for."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.jobs.job import mailbox_id_of
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault, SandboxProcess
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import AccountNews, Claim, JobResult, Settlement
from attribute_courier.state.workers import Worker
from attribute_courier.worker import ticker as module
from attribute_courier.worker.account_worker import TICK_S, AccountWorker
from attribute_courier.worker.chartmogul import Answer
from attribute_courier.worker.notifier import Asking
from attribute_courier.worker.ticker import Ticker

from ..waiting import wait_until
from .desk import ADA, BOB, KEYS, Desk

ME = Worker(id="w1", name="courier@here", version="1", started_at=datetime.now(UTC))


class Ticking:
    """A ticker with one account's worker; jobs are put there by a `Desk`."""

    def __init__(self, client: redis.Redis) -> None:
        self.desk = Desk(client)
        self.client: Any = client
        notifier: Any = self.desk.notifier
        self.worker = AccountWorker(
            "default", load_settings(), client=client, notifier=notifier, email_hash=str
        )
        self.ticker = Ticker(client, {"default": self.worker}, me=ME)

    def tick(self) -> float:
        """Tick once, and keep in mind only what this tick asked for."""
        self.desk.notifier.accepts = self.desk.notifier.delivers = 0
        return self.ticker.tick()

    @property
    def asked(self) -> tuple[int, int]:
        return self.desk.notifier.accepts, self.desk.notifier.delivers


@pytest.fixture
def ticking(
    client: redis.Redis, stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> Ticking:
    monkeypatch.setenv("CHARTMOGUL_API_URL", stand_in.url)
    monkeypatch.setenv("CHARTMOGUL_API_KEY", DEFAULT_API_KEY)
    monkeypatch.setenv("COURIER_PROBE_DELAYS", "0s,1h")
    return Ticking(client)


def test_an_idle_worker_sends_two_commands_for_all_its_accounts(
    ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    real = ticking.client.execute_command

    def execute(*args: Any, **options: Any) -> Any:
        sent.append(args[0])
        return real(*args, **options)

    workers = {f"account-{n}": ticking.worker for n in range(10)}
    monkeypatch.setattr(ticking.client, "execute_command", execute)
    assert Ticker(ticking.client, workers, me=ME).tick() == TICK_S
    assert sent == ["TIME", "EXISTS"]


class TestWhatIsAskedFor:
    def test_jobs_in_the_inbox_are_to_be_accepted(self, ticking: Ticking) -> None:
        """Their message was lost."""
        ticking.desk.produced(ADA, plan="pro")
        ticking.tick()
        assert ticking.asked == (1, 0)

    def test_a_worker_that_nobody_answers_is_patient(self, ticking: Ticking) -> None:
        """Where an application's own tasks hold it: messages would pile up in their queue."""
        ticking.worker.asking = asking = Asking()
        ticking.desk.produced(ADA, plan="pro")
        ticking.tick()
        assert ticking.asked == (1, 0)
        for _ in range(3):  # as if it had asked three times more
            asking._again_s = 0
            assert asking.may_ask()
        ticking.tick()
        assert ticking.asked == (0, 0)
        asking.answered()
        ticking.tick()
        assert ticking.asked == (1, 0)

    def test_an_email_that_is_due_is_to_be_delivered(self, ticking: Ticking) -> None:
        ticking.desk.accepted(ADA, plan="pro")
        ticking.tick()
        assert ticking.asked == (0, 1)

    def test_accepting_goes_on_to_deliver_so_it_is_enough(self, ticking: Ticking) -> None:
        ticking.desk.accepted(ADA, plan="pro")
        ticking.desk.produced(BOB, plan="pro")
        ticking.tick()
        assert ticking.asked == (1, 0)

    def test_nothing_while_a_stint_waits_for_its_time(self, ticking: Ticking) -> None:
        desk = ticking.desk
        desk.accepted(ADA, plan="pro")
        desk.accepted(BOB, plan="pro")
        slow = Desk(ticking.client, rate_limit=1)
        slow.mailboxes.claim("one that delivers")
        slow.mailboxes.claim("one that waits")
        ticking.tick()
        assert ticking.asked == (0, 0)

    def test_a_retry_that_falls_due(self, ticking: Ticking) -> None:
        desk = ticking.desk
        desk.accepted(ADA, plan="pro")
        claim = desk.mailboxes.claim("a stint")
        assert isinstance(claim, Claim)
        pending = JobResult(job_id=claim.jobs[0].job_id, status="pending", fields={"attempts": 1})
        settlement = Settlement(jobs=(pending,), retry_s=0.3, failures=1)
        desk.mailboxes.settle(claim, settlement, AccountNews(kind="server"), stint=None)
        assert 0 < ticking.tick() <= 0.3
        assert ticking.asked == (0, 0)

        def asked() -> bool:
            ticking.tick()
            return ticking.asked == (0, 1)

        wait_until(asked, what="the retry is asked for")

    def test_a_lease_whose_worker_died(self, ticking: Ticking) -> None:
        ticking.desk.accepted(ADA, plan="pro")
        ticking.desk.mailboxes.claim("of a worker that dies")
        ticking.tick()
        assert ticking.asked == (0, 0), "its lease has not ended"
        [mailbox] = ticking.client.zrange(KEYS.of("leases"), 0, -1)
        ticking.client.zadd(KEYS.of("leases"), {mailbox: 0})
        ticking.tick()
        assert ticking.asked == (0, 1)

    def test_what_a_dead_worker_had_taken_from_the_inbox(self, ticking: Ticking) -> None:
        ticking.desk.produced(ADA, plan="pro")
        ticking.desk.inbox.take(limit=1, within_s=0.05, bulk_share=0.1)

        def asked() -> bool:
            ticking.tick()
            return ticking.asked == (1, 0)

        wait_until(asked, what="the inbox is asked for")


class TestPaused:
    def pause(self, ticking: Ticking) -> None:
        body = b'{"message": "No valid API key provided"}'
        ticking.desk.accepted(ADA, plan="pro")
        ticking.desk.chartmogul.answers = [Answer(status=401, body=body)]
        ticking.desk.run()
        assert ticking.worker.health.status().state == "paused"

    def test_no_delivery_is_asked_for(self, ticking: Ticking) -> None:
        ticking.desk.accepted(ADA, plan="pro")
        ticking.worker.health.pause("moving house")
        ticking.tick()
        assert ticking.asked == (0, 0)

    def test_a_ping_that_is_answered_ends_it(
        self, ticking: Ticking, stand_in: SandboxProcess, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.pause(ticking)
        ticking.client.hset(KEYS.of("pause"), "probe", 1)
        ticking.tick()
        wait_until(lambda: "ChartMogul answers again; going on" in caplog.text)
        assert [each["method"] for each in stand_in.requests()] == ["GET"]
        assert ticking.worker.health.status().state == "running"
        ticking.tick()
        assert ticking.asked == (0, 1)

    def test_a_ping_that_is_refused_does_not(
        self, ticking: Ticking, stand_in: SandboxProcess
    ) -> None:
        stand_in.configure(faults=[Fault(kind="revoked")])
        self.pause(ticking)
        ticking.client.hset(KEYS.of("pause"), "probe", 1)
        for _ in range(3):
            ticking.tick()
        wait_until(stand_in.requests)
        assert len(stand_in.requests()) == 1, "the next ping comes after its delay"
        assert ticking.worker.health.status().state == "paused"

    def test_an_operators_pause_is_not_asked_about(
        self, ticking: Ticking, stand_in: SandboxProcess
    ) -> None:
        ticking.desk.accepted(ADA, plan="pro")
        ticking.worker.health.pause("moving house")
        ticking.tick()
        assert stand_in.requests() == []
        assert ticking.worker.health.status().state == "paused"


class TestClock:
    @pytest.mark.parametrize(
        ("step_s", "words"), [(30, "ahead by 30.0 s"), (-3600, "back by 3600.0 s")]
    )
    def test_a_step_is_told_of_once(
        self,
        ticking: Ticking,
        step_s: int,
        words: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        ticking.tick()
        real = ticking.client.time

        def stepped() -> tuple[int, int]:
            seconds, microseconds = real()
            return seconds + step_s, microseconds

        monkeypatch.setattr(ticking.client, "time", stepped)
        for _ in range(3):
            ticking.tick()
        assert caplog.text.count(f"account default: Redis's clock stepped {words}") == 1
        step = ticking.worker.health.status().clock_step
        assert step is not None
        assert step.step_s == pytest.approx(step_s, abs=0.5)

    def test_of_several_workers_one_tells(
        self, ticking: Ticking, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert ticking.worker.health.note_step(30)
        assert not ticking.worker.health.note_step(30)

    def test_a_steady_clock_is_not_told_of(
        self, ticking: Ticking, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(5):
            ticking.tick()
        assert ticking.worker.health.status().clock_step is None
        assert caplog.text == ""


class TestRepair:
    def run(self, ticking: Ticking) -> None:
        """Until the first pass is over."""
        stopping = threading.Event()
        thread = threading.Thread(target=ticking.ticker.repair_until, args=(stopping,))
        thread.start()
        wait_until(lambda: ticking.client.exists(KEYS.of("repairing")))
        stopping.set()
        thread.join(10)
        assert not thread.is_alive()

    def test_finds_at_the_start_what_nothing_points_to(
        self, ticking: Ticking, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = ticking.desk.accepted(ADA, plan="pro")
        ticking.client.zrem(KEYS.of("due:live"), mailbox_id_of(ADA))
        lost = ticking.desk.produced(BOB, plan="pro")
        ticking.client.zrem(KEYS.of("inbox:live"), lost)
        self.run(ticking)
        assert "1 mailbox and 1 job of the inbox that nothing pointed to" in caplog.text
        assert ticking.worker.health.status().repairs == 2
        ticking.desk.acceptance.accept()
        ticking.desk.run()
        assert {ticking.desk.outcome(each).status for each in (job, lost)} == {"delivered"}

    def test_has_nothing_to_say_where_all_is_well(
        self, ticking: Ticking, caplog: pytest.LogCaptureFixture
    ) -> None:
        ticking.desk.accepted(ADA, plan="pro")
        ticking.desk.produced(BOB, plan="pro")
        self.run(ticking)
        assert caplog.text == ""
        assert ticking.worker.health.status().repairs == 0

    def test_of_one_account_that_fails_keeps_no_other_from_it(
        self, ticking: Ticking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        real = module.repair

        def repair(client: redis.Redis, keys: Keys, *, at_start: bool) -> Any:
            if keys.account == "broken":
                raise redis.ConnectionError("gone")
            return real(client, keys, at_start=at_start)

        monkeypatch.setattr(module, "repair", repair)
        workers = {"broken": ticking.worker, "default": ticking.worker}
        ticking.ticker = Ticker(ticking.client, workers, me=ME)
        self.run(ticking)
        assert "account broken: no repair pass (ConnectionError)" in caplog.text
