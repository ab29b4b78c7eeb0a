"""The wake-up message, and the peace of an application's own Celery beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from celery import Celery, current_app
from kombu import pools

from attribute_courier.config import Secret, Settings, load_settings
from attribute_courier.config.celery import ACCEPT_QUEUE, ACCEPT_TASK, KEY_PREFIX, make_celery
from attribute_courier.jobs.errors import NotEnqueued
from attribute_courier.producers import Producer
from attribute_courier.producers.wakeup import WakeUp
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.result_backend import OutcomeBackend

from ..proxy import Proxy

QUEUE = KEY_PREFIX + ACCEPT_QUEUE


@pytest.fixture
def settings(server: EmbeddedRedis) -> Settings:
    return replace(load_settings(), redis_url=Secret(server.url), enqueue_timeout_s=1)


@pytest.fixture
def producer(settings: Settings) -> Iterator[Producer]:
    found = Producer(settings)
    yield found
    found.close()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as found:
        yield found


def soon() -> float:
    return time.monotonic() + 5


class TestTheMessage:
    def test_is_one_that_celery_reads(self, settings: Settings) -> None:
        assert WakeUp(settings).send("eu", deadline_s=soon())
        app = make_celery(settings)
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[ACCEPT_QUEUE](connection.default_channel)
            message = queue.get()
            assert message is not None
            assert queue.get() is None
        assert message.headers["task"] == ACCEPT_TASK
        assert message.headers["id"] == message.properties["correlation_id"]
        assert message.decode()[:2] == [["eu"], {}]

    def test_is_like_celerys_own(self, settings: Settings) -> None:
        app = make_celery(settings)
        app.send_task(ACCEPT_TASK, ["eu"])
        WakeUp(settings).send("eu", deadline_s=soon())
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[ACCEPT_QUEUE](connection.default_channel)
            theirs, ours = queue.get(), queue.get()
            assert theirs is not None
            assert ours is not None
        assert ours.decode() == theirs.decode()
        assert ours.headers.keys() <= theirs.headers.keys()
        for name in ("content_type", "content_encoding"):
            assert getattr(ours, name) == getattr(theirs, name)

    def test_is_not_sent_after_the_deadline(self, settings: Settings, client: redis.Redis) -> None:
        assert not WakeUp(settings).send("eu", deadline_s=time.monotonic())
        assert client.llen(QUEUE) == 0

    @pytest.mark.parametrize(
        "error",
        [
            redis.ConnectionError("gone"),
            redis.ResponseError("WRONGTYPE Operation against a key"),
            RuntimeError("Can't shrink pool when in use"),
            OSError("no descriptors"),
            ValueError("anything"),
        ],
    )
    def test_that_fails_is_a_warning_and_no_error(
        self, settings: Settings, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        client = Mock(lpush=Mock(side_effect=error))
        assert not WakeUp(settings, client).send("eu", deadline_s=soon())
        assert "no message sent to the workers" in caplog.text

    def test_that_hangs_ends_with_the_deadline(
        self, settings: Settings, server: EmbeddedRedis
    ) -> None:
        wakeup = WakeUp(replace(settings, enqueue_timeout_s=60))
        assert wakeup.send("eu", deadline_s=soon())
        server.pause()
        try:
            begin = time.monotonic()
            assert not wakeup.send("eu", deadline_s=begin + 0.5)
            assert time.monotonic() - begin < 10
        finally:
            server.resume()
        assert wakeup.send("eu", deadline_s=soon())
        wakeup.close()
        assert wakeup.send("eu", deadline_s=soon()), "and opens new connections"


class TestAnApplicationsCelery:
    def test_keeps_its_pools(self, producer: Producer, client: redis.Redis) -> None:
        """Kombu's pools, and their one limit, are shared by all apps of a process."""
        before = pools.get_limit()
        application = Celery("application", broker="memory://", set_as_current=False)
        application.conf.broker_pool_limit = 50
        try:
            with application.pool.acquire(block=True):
                producer.add_attributes("ada@example.com", {"plan": "pro"})
                with producer.celery.pool.acquire(block=True) as ours:
                    ours.default_channel  # noqa: B018  # connects
                assert application.pool.limit == 50
                assert pools.get_limit() == 50
            assert producer.celery.amqp.producer_pool not in pools.producers.values()
            assert producer.celery.pool not in pools.connections.values()
        finally:
            pools.reset()
            pools.set_limit(before, force=True)
        assert client.llen(QUEUE) == 1

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("CELERY_BROKER_URL", "amqp://rabbit.example"),
            ("CELERY_BROKER_READ_URL", "redis://redis.example"),
            ("CELERY_BROKER_WRITE_URL", "redis://redis.example"),
            ("CELERY_RESULT_BACKEND", "redis://redis.example"),
            ("CELERY_CONFIG_MODULE", "no_such_module"),
            ("CELERY_LOADER", "no.such.module:Loader"),
            ("DJANGO_SETTINGS_MODULE", "no_such_module"),
            ("FORKED_BY_MULTIPROCESSING", "1"),
        ],
    )
    def test_keeps_its_variables(
        self,
        settings: Settings,
        client: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        value: str,
    ) -> None:
        monkeypatch.setenv(name, value)
        producer = Producer(settings)
        producer.add_attributes("ada@example.com", {"plan": "pro"})
        assert client.llen(QUEUE) == 1
        app = producer.celery
        for connection in (app.connection_for_read(), app.connection_for_write()):
            assert (connection.hostname, connection.port) == ("127.0.0.1", settings.redis.port)
        assert isinstance(app.backend, OutcomeBackend)
        assert app.conf.task_default_queue == ACCEPT_QUEUE
        app.send_task(ACCEPT_TASK, ["default"])
        assert client.llen(QUEUE) == 2
        producer.close()

    def test_keeps_its_tasks_children(self, producer: Producer, client: redis.Redis) -> None:
        application = Celery("application", broker="memory://", set_as_current=False)

        @application.task(bind=True)
        def sign_up(task: Any) -> list[Any]:
            for n in range(7):
                client.delete("courier:{default}:inbox:live")  # so that each wakes a worker
                producer.add_attributes("ada@example.com", {"n": n})
            return list(task.request.children)

        assert sign_up.apply(throw=True).get() == []
        assert client.llen(QUEUE) == 7
        for text in client.lrange(QUEUE, 0, -1):
            headers = json.loads(text)["headers"]
            assert headers["root_id"] == headers["id"]
            assert headers["parent_id"] is None

    def test_stays_the_current_one(self, producer: Producer) -> None:
        application = Celery("application", broker="memory://")
        producer.add_attributes("ada@example.com", {"plan": "pro"})
        assert producer.celery.conf.task_default_queue == ACCEPT_QUEUE
        assert current_app._get_current_object() is application


