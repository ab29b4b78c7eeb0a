"""What Flower is told of jobs, and when."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from attribute_courier.jobs.outcome import Outcome
from attribute_courier.worker.notifier import EVENTS_KEPT, Notifier


@pytest.fixture
def notifier() -> Notifier:
    found = Notifier(lambda *_: None, lambda _: "hash")
    found.keep_events(True)
    return found


def outcome(job_id: str) -> Outcome:
    return Outcome(
        job_id=job_id,
        account="default",
        status="delivered",
        lane="live",
        email="ada@load.example",
        keys=("plan",),
        attempts=1,
        settled_at=datetime.now(UTC),
    )


class Sent(list[tuple[str, dict[str, Any]]]):
    def send(self, kind: str, **fields: Any) -> None:
        self.append((kind, fields))

    @property
    def ids(self) -> list[str]:
        return [fields["uuid"] for _, fields in self]


def test_an_event_bears_the_time_of_what_it_shows(notifier: Notifier) -> None:
    notifier.report(outcome("a"))
    shown_s = time.time()
    time.sleep(0.05)
    notifier.send_events(sent := Sent())
    [(kind, fields)] = sent
    assert (kind, fields["uuid"]) == ("task-succeeded", "a")
    assert fields["timestamp"] <= shown_s


def test_events_wait_for_a_connection_and_the_oldest_go(notifier: Notifier) -> None:
    for n in range(EVENTS_KEPT + 1):
        notifier.report(outcome(str(n)))
    notifier.send_events(sent := Sent())
    assert sent.ids == [str(n) for n in range(1, EVENTS_KEPT + 1)]


def test_where_nobody_sends_events_none_are_kept(notifier: Notifier) -> None:
    notifier.keep_events(False)
    notifier.report(outcome("a"))
    notifier.send_events(sent := Sent())
    assert not sent


def test_what_a_thread_shows_while_celery_flushes_is_sent(notifier: Notifier) -> None:
    """Before 5.7, its dispatcher empties its list after it has sent the list."""
    published: list[dict[str, Any]] = []

    def publish(events: list[dict[str, Any]], **_: Any) -> None:
        published.extend(events)
        if len(published) == 1:
            notifier.report(outcome("late"))

    app = Celery(broker="memory://", set_as_current=False)
    dispatcher = app.events.Dispatcher(app.connection_for_write(), buffer_group=["task"])
    dispatcher.producer = SimpleNamespace(publish=publish)
    notifier.report(outcome("early"))
    for _ in range(2):
        notifier.send_events(dispatcher)
        dispatcher.flush()
    assert [event["uuid"] for event in published] == ["early", "late"]
