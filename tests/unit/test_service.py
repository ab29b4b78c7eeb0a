"""What a worker has beside its tasks: when Redis is away, or holds what it does not read."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.concurrency import thread

from attribute_courier.config import Secret, Settings, load_settings
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.keys import Keys
from attribute_courier.worker import service as module
from attribute_courier.worker.service import WorkerService
from attribute_courier.worker.trouble import RedisTrouble

from ..waiting import wait_until

WORKER = SimpleNamespace(hostname="x@y", pool_cls=thread.TaskPool, concurrency=2)


@pytest.fixture
def settings(server: EmbeddedRedis) -> Settings:
    found = load_settings()
    return replace(found, redis_url=Secret(server.url), api_keys={"default": "key"})


@pytest.fixture
def service(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerService]:
    monkeypatch.setattr(module, "TICK_S", 0.01)
    found = WorkerService(settings, send=lambda *_: None)
    yield found
    found.stop(1)


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there may be threads of other tests
        return os.fork()


def ended_well(child: int) -> bool:
    """Whether a process ends with 0, and does so."""
    ended: list[int] = []

    def look() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(pid)

    try:
        wait_until(look, timeout_s=10)
    except AssertionError:
        os.kill(child, 9)
        os.waitpid(child, 0)
        return False
    return ended == [0]


def test_keys_of_another_layout_are_an_error_once_and_not_with_each_tick(
    service: WorkerService, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ticks: list[object] = []
    service.liveness.beat = ticks.append  # type: ignore[method-assign]
    with redis.Redis.from_url(settings.redis_url.reveal()) as client:
        client.set(Keys("default").of("layout"), "7")
        try:
            service.start(WORKER)
            wait_until(lambda: len(ticks) > 5)
            errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert len(errors) == 1
            assert "have layout '7'" in errors[0].message
            assert errors[0].exc_info is None
        finally:
            client.delete(Keys("default").of("layout"))


def test_a_silent_redis_does_not_keep_a_worker_from_stopping(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_WITHIN_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = Secret(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        service = WorkerService(replace(settings, redis_url=url), send=lambda *_: None)
        service.start(WORKER)
        began_s = time.monotonic()
        service.stop(0)
        assert time.monotonic() - began_s < 4, "it would try for longer"


class TestAProcessOfThePool:
    def test_is_not_in_the_trouble_that_its_parent_met(self, settings: Settings) -> None:
        trouble = RedisTrouble(settings)
        trouble.met("consumer", redis.ConnectionError("gone"))
        child = fork()
        if child == 0:
            trouble.forked()
            os._exit(int(trouble.present))
        assert ended_well(child)
        assert trouble.present

    @pytest.mark.parametrize("what", ["trouble", "broker_trouble", "stopping"])
    def test_does_not_wait_for_a_lock_that_its_parent_held(
        self, settings: Settings, what: str
    ) -> None:
        elsewhere = Secret("amqp://nowhere.invalid")
        service: Any = WorkerService(replace(settings, broker_url=elsewhere), send=lambda *_: None)
        part = getattr(service, what)
        lock: threading.Lock = part._cond if what == "stopping" else part._lock
        lock.acquire()
        child = fork()
        if child == 0:  # where nobody is to release it
            service.forked()
            if what == "stopping":
                part.wait(0.01)
            else:
                part.met("deliveries", redis.ConnectionError("gone"))
            os._exit(0)
        lock.release()
        assert ended_well(child)
