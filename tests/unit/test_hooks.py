"""Hooks: each settled job is told, in order for each email, and no receiver holds up others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.config.rules import SETTLED
from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.hooks import HookEvent
from attribute_courier.jobs.outcome import STATUSES
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state import hooks as state
from attribute_courier.state.hooks import Aside, Hooks, HookStatus, Progress, Record, Step
from attribute_courier.worker import hook_order
from attribute_courier.worker import hooks as module
from attribute_courier.worker.chartmogul import Answer
from attribute_courier.worker.hooks import HookPolicy, HookRelay, start_relays
from attribute_courier.worker.receivers import Refused
from attribute_courier.worker.trouble import RedisTrouble

from ..redis_clock import on_test_time
from ..waiting import wait_until
from .desk import ADA, BOB, EVE, KEYS, Desk

REFUSED = Answer(status=422, body=b'{"errors": {"custom": "no good"}}')
EMAILS = [f"{n}@load.example" for n in range(12)]


class FakeReceiver:
    """Keeps what it takes; `refuses` may refuse an event, or take its time."""

    name = "the receiver"

    def __init__(self) -> None:
        self.refuses: Callable[[HookEvent], Refused | None] = lambda event: None
        self.asked: list[HookEvent] = []
        self.taken: list[HookEvent] = []

    def send(self, event: HookEvent) -> Refused | None:
        self.asked.append(event)
        refused = self.refuses(event)
        if refused is None:
            self.taken.append(event)
        return refused

    def jobs(self) -> list[str]:
        return [event.data["job_id"] for event in self.taken if event.type == "job.settled"]

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.taken if event.type == type_]


class Relaying:
    """Jobs that are settled by a `Desk`, and relays in threads."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        self.desk = Desk(client)
        self.receiver = FakeReceiver()
        self.hooks = Hooks(client, KEYS)
        self.hooks.begin()
        self.stops: list[tuple[threading.Event, threading.Thread]] = []

    def relay(self, **options: Any) -> HookRelay:
        policy = {
            "statuses": SETTLED,
            "with_email": False,
            "retention_s": 1000.0,
            "stop_within_s": 5,
        }
        receiver: Any = options.pop("receiver", self.receiver)
        return HookRelay(
            "default",
            hooks=Hooks(self.client, KEYS),
            outcomes=self.desk.outcomes,
            receiver=receiver,
            policy=HookPolicy(**policy | options),  # type: ignore[arg-type]
            trouble=RedisTrouble(load_settings()),
            email_hash=mailbox_id_of,
        )

    def start(self, **options: Any) -> Callable[[], None]:
        """A relay at work. Returns what stops it."""
        stopping = threading.Event()
        thread = threading.Thread(target=self.relay(**options).run, args=(stopping,), daemon=True)
        thread.start()
        self.stops.append((stopping, thread))

        def stop() -> None:
            stopping.set()
            thread.join(20)
            assert not thread.is_alive()

        return stop

    def settled(self, *emails: str, refused: bool = False) -> list[str]:
        """A job for each of these, settled in this order."""
        found = []
        for n, email in enumerate(emails):
            found.append(self.desk.accepted(email, n=n))
            if refused:
                self.desk.chartmogul.answers.append(REFUSED)
            self.desk.run()
        return found

    def wait_for(self, *jobs: str) -> None:
        wait_until(lambda: set(self.receiver.jobs()) >= set(jobs), what="all are told")

    def status(self) -> HookStatus:
        found = self.hooks.status()
        assert found is not None
        return found

    def dropped(self, count: int) -> dict[str, int]:
        """By status, what the receiver was told of as dropped, in one notice or several."""

        def told() -> int:
            return sum(each["count"] for each in self.receiver.of_type("hooks.dropped"))

        wait_until(lambda: told() >= count, what="all that was dropped is told")
        assert told() == count
        found: Counter[str] = Counter()
        for each in self.receiver.of_type("hooks.dropped"):
            found.update(each["by_status"])
        return dict(found)

    def wait_idle(self) -> None:
        """Until nothing is left, and all is noted."""
        wait_until(
            lambda: (
                self.status().behind == 0
                and not self.status().aside
                and self.status().taken == len(self.receiver.taken)
            ),
            what="nothing is left",
        )


