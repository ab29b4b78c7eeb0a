"""What goes to Redis and comes from it, on our own connections."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import redis

from attribute_courier.config import Settings, load_settings
from attribute_courier.config.celery import make_celery
from attribute_courier.config.connections import (
    AGE_S,
    connect_briefly,
    connect_patiently,
    until,
)
from attribute_courier.config.redis_errors import WrongServerError
from attribute_courier.sandbox import EmbeddedRedis

from ..waiting import wait_until


@pytest.mark.parametrize("connect", [connect_patiently, connect_briefly])
def test_bytes_that_are_no_text_come_through_and_go_back_as_they_were(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, connect: type[redis.Redis]
) -> None:
    """Whoever publishes a job may give it any id; it must be possible to remove it."""
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    with redis.Redis.from_url(server.url) as raw:
        raw.hset("inbox", b"\xff\xfe id", "\u00e9".encode())
        client = connect(load_settings())
        assert client.hgetall("inbox") == {"\udcff\udcfe id": "é"}
        client.hset("inbox", "\udcff\udcfe id", "ü")
        pipeline = client.pipeline(transaction=False)
        pipeline.hset("inbox", "\udcff", "é")
        pipeline.execute()
        client.close()
        assert raw.hgetall("inbox") == {b"\xff\xfe id": "ü".encode(), b"\xff": "é".encode()}


@pytest.mark.parametrize("connect", [connect_patiently, connect_briefly])
def test_a_command_whose_answer_was_lost_is_sent_once_more(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, connect: type[redis.Redis]
) -> None:
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    monkeypatch.setenv("COURIER_ENQUEUE_TIMEOUT", "20s")
    client = connect(load_settings())
    number = str(client.client_id())
    with redis.Redis.from_url(server.url) as other, ThreadPoolExecutor() as threads:

        def waits() -> bool:
            return bool(other.info("clients")["blocked_clients"])

        answer = threads.submit(client.blpop, ["list"], 4)
        wait_until(waits, what="the command is at Redis")
        assert other.client_kill_filter(_id=number) == 1
        other.rpush("list", "found")
        assert list(answer.result(timeout=20)) == ["list", "found"]
    client.close()


_WITH_AN_OLDER_HIREDIS = """
import hiredis
hiredis.__version__ = "0.1"
from redis.utils import HIREDIS_AVAILABLE
assert not HIREDIS_AVAILABLE
from attribute_courier.config import Settings, load_settings
from attribute_courier.config.connections import connect_briefly
client = connect_briefly(load_settings())
client.hset("inbox", "\\udcff", "é")
assert client.hgetall("inbox") == {"\\udcff": "é"}
assert client.script_load("return 1") == client.register_script("return 1").sha
"""


def test_a_hiredis_that_is_too_old_for_redis_py_costs_time_and_nothing_else(
    server: EmbeddedRedis,
) -> None:
    """Each release of redis-py leaves it unused unless it is newer than some version."""
    ran = subprocess.run(
        [sys.executable, "-c", _WITH_AN_OLDER_HIREDIS],
        env={**os.environ, "COURIER_REDIS_URL": server.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_value_that_redis_does_not_take_is_an_error_of_redis_py(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer tells it from a lost connection."""
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    client = connect_briefly(load_settings())
    for value in (None, ["\udcff"]):
        with pytest.raises(redis.DataError):
            client.set("\udcff", value)  # type: ignore[arg-type]
    client.close()


def test_kombus_connections_take_each_error_answer_for_a_lost_connection(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery's worker ends with an answer that it does not expect."""
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    with make_celery(load_settings()).connection_for_write() as connection:
        client = connection.channel().client
        with pytest.raises(WrongServerError, match="unknown command"):
            client.execute_command("NONSENSE")
        with pytest.raises(redis.exceptions.NoScriptError):
            client.evalsha("0" * 40, 0)
    ours = connect_briefly(load_settings())
    with pytest.raises(redis.ResponseError, match="unknown command"):
        ours.execute_command("NONSENSE")
    ours.close()


@pytest.mark.parametrize("connect", [connect_patiently, connect_briefly])
def test_a_connection_that_nobody_used_for_a_while_is_opened_anew(
    server: EmbeddedRedis, connect: type[redis.Redis]
) -> None:
    """It may lead to a primary that was cut off since, whose writes are lost."""
    client = connect(Settings(redis_url=server.url))
    first = client.client_id()
    assert client.client_id() == first
    [connection] = client.connection_pool._available_connections
    connection.opened_s -= AGE_S + 1
    second = client.client_id()
    assert second != first
    assert client.client_id() == second
    client.close()


def test_a_host_with_many_addresses_takes_no_more_time_than_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By themselves, each of them would take half of the enqueue timeout, twice."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:  # once its backlog is full, it answers nobody
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(silent.getsockname())
            except TimeoutError:
                break
        found = socket.getaddrinfo(*silent.getsockname(), type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found * 20)
        client = connect_briefly(Settings(redis_url="redis://many.example", enqueue_timeout_s=1))
        begin_s = time.monotonic()
        with pytest.raises(redis.TimeoutError), until(begin_s + 1):
            client.ping()
        assert time.monotonic() - begin_s < 8
        client.close()


@pytest.mark.parametrize(
    "url", ["redis://{}@r", "unix://{}@/r", "sentinel://{}@r/main", "cluster://{}@r"]
)
def test_no_password_is_in_what_a_client_looks_like(url: str) -> None:
    """Which trackers of errors write down."""
    settings = Settings(
        redis_url=url.format("ada:hush"),
        broker_url="redis://:hush@broker",
        sentinel_password="hush",
    )
    client = connect_briefly(settings)
    for each in (client, client.connection_pool, settings):
        assert "hush" not in repr(each)
    assert repr(client.connection_pool).startswith("<_Pool of ")
    client.close()
