"""Whose turn it is in a worker that runs an application's own tasks, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency import solo, thread
from celery.worker import state as celery_state

from attribute_courier.config import Settings, configure
from attribute_courier.config.messages import ACCEPT_TASK, DELIVER_TASK
from attribute_courier.worker import hosted as module
from attribute_courier.worker.attached import attach
from attribute_courier.worker.host import Host
from attribute_courier.worker.hosted import STINT_S, HostedWorker, InConsumer
from attribute_courier.worker.notifier import LONGEST_PAUSE_S, Asking
from attribute_courier.worker.turns import Turns


class Running:
    """A task in the pool, as Celery's state lists it."""

    def __init__(self, name: str, account: str) -> None:
        self.name = name
        self.account = account


class Worker:
    """A worker's consumer, and the courier in it."""

    def __init__(self, room: int = 2) -> None:
        self.delivers = True
        self.room_for = room
        self.rests_s = 0.0
        self.asked = 0
        self.running: list[Running] = []
        self.acknowledged: list[str] = []
        self.timers: list[Callable[[], None]] = []
        consumer = SimpleNamespace(connection_errors=(OSError,), pool=None, timer=self)
        self.turns = Turns(self, consumer)
        self.handlers = {name: self.turns.of(name, self._handle(name)) for name in OURS}

    def answered(self) -> None:
        self.asked += 1

    def room(self, pool: None) -> int:
        return self.room_for

    def rest_s(self, pool: None) -> float:
        return self.rests_s

    def call_after(self, delay_s: float, call: Callable[[], None]) -> None:
        self.timers.append(call)

    def _handle(self, name: str) -> Callable[..., None]:
        def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
            request = Running(name, message.payload[0][0])
            self.running.append(request)
            celery_state.reserved_requests.add(request)

        return handle

    def get(self, account: str, name: str = DELIVER_TASK) -> None:
        """A message comes."""
        message = SimpleNamespace(payload=[[account], {}, {}])
        ack = lambda *_: self.acknowledged.append(account)  # noqa: E731
        self.handlers[name](message, None, ack, None, [])

    def end(self, account: str) -> None:
        """A task of this account ends."""
        request = next(each for each in self.running if each.account == account)
        self.running.remove(request)
        celery_state.reserved_requests.discard(request)

    def look(self) -> None:
        """The timers that are due."""
        due, self.timers = self.timers, []
        for call in due:
            call()

    @property
    def accounts(self) -> list[str]:
        return [each.account for each in self.running]


OURS = (ACCEPT_TASK, DELIVER_TASK)


@pytest.fixture(autouse=True)
def _nothing_runs() -> Iterator[None]:
    celery_state.reserved_requests.clear()
    yield
    celery_state.reserved_requests.clear()


def test_no_more_of_our_tasks_are_in_the_pool_than_there_is_room_for() -> None:
    worker = Worker(room=2)
    theirs = Running("host.own", "")
    celery_state.reserved_requests.add(theirs)  # counts for nothing
    for _ in range(5):
        worker.get("a")
    assert worker.accounts == ["a", "a"]
    assert worker.acknowledged == ["a"] * 5, "they fill nothing that a worker may reserve"


def test_of_the_messages_that_wait_one_is_kept_for_each_account() -> None:
    worker = Worker(room=1)
    for _ in range(5):
        worker.get("a")
    for _ in range(3):
        worker.end("a")
        worker.look()
        if not worker.running:
            break
    assert worker.accounts == []
    assert worker.timers == [], "nothing is looked for when nothing waits"


def test_accounts_take_turns() -> None:
    worker = Worker(room=1)
    worker.get("a")
    worker.get("b")
    turns = []
    for _ in range(6):
        [account] = worker.accounts
        turns.append(account)
        worker.end(account)
        worker.get(account)  # a stint asks for the next one at its end
    assert turns == ["a", "b", "a", "b", "a", "b"]


def test_what_waits_comes_into_the_pool_without_a_further_message() -> None:
    worker = Worker(room=1)
    worker.get("a")
    worker.get("b")
    worker.look()
    assert worker.accounts == ["a"]
    worker.end("a")
    worker.look()
    assert worker.accounts == ["b"]