@pytest.fixture
def relaying(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relaying]:
    """On the real server; `TestTheState` is on both."""
    monkeypatch.setattr(hook_order, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    monkeypatch.setattr(module, "OTHERS_S", 0.05)
    monkeypatch.setattr(module, "WATCH_S", 0.1)
    monkeypatch.setattr(state, "LEASE_S", 1.0)
    client = redis.Redis.from_url(server.url, decode_responses=True)
    found = Relaying(client)
    yield found
    for stopping, _ in found.stops:
        stopping.set()
    for _, thread in found.stops:
        thread.join(20)
    client.close()


def down(event: HookEvent) -> Refused:
    return Refused(reason="HTTP 503")


def only(*jobs: str) -> Callable[[HookEvent], Refused | None]:
    """Refuses events of these jobs, and no other."""

    def refuses(event: HookEvent) -> Refused | None:
        alone = event.data.get("job_id") in jobs
        return Refused(reason="HTTP 422", by_all=False) if alone else None

    return refuses


class TestTheState:
    """What a relay notes, on both servers, and each step made twice as if its answer was lost."""

    def step(self, hooks: Hooks, progress: Progress | None = None, **options: Any) -> Step:
        found = [
            hooks.step("me", holds=progress is not None, progress=progress, **options)
            for _ in range(2)
        ]
        assert found[1] is not None
        return found[1]

    def settled(self, client: redis.Redis, *emails: str) -> tuple[Hooks, list[str]]:
        hooks, desk = Hooks(client, KEYS), Desk(client)
        hooks.begin()
        jobs = [desk.accepted(email, n=1) for email in emails]
        desk.run()
        return hooks, jobs

    def test_reading_on_and_what_is_done(self, client: redis.Redis) -> None:
        hooks, jobs = self.settled(client, ADA, BOB, EVE)
        assert hooks.step("other", holds=True) is None, "it only believes so"
        step = self.step(hooks, most=2, measure=True)
        assert [record.fields["job"] for record in step.records] == jobs[:2]
        assert step.behind == 3
        assert hooks.step("other", holds=False) is None
        done = Progress(done={"outcomes": step.records[1].id, "handled": "2"})
        step = self.step(hooks, done, most=2, measure=True)
        assert [record.fields["job"] for record in step.records] == jobs[2:]
        assert step.behind == 1
        hooks.step("me", holds=True, release=True)
        assert hooks.step("other", holds=False) is not None

    def test_what_is_set_aside_and_what_of_it_is_dropped(self, client: redis.Redis) -> None:
        hooks, _ = self.settled(client, ADA, BOB, EVE)
        records = self.step(hooks, most=3).records
        asides = {each.name: Aside(record=each, since_us=5, failures=1) for each in records}
        self.step(hooks, Progress(aside=asides))
        assert hooks.asides() == list(asides.values())
        first, second, third = records
        too_old: dict[str, Record] = {second.name: second}
        self.step(hooks, Progress(gone=[first.name], too_old=too_old))
        assert [aside.record for aside in hooks.asides()] == [third]
        step = self.step(hooks, tell=True)
        assert step.dropped is not None
        assert step.dropped.counts == {"delivered": 1}
        assert self.step(hooks, Progress(told=step.dropped.id), tell=True).dropped is None

    def test_passing_over(self, client: redis.Redis) -> None:
        hooks, _ = self.settled(client, ADA, BOB, EVE)
        step = self.step(hooks, most=3)
        done = [step.records[1].id]
        passed, cursor = hooks.drop("me", "0-0", statuses=["delivered"], most=2, done=done)
        assert (passed, cursor) == (2, step.records[1].id)
        again = hooks.drop("me", "0-0", statuses=["delivered"], most=2)
        assert again == (0, "0-0"), "the same call again: the relay stands elsewhere by now"
        assert hooks.drop("other", cursor, statuses=["delivered"]) == (0, cursor)
        status = hooks.status()
        assert status is not None
        assert (status.dropped, status.behind) == (1, 1)


class TestTelling:
    def test_each_settled_job_once_and_in_order(self, relaying: Relaying) -> None:
        jobs = relaying.settled(ADA, ADA, BOB, ADA, BOB)
        relaying.start()
        jobs += relaying.settled(ADA, BOB, EVE)
        relaying.wait_for(*jobs)
        relaying.wait_idle()
        assert len(relaying.receiver.asked) == len(jobs)
        of_ada = [jobs[n] for n in (0, 1, 3, 5)]
        assert [job for job in relaying.receiver.jobs() if job in of_ada] == of_ada
        event = relaying.receiver.taken[0]
        assert (event.data["status"], event.data["attempts"]) == ("delivered", 1)

    def test_two_emails_at_once_and_one_email_never(self, relaying: Relaying) -> None:
        now: set[str] = set()
        most: list[int] = []

        def slow(event: HookEvent) -> None:
            email = event.data["email_hash"]
            assert email not in now, "two of one email at once"
            now.add(email)
            most.append(len(now))
            time.sleep(0.05)
            now.remove(email)

        relaying.receiver.refuses = slow
        jobs = relaying.settled(*[ADA, BOB, EVE] * 4)
        relaying.start()
        relaying.wait_for(*jobs)
        assert max(most) == 3
        assert len(relaying.receiver.asked) == len(jobs)

    def test_only_the_chosen_statuses(self, relaying: Relaying) -> None:
        relaying.start(statuses={"refused"})
        relaying.settled(ADA)
        [job] = relaying.settled(BOB, refused=True)
        relaying.settled(EVE)
        relaying.wait_for(job)
        relaying.wait_idle()
        assert relaying.receiver.jobs() == [job]
        assert relaying.receiver.taken[0].data["reason"] == "content"

    def test_a_replayed_job_is_told_again_and_each_time_as_it_stood(
        self, relaying: Relaying
    ) -> None:
        [job] = relaying.settled(ADA, refused=True)
        assert relaying.desk.health.replay(job)
        relaying.desk.acceptance.accept()
        relaying.desk.run()
        relaying.start()
        wait_until(lambda: len(relaying.receiver.taken) == 2)
        first, second = relaying.receiver.taken
        assert first.id != second.id
        assert [each.data["status"] for each in (first, second)] == ["refused", "delivered"]
        assert first.data["attempts"] == 0, "what is known of it is of its second outcome"

    def test_of_a_job_whose_outcome_is_gone_its_id_and_status(self, relaying: Relaying) -> None:
        [job] = relaying.settled(ADA)
        relaying.client.delete(KEYS.of("outcome", job))
        relaying.start()
        relaying.wait_for(job)
        data = relaying.receiver.taken[0].data
        assert {name: value for name, value in data.items() if value} == {
            "job_id": job,
            "account": "default",
            "status": "delivered",
        }

    def test_a_forgotten_email_is_not_told_by_what_was_read_before(
        self, relaying: Relaying, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [job] = relaying.settled(ADA)
        relaying.receiver.refuses = only(job)
        relaying.start(with_email=True)
        wait_until(lambda: relaying.receiver.asked)
        assert relaying.receiver.asked[0].data["email"] == ADA
        relaying.client.delete(KEYS.of("outcome", job))
        asked = len(relaying.receiver.asked)
        wait_until(lambda: len(relaying.receiver.asked) > asked + 1)
        assert "email" not in relaying.receiver.asked[-1].data

    def test_what_was_settled_before_hooks_began_is_not_told(self, relaying: Relaying) -> None:
        relaying.client.delete(KEYS.of("hooks"))
        relaying.settled(ADA)
        relaying.hooks.begin()
        [job] = relaying.settled(ADA)
        relaying.start()
        relaying.wait_for(job)
        assert relaying.receiver.jobs() == [job]

    def test_events_of_the_account_too(self, relaying: Relaying) -> None:
        relaying.desk.health.pause("moving house")
        relaying.desk.health.resume()
        relaying.start(statuses=())
        wait_until(lambda: len(relaying.receiver.taken) == 2)
        paused, resumed = relaying.receiver.taken
        assert (paused.type, resumed.type) == ("account.paused", "account.resumed")
        assert paused.data == {"account": "default", "by": "operator", "reason": "moving house"}
        since = datetime.fromisoformat(resumed.data["since"])
        assert since < resumed.at + timedelta(milliseconds=1), (
            "an event's time is to the millisecond"
        )

    def test_without_a_hook_there_is_no_key_and_no_thread(self, client: redis.Redis) -> None:
        desk = Desk(client)
        desk.accepted(ADA, n=1)
        desk.run()
        nothing: Any = None
        relays = start_relays(
            load_settings(), nothing, nothing, threading.Event(), email_hash=mailbox_id_of
        )
        assert relays == []
        assert not [key for key in client.keys("*") if "hook" in key]  # type: ignore[union-attr]

    def test_the_statuses_that_may_be_chosen_are_those_of_settled_jobs(self) -> None:
        assert {*SETTLED} == {*STATUSES} - {"pending", "disabled"}

    @pytest.mark.parametrize("damage", ["no JSON", "another type"])
    def test_a_damaged_outcome_costs_its_job_alone(self, relaying: Relaying, damage: str) -> None:
        bad, good = relaying.settled(ADA, BOB)
        key = KEYS.of("outcome", bad)
        relaying.client.delete(key)  # type: ignore[union-attr]
        if damage == "no JSON":
            relaying.client.set(key, "garbage")  # type: ignore[union-attr]
        else:
            relaying.client.rpush(key, "x")  # type: ignore[union-attr]
        relaying.start()
        wait_until(lambda: good in relaying.receiver.jobs())


class TestOneEventThatIsRefused:
    def test_holds_up_its_email_and_no_other(self, relaying: Relaying) -> None:
        jobs = relaying.settled(ADA, BOB, ADA, BOB, EVE)
        relaying.receiver.refuses = only(jobs[0])
        relaying.start()
        relaying.wait_for(jobs[1], jobs[3], jobs[4])
        wait_until(lambda: relaying.status().aside == 2)
        assert jobs[2] not in [event.data["job_id"] for event in relaying.receiver.asked]
        assert relaying.status().failing_since is None, "it says nothing of the receiver"
        jobs += relaying.settled(ADA)
        wait_until(lambda: relaying.status().aside == 3, what="it holds up no stream")
        wait_until(lambda: relaying.status().behind == 0)
        relaying.receiver.refuses = only()
        relaying.wait_for(*jobs)
        relaying.wait_idle()
        told = relaying.receiver.jobs()
        assert told.index(jobs[0]) < told.index(jobs[2])

    def test_is_known_to_the_next_relay_as_well(self, relaying: Relaying) -> None:
        jobs = relaying.settled(ADA, ADA, BOB)
        relaying.receiver.refuses = only(jobs[0])
        stop = relaying.start()
        wait_until(lambda: relaying.status().aside == 2)
        stop()
        jobs += relaying.settled(ADA)
        relaying.receiver.refuses = only()
        relaying.start()
        relaying.wait_for(*jobs)
        relaying.wait_idle()
        of_ada = [jobs[n] for n in (0, 1, 3)]
        assert [job for job in relaying.receiver.jobs() if job in of_ada] == of_ada

    def test_has_pauses_that_grow(self, relaying: Relaying) -> None:
        relaying.settled(ADA)
        times: list[float] = []

        def refuses(event: HookEvent) -> Refused:
            times.append(time.monotonic())
            return Refused(reason="HTTP 422", by_all=False)

        relaying.receiver.refuses = refuses
        relaying.start()
        wait_until(lambda: len(times) >= 5)
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses[3] > 0.19, "0.05 s, doubled three times, and of that half at least"

    def test_is_set_aside_up_to_a_number(
        self, relaying: Relaying, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_ASIDE", 3)
        jobs = relaying.settled(*EMAILS[:6])
        relaying.receiver.refuses = only(*jobs)
        relaying.start()
        wait_until(
            lambda: {event.data.get("job_id") for event in relaying.receiver.asked} >= {*jobs}
        )
        wait_until(lambda: relaying.status().dropped == 3)
        assert relaying.status().aside == 3
        relaying.receiver.refuses = only()
        assert relaying.dropped(3) == {"delivered": 3}
        wait_until(lambda: len(relaying.receiver.jobs()) == 3)


class TestAReceiverThatIsDown:
    def test_gets_single_events_and_everything_once_it_is_well(
        self, relaying: Relaying, caplog: pytest.LogCaptureFixture
    ) -> None:
        jobs = relaying.settled(*EMAILS, *EMAILS)
        relaying.receiver.refuses = down
        relaying.start()
        wait_until(lambda: len(relaying.receiver.asked) >= 10)
        status = relaying.status()
        assert status.failing_since is not None
        assert status.error == "HTTP 503"
        assert status.behind
        assert status.oldest_at is not None
        assert len(relaying.receiver.asked) < len(jobs)
        relaying.receiver.refuses = only()
        relaying.wait_for(*jobs)
        relaying.wait_idle()
        told = relaying.receiver.jobs()
        for first, second in zip(jobs[:12], jobs[12:], strict=True):
            assert told.index(first) < told.index(second)
        assert relaying.status().failing_since is None
        assert relaying.status().error is None
        assert caplog.text.count("takes no events: HTTP 503") == 1
        assert caplog.text.count("takes events again") == 1
        assert "Traceback" not in caplog.text

    def test_is_given_the_time_that_it_asks_for(self, relaying: Relaying) -> None:
        jobs = relaying.settled(ADA, BOB)
        times: list[float] = []

        def busy(event: HookEvent) -> Refused | None:
            times.append(time.monotonic())
            return Refused(reason="HTTP 429", retry_after_s=0.7) if len(times) <= 2 else None

        relaying.receiver.refuses = busy
        relaying.start()
        relaying.wait_for(*jobs)
        assert times[2] - times[1] >= 0.7

    def test_delays_no_settling(self, relaying: Relaying) -> None:
        """Nor does one that hangs: nobody but its own threads waits for it."""
        hangs = threading.Event()
        relaying.receiver.refuses = lambda event: hangs.wait(20) and None
        relaying.start()
        jobs = relaying.settled(*EMAILS)
        assert {relaying.desk.outcome(job).status for job in jobs} == {"delivered"}
        assert relaying.receiver.taken == []
        hangs.set()
        relaying.wait_for(*jobs)

    def test_after_the_retention_what_was_dropped_is_dropped_and_told(
        self, relaying: Relaying
    ) -> None:
        refused = relaying.settled(*EMAILS[:3], refused=True)
        jobs = refused + relaying.settled(*EMAILS)
        relaying.receiver.refuses = down
        relaying.start(retention_s=0.6)
        wait_until(lambda: relaying.status().dropped == len(jobs), timeout_s=30)
        assert relaying.status().behind == 0
        assert relaying.status().aside == 0
        relaying.receiver.refuses = only()
        assert relaying.dropped(len(jobs)) == {"refused": 3, "delivered": len(EMAILS)}
        notices = relaying.receiver.of_type("hooks.dropped")
        assert min(each["from"] for each in notices) < max(each["to"] for each in notices)
        later = relaying.settled(ADA)
        relaying.wait_for(*later)
        assert relaying.receiver.jobs() == later
        relaying.wait_idle()
        assert relaying.client.hmget(KEYS.of("hooks"), "notice", "gone") == [None, None]

    def test_when_too_many_wait_the_oldest_are_passed_over(
        self, relaying: Relaying, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_BEHIND", 4)
        jobs = relaying.settled(*EMAILS)
        relaying.receiver.refuses = down
        relaying.start()
        wait_until(lambda: relaying.status().behind <= 4)  # type: ignore[operator]
        relaying.receiver.refuses = only()
        wait_until(lambda: relaying.receiver.of_type("hooks.dropped"))
        relaying.wait_idle()
        dropped = relaying.receiver.of_type("hooks.dropped")
        told = relaying.receiver.jobs()
        assert sum(each["count"] for each in dropped) + len(told) == len(jobs)
        assert set(told) >= set(jobs[-4:])

    def test_what_the_stream_lost_is_counted(self, relaying: Relaying) -> None:
        """As it would be where no relay ran while very many jobs were settled."""
        jobs = relaying.settled(*EMAILS)
        relaying.client.xtrim(KEYS.outcomes, maxlen=5, approximate=False)
        relaying.start()
        relaying.wait_for(*jobs[-5:])
        assert relaying.dropped(7) == {"unknown": 7}
        assert relaying.receiver.jobs() == jobs[-5:]
        relaying.wait_idle()

    def test_so_are_events_of_the_account(self, relaying: Relaying) -> None:
        for n in range(6):
            relaying.desk.health.pause(f"reason {n}")
        relaying.client.xtrim(KEYS.of("events"), maxlen=2, approximate=False)
        relaying.start()
        wait_until(lambda: relaying.receiver.of_type("hooks.dropped"))
        [dropped] = relaying.receiver.of_type("hooks.dropped")
        assert (dropped["count"], dropped["account_events"]) == (4, 4)
        assert len(relaying.receiver.of_type("account.paused")) == 2

    def test_a_step_of_redis_clock_drops_nothing(
        self, relaying: Relaying, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        relaying.receiver.refuses = down
        jobs = relaying.settled(*EMAILS)
        clock = on_test_time(relaying.client, monkeypatch)
        relaying.hooks = Hooks(relaying.client, KEYS)
        relaying.start(retention_s=100)
        wait_until(lambda: relaying.status().failing_since)
        clock.step(10 * 86_400)
        asked = len(relaying.receiver.asked)
        wait_until(lambda: len(relaying.receiver.asked) > asked + 1)
        assert relaying.status().dropped == 0
        relaying.receiver.refuses = only()
        relaying.wait_for(*jobs)


class TestTheLease:
    def test_one_relay_at_a_time_and_the_next_after_a_stop(self, relaying: Relaying) -> None:
        other = FakeReceiver()
        stop = relaying.start()
        jobs = relaying.settled(ADA)
        relaying.wait_for(*jobs)
        relaying.start(receiver=other)
        jobs = relaying.settled(*EMAILS)
        relaying.wait_for(*jobs)
        assert other.asked == []
        stop()
        later = relaying.settled(*EMAILS)
        wait_until(lambda: set(other.jobs()) == set(later))

    def test_what_a_dead_relay_had_in_hand_is_told_by_another_one(self, relaying: Relaying) -> None:
        jobs = relaying.settled(ADA, BOB, ADA)
        dead = relaying.relay()
        dead.turn()
        wait_until(lambda: len(relaying.receiver.taken) == 2)
        relaying.start()
        wait_until(lambda: len(relaying.receiver.taken) == 5, what="two of them again")
        ids = [event.id for event in relaying.receiver.taken]
        assert len(set(ids)) == 3, "a repeat has the same id"
        assert [*dict.fromkeys(relaying.receiver.jobs())][-1] == jobs[2]

    def test_a_relay_that_stood_still_notes_nothing(
        self, relaying: Relaying, caplog: pytest.LogCaptureFixture
    ) -> None:
        slow = relaying.relay()
        slow.turn()
        relaying.start()
        jobs = relaying.settled(ADA)
        relaying.wait_for(*jobs)
        relaying.wait_idle()
        before = relaying.client.hgetall(KEYS.of("hooks"))
        slow.turn()
        after = relaying.client.hgetall(KEYS.of("hooks"))
        assert {**before, "until": "", "caught_up": ""} == {**after, "until": "", "caught_up": ""}


class TestWhatNobodyForesaw:
    def test_is_said_once_and_in_words(
        self, relaying: Relaying, caplog: pytest.LogCaptureFixture
    ) -> None:
        jobs = relaying.settled(ADA, BOB)
        broken = threading.Event()

        def raises(event: HookEvent) -> None:
            if not broken.is_set():
                raise KeyError("ada@example.com")

        relaying.receiver.refuses = raises
        relaying.start()
        wait_until(lambda: len(relaying.receiver.asked) >= 5)
        broken.set()
        relaying.wait_for(*jobs)
        assert caplog.text.count("unexpected error (KeyError in raises, line") == 1
        assert "Traceback" not in caplog.text
        assert "ada@example.com" not in caplog.text

    def test_a_damaged_key_ends_no_relay(
        self, relaying: Relaying, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "AFTER_ERROR_S", 0.1)
        relaying.client.hset(KEYS.of("hooks:aside"), "o1-1", "no JSON")
        relaying.start()
        wait_until(lambda: "unexpected error (JSONDecodeError" in caplog.text)
        relaying.client.delete(KEYS.of("hooks:aside"))
        jobs = relaying.settled(ADA)
        relaying.wait_for(*jobs)
