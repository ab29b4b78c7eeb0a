"""Sending our messages through an application's Celery app, without anybody having to wait."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from attribute_courier.config import publisher
from attribute_courier.config.messages import ACCEPT_SHOWN, ACCEPT_TASK
from attribute_courier.config.publisher import WAIT_S
from attribute_courier.worker.sender import Sender

from ..waiting import wait_until


class App(Celery):
    """An application's, whose broker hangs while `well` is not set."""

    def __init__(self) -> None:
        super().__init__("host", broker="memory://", set_as_current=False)
        self.well = threading.Event()
        self.well.set()
        self.sent: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.options: dict[str, Any] = {}

    def send_task(self, name: str, args: Any = None, **options: Any) -> Any:  # type: ignore[override]
        self.well.wait()
        if self.error is not None:
            raise self.error
        self.sent.append((name, args[0]))
        self.options = options


@pytest.fixture
def app() -> Iterator[App]:
    found = App()
    yield found
    found.well.set()


def send(sender: Sender, account: str = "a", *, task: str = ACCEPT_TASK, wait_s: float = 9) -> bool:
    return sender.send(task, account, ACCEPT_SHOWN, wait_s=wait_s)


def test_a_message_is_sent_as_the_courier_needs_it(app: App) -> None:
    assert wait_until(lambda: send(Sender(app, "ours")))
    assert app.sent[0] == (ACCEPT_TASK, "a")
    wanted = {"queue": "ours", "retry": False, "serializer": "json", "ignore_result": True}
    assert wanted.items() <= app.options.items()
    assert wait_until(lambda: send(Sender(app, None)))
    assert "queue" not in app.options


def test_who_does_not_want_to_wait_does_not(app: App) -> None:
    assert not send(Sender(app, None), wait_s=0)
    wait_until(lambda: app.sent == [(ACCEPT_TASK, "a")], what="it is sent all the same")


def test_a_broker_that_hangs_is_waited_for_once(app: App) -> None:
    app.well.clear()
    sender = Sender(app, None)
    assert not send(sender)
    began_s = time.monotonic()
    for _ in range(50):
        assert not send(sender)
    assert time.monotonic() - began_s < 50 * WAIT_S, "it is waited for once"
    app.well.set()
    assert wait_until(lambda: send(sender, "b"))
    assert app.sent[0] == (ACCEPT_TASK, "a"), "what was on its way is sent"
    assert app.sent.count((ACCEPT_TASK, "a")) < 50, "and what nobody waited for is not"


def test_one_thread_sends_for_all_that_begin_at_once(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)

    class Line(publisher._Line[Any]):
        def __init__(self, *args: Any) -> None:
            together.wait(20)
            super().__init__(*args)

    monkeypatch.setattr(publisher, "_Line", Line)
    sender, before = Sender(app, None), set(threading.enumerate())
    threads = [threading.Thread(target=send, args=[sender]) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(threading.enumerate()) - before) == 1
    assert wait_until(lambda: len(app.sent) == 2)


def test_the_applications_own_connections_are_left_alone(app: App) -> None:
    """Its pool may have one, and gunicorn's workers share what is in it with their parent."""
    assert wait_until(lambda: send(Sender(app, None)))
    assert app.options["connection"] not in (None, app.pool)
    assert app.amqp._producer_pool is None


def test_an_error_raises_nothing_and_is_said_once(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "REST_S", 0.0)
    app.error = OSError("amqp://user:password@broker.invalid is not there")
    sender = Sender(app, None)
    for _ in range(3):
        assert not send(sender)
    wait_until(lambda: caplog.records)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "find the jobs without one" in caplog.text
    assert "password" not in caplog.text
    app.error = None
    assert wait_until(lambda: send(sender))


def test_settings_of_the_application_that_cannot_be_read_raise_nothing(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.config_from_object("no.such.module")
    assert not send(Sender(app, None))
    assert "no message sent to the workers (ModuleNotFoundError)" in caplog.text


def test_an_eager_application_sends_nothing_and_is_not_warned(app: App) -> None:
    app.conf.task_always_eager = True
    assert not send(Sender(app, None))
    assert app.sent == []


def test_a_fork_sends_too(app: App) -> None:
    sender = Sender(app, None)
    assert wait_until(lambda: send(sender))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there is a thread
        child = os.fork()
    if child == 0:
        deadline = time.monotonic() + 20
        while not send(sender, "b") and time.monotonic() < deadline:
            pass
        os._exit(0 if (ACCEPT_TASK, "b") in app.sent else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