@pytest.mark.parametrize("login", ["", "slow:hush@"])
def test_a_slow_way_to_redis_is_bounded_as_a_whole(
    server: EmbeddedRedis, client: redis.Redis, login: str
) -> None:
    """Each round trip takes 0.4 s: connecting, the script, its text, the message."""
    client.script_flush()
    client.execute_command("ACL", "SETUSER", "slow", "on", ">hush", "~*", "&*", "+@all")
    with Proxy(server.url, delay_s=0.2) as slow:
        place = slow.url.rpartition("@")[2].removeprefix("redis://")
        url = f"redis://{login}{place}" if login else slow.url
        producer = Producer(replace(load_settings(), redis_url=Secret(url), enqueue_timeout_s=2))
        for _ in range(3):
            begin = time.monotonic()
            assert producer.add_attributes("ada@example.com", {"plan": "pro"}).job_id
            assert time.monotonic() - begin < 2.5
        producer.close()


def test_a_way_that_is_too_slow_is_an_error_within_the_bound(server: EmbeddedRedis) -> None:
    with Proxy(server.url, delay_s=0.4) as slow:
        producer = Producer(
            replace(load_settings(), redis_url=Secret(slow.url), enqueue_timeout_s=0.5)
        )
        begin = time.monotonic()
        with pytest.raises(NotEnqueued, match="does not answer in time"):
            producer.add_attributes("ada@example.com", {"plan": "pro"})
        assert time.monotonic() - begin < 1