def test_with_one_process_the_application_s_tasks_come_between_two_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("attribute_courier.worker.turns.time.monotonic", lambda: now_s)
    worker = Worker(room=1)
    worker.rests_s = 2.0
    worker.get("a")
    worker.get("b")
    theirs = Running("host.own", "")
    celery_state.reserved_requests.add(theirs)
    worker.end("a")
    for _ in range(10):
        worker.look()
    assert worker.accounts == [], "theirs wait, perhaps more of them in the broker's queue"
    celery_state.reserved_requests.discard(theirs)
    worker.look()
    assert worker.accounts == [], "the next one may be on its way"
    worker.look()
    worker.look()
    assert worker.accounts == ["b"]

    worker.get("a")
    celery_state.reserved_requests.add(theirs)
    worker.look()
    worker.end("b")
    worker.look()
    now_s += 1.9
    worker.look()
    assert worker.accounts == []
    now_s += 0.2
    worker.look()
    assert worker.accounts == ["a"], "ours get as much time as theirs"


def test_to_accept_takes_the_place_of_to_deliver() -> None:
    worker = Worker(room=1)
    worker.get("a")
    worker.get("b", DELIVER_TASK)
    worker.get("b", ACCEPT_TASK)
    worker.get("b", DELIVER_TASK)
    worker.end("a")
    worker.look()
    assert [each.name for each in worker.running] == [ACCEPT_TASK]


def test_what_cannot_or_shall_not_deliver_takes_messages_and_runs_nothing() -> None:
    worker = Worker(room=1)
    worker.get("a")
    worker.get("b")
    worker.delivers = False
    worker.get("c")
    worker.end("a")
    worker.look()
    assert worker.accounts == []
    assert worker.acknowledged == ["a", "b", "c"]


def test_a_consumer_that_has_connected_again_goes_on() -> None:
    """Celery has dropped its timers, and what it had received."""
    worker = Worker(room=1)
    worker.get("a")
    worker.get("b")
    worker.timers.clear()
    worker.handlers = {name: worker.turns.of(name, worker._handle(name)) for name in OURS}
    worker.get("c")
    worker.end("a")
    worker.look()
    assert worker.accounts == ["c"]


@pytest.mark.parametrize("payload", [None, [], [[]], [["a", "b"], {}, {}], {"kwargs": {}}])
def test_a_message_of_another_form_is_its_task_s_to_refuse(payload: Any) -> None:
    worker = Worker(room=0)
    message = SimpleNamespace(payload=payload)
    worker.handlers[ACCEPT_TASK](message, None, lambda *_: None, None, [])
    assert worker.timers, "it waits as any other"


def test_a_tick_that_nobody_answers_asks_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("attribute_courier.worker.notifier.time.monotonic", lambda: now_s)
    asking, asked = Asking(), []
    for _ in range(200):
        if asking.may_ask():
            asked.append(now_s - 100)
        now_s += 1
    assert asked[:6] == [0, 1, 3, 7, 15, 31]
    assert asked[-1] - asked[-2] == LONGEST_PAUSE_S
    asking.answered()
    assert asking.may_ask()
    assert not asking.may_ask()


