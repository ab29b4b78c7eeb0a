"""What goes to Redis and comes from it, on our own connections."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.config.celery import make_celery
from attribute_courier.config.connections import connect_briefly, connect_patiently
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
from attribute_courier.config import load_settings
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