class TestAnApplicationsWorker:
    @pytest.fixture
    def app(self) -> Celery[Any]:
        return Celery("host", broker="memory://", set_as_current=False)

    def prepared(
        self, app: Celery[Any], *, pool: Any = thread.TaskPool, queue: str | None = None
    ) -> HostedWorker:
        settings = Settings(
            redis_url="redis://nowhere.invalid", api_keys={"default": "key"}, concurrency=6
        )
        found = HostedWorker(app, settings, queue, lambda *_: None)
        found.prepare(SimpleNamespace(app=app, pool_cls=pool, hostname="x@y", task_events=False))
        return found

    @pytest.mark.parametrize(
        ("queue", "routes", "served", "room"),
        [
            (None, {}, None, 5),
            (None, {}, "celery", 5),
            ("ours", {}, "ours", 6),
            ("ours", {}, "celery,ours", 5),
            (None, {"attribute_courier.*": {"queue": "ours"}}, "ours", 6),
            (None, {"attribute_courier.*": "ours"}, "celery,ours", 5),
            (None, {"attribute_courier.accept": "ours"}, "ours", 6),
            ("celery", {}, "celery", 5),
        ],
    )
    def test_half_of_a_worker_is_the_courier_s_unless_it_has_one_for_itself(
        self, app: Any, queue: str | None, routes: Any, served: str | None, room: int
    ) -> None:
        app.conf.task_routes = routes
        app.amqp.queues.select(served and served.split(","))
        found = self.prepared(app, queue=queue)
        assert found.room(SimpleNamespace(num_processes=10)) == room
        assert found.room(SimpleNamespace(num_processes=1)) == 1
        assert found.rest_s(SimpleNamespace(num_processes=2)) == 0
        assert found.rest_s(SimpleNamespace(num_processes=1)) == (0 if room == 6 else STINT_S)

    def test_a_queue_that_is_not_served_is_not_added(self, app: Any) -> None:
        app.conf.task_routes = {"attribute_courier.*": {"queue": "ours"}}
        before = set(app.amqp.queues)
        assert not self.prepared(app)._prepared
        assert set(app.amqp.queues) == before

    @pytest.mark.parametrize("pool", ["gevent", "eventlet"])
    def test_a_green_pool_turns_it_off(
        self, app: Any, pool: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither of them need be installed."""
        green = type("TaskPool", (), {"__module__": f"celery.concurrency.{pool}"})
        found = self.prepared(app, pool=green)
        assert not found._prepared
        [record] = caplog.records
        assert record.levelname == "ERROR"
        assert "whose other tasks go on: a worker works with the pools threads" in record.message

    def test_that_cannot_start_the_courier_says_so(
        self, app: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = self.prepared(app)
        monkeypatch.setattr(found.service, "check_redis", lambda: None)
        monkeypatch.setattr(found.service, "start", lambda _: [][0])
        found._begin(None)
        assert not found.delivers
        assert "whose other tasks go on: IndexError" in caplog.text

    def test_asks_at_once_when_its_broker_is_back(
        self, app: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = Host(app, None, None)
        attach(app, lambda: found.service, host)
        found = host._worker = self.prepared(app)
        monkeypatch.setattr(found.service, "check_redis", lambda: None)
        monkeypatch.setattr(found.service, "start", lambda _: None)
        found._begin(None)
        asking = found.service.account_worker("default").asking
        assert asking is not None
        for _ in range(6):
            asking.may_ask()
            asking._again_s = 0.0
        asking.may_ask()
        assert not asking.may_ask(), "it has asked in vain for long"
        timer = SimpleNamespace(call_repeatedly=lambda *_: None)
        consumer = SimpleNamespace(app=app, event_dispatcher=None, timer=timer)
        InConsumer(consumer).start(consumer)
        assert asking.may_ask()

    def test_an_app_that_accepts_no_json_turns_it_off(
        self, app: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        app.conf.accept_content = ["yaml"]
        assert not self.prepared(app)._prepared
        assert "whose other tasks go on: the Celery app's accept_content lacks json" in caplog.text

    def test_an_account_without_a_key_turns_it_off(
        self, app: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        found = HostedWorker(app, Settings(redis_url="redis://r.invalid"), None, lambda *_: None)
        found.prepare(SimpleNamespace(app=app, pool_cls=solo.TaskPool, hostname="x@y"))
        assert not found._prepared
        assert "whose other tasks go on: no API key for the account 'default'" in caplog.text

    def test_turned_off_on_purpose_is_no_error(
        self, app: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        found = HostedWorker(app, Settings(enabled=False), None, lambda *_: None)
        found.prepare(SimpleNamespace(app=app, pool_cls=solo.TaskPool, hostname="x@y"))
        assert not found._prepared
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    def test_a_test_of_an_application_does_not_deliver_from_a_default_address(
        self, app: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure(Settings(api_keys={"default": "key"}))
        found = HostedWorker(app, None, None, lambda *_: None)
        found.prepare(SimpleNamespace(app=app, pool_cls=solo.TaskPool, hostname="x@y"))
        assert not found._prepared
        assert "pytest runs this, and nobody named a Redis" in caplog.text
        monkeypatch.setattr(module, "running_tests", lambda: "")
        found.prepare(
            SimpleNamespace(app=app, pool_cls=solo.TaskPool, hostname="x@y", task_events=False)
        )
        assert found._prepared

    def test_a_router_that_fails_does_not_end_the_worker(
        self, app: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def route(*_: Any, **__: Any) -> None:
            raise LookupError("a fault of the application")

        app.conf.task_routes = (route,)
        assert not self.prepared(app)._prepared
        assert "whose other tasks go on: LookupError" in caplog.text
