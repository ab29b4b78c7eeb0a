"""What people are told when Redis does not answer, or answers with an error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from attribute_courier.config import Secret, Settings, load_settings
from attribute_courier.config.connections import connect_briefly
from attribute_courier.config.redis_errors import (
    code_of,
    describe_redis_error,
    text_of,
)
from attribute_courier.config.rights import PRODUCER_RIGHTS, worker_rights
from attribute_courier.sandbox import EmbeddedRedis

from ..proxy import Proxy


@pytest.fixture
def settings(server: EmbeddedRedis) -> Settings:
    return replace(load_settings(), redis_url=Secret(server.url), enqueue_timeout_s=1)


@pytest.fixture
def admin(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as found:
        yield found


def said(settings: Settings, ask: Callable[[Any], Any] = lambda client: client.ping()) -> str:
    """What is said of the error that comes of asking."""
    client = connect_briefly(settings)
    with pytest.raises(redis.RedisError) as caught:
        ask(client)
    client.close()
    text = describe_redis_error(settings, caught.value)
    assert text.startswith(f"Redis at {settings.redis_address} ")
    assert "hush" not in text
    return text


def at(settings: Settings, login: str) -> Settings:
    place = settings.redis_url.reveal().removeprefix("redis://").rpartition("@")[2]
    return replace(settings, redis_url=Secret(f"redis://{login}{place}"))


class TestAnswersWithAnError:
    """Never "does not answer"."""

    def test_a_wrong_password(self, settings: Settings) -> None:
        text = said(at(settings, "ada:hush@"))
        assert "refuses the login (WRONGPASS invalid username-password pair" in text
        assert "check user and password in COURIER_REDIS_URL" in text
        assert "does not answer" not in text

    def test_no_password(self, settings: Settings) -> None:
        with Proxy(settings.redis_url.reveal()) as proxy:
            proxy.answer = b"-NOAUTH Authentication required.\r\n"
            text = said(replace(settings, redis_url=Secret(proxy.url)))
        assert "asks for a password (NOAUTH Authentication required)" in text
        assert "redis://user:password@host:6379/0" in text

    @pytest.mark.parametrize(
        ("rights", "ask", "words"),
        [
            ("~* +@all -time", lambda client: client.time(), "'time'"),
            ("~x:* +@all", lambda client: client.get("courier:y"), "key"),
            ("~* resetchannels +@all", lambda client: client.publish("courier:y", "1"), "channel"),
            (
                "~* +@all -time",
                lambda client: client.eval("return redis.call('TIME')", 1, "x"),
                "ACL failure in script",
            ),
        ],
    )
    def test_no_right(
        self, settings: Settings, admin: redis.Redis, rights: str, ask: Any, words: str
    ) -> None:
        admin.execute_command("ACL", "SETUSER", "ada", "reset", "on", ">hush", *rights.split())
        text = said(at(settings, "ada:hush@"), ask)
        assert "refuses a command, key or channel (NOPERM" in text
        assert words in text
        assert worker_rights() in text
        assert PRODUCER_RIGHTS in text

    def test_out_of_memory(self, settings: Settings, admin: redis.Redis) -> None:
        admin.config_set("maxmemory", "1")
        try:
            plain = said(settings, lambda client: client.set("x", "1"))
            script = "return redis.call('SET', KEYS[1], '1')"
            in_a_script = said(settings, lambda client: client.eval(script, 1, "x"))
        finally:
            admin.config_set("maxmemory", "0")
        for text in (plain, in_a_script):
            assert "is out of memory (OOM command not allowed" in text
            assert "maxmemory" in text
            assert "noeviction" in text

    def test_a_key_of_another_type(self, settings: Settings, admin: redis.Redis) -> None:
        admin.set("x", "1")
        for ask in (
            lambda client: client.lpush("x", "1"),
            lambda client: client.eval("return redis.call('LPUSH', KEYS[1], '1')", 1, "x"),
        ):
            text = said(settings, ask)
            assert "answers with an error (WRONGTYPE Operation against a key holding" in text
            assert "`courier ping` names it" in text
            assert "user_script" not in text

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            ("READONLY You can't write against a read only replica.", "is a replica, which takes"),
            ("MASTERDOWN Link with MASTER is down", "is a replica without its primary"),
            ("LOADING Redis is loading the dataset in memory", "is loading its data (LOADING"),
            ("UNBLOCKED force unblock from blocking operation", "changes its role (UNBLOCKED"),
            ("MISCONF Redis is configured to save RDB", "takes no writes (MISCONF"),
            ("NOREPLICAS Not enough good replicas to write.", "takes no writes (NOREPLICAS"),
            ("MOVED 3999 10.0.0.1:6381", "is part of a Redis Cluster"),
            ("CLUSTERDOWN Hash slot not served", "is part of a Redis Cluster"),
            ("ERR max number of clients reached", "answers with an error (max number of clients"),
            ("ERR unknown command 'EVALSHA'", "answers with an error (unknown command 'EVALSHA')"),
            ("BUSY Redis is busy running a script.", "answers with an error (BUSY Redis is busy"),
            ("ODD", "answers with an error (ODD)"),
            (
                "ERR Error running script (call to f_1): @user_script:7: @user_script: 7: "
                "-READONLY You can't write against a read only replica.",
                "is a replica, which takes no writes (READONLY You can't write",
            ),
        ],
    )
    def test_in_whatever_words(self, settings: Settings, answer: str, words: str) -> None:
        with Proxy(settings.redis_url.reveal()) as proxy:
            proxy.answer = f"-{answer}\r\n".encode()
            text = said(replace(settings, redis_url=Secret(proxy.url)))
        assert words in text
        assert "does not answer" not in text


class TestDoesNotAnswer:
    def test_nobody_listens(self, settings: Settings) -> None:
        text = said(replace(settings, redis_url=Secret("redis://:hush@127.0.0.1:1/0")))
        assert "does not answer (Connection refused); check COURIER_REDIS_URL" in text

    def test_an_unknown_name(self, settings: Settings) -> None:
        text = said(replace(settings, redis_url=Secret("redis://:hush@no-such.invalid/0")))
        assert "does not answer" in text
        assert "check COURIER_REDIS_URL" in text

    def test_silence(self, settings: Settings, server: EmbeddedRedis) -> None:
        server.pause()
        try:
            assert "does not answer in time; check COURIER_REDIS_URL" in said(settings)
        finally:
            server.resume()

    def test_something_else_listens(self, settings: Settings) -> None:
        with Proxy(settings.redis_url.reveal()) as proxy:
            proxy.answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
            text = said(replace(settings, redis_url=Secret(proxy.url)))
        assert "is no Redis" in text

    def test_tls_to_a_server_that_speaks_none(self, settings: Settings) -> None:
        url = settings.redis_url.reveal().replace("redis:", "rediss:")
        text = said(replace(settings, redis_url=Secret(url)))
        assert "TLS" in text or "does not answer" in text


def test_code_and_text_of_an_error() -> None:
    assert code_of(redis.ConnectionError("Connection closed by server.")) == ""
    assert code_of(redis.ResponseError("BUSY Redis is busy")) == "BUSY"
    assert text_of(redis.ResponseError("BUSY Redis is busy")) == "Redis is busy"
    assert code_of(redis.ResponseError("no code at all")) == "ERR"


def test_a_replicas_connection_is_not_used_again(
    settings: Settings, admin: redis.Redis, server: EmbeddedRedis
) -> None:
    """After a failover by DNS the old primary, a replica now, keeps its connections."""
    with Proxy(server.url) as proxy:
        client = connect_briefly(
            replace(settings, redis_url=Secret(proxy.url), enqueue_timeout_s=20)
        )
        client.set("x", "1")
        before = client.client_id()
        proxy.answer = b"-READONLY You can't write against a read only replica.\r\n"
        with pytest.raises(redis.ConnectionError):
            client.set("x", "2")
        proxy.answer = None
        client.set("x", "3")
        assert client.client_id() != before
        assert admin.get("x") == "3"
        client.close()


def test_many_threads_may_meet_it(settings: Settings, server: EmbeddedRedis) -> None:
    with Proxy(server.url) as proxy:
        client = connect_briefly(
            replace(settings, redis_url=Secret(proxy.url), enqueue_timeout_s=20)
        )
        threads = [threading.Thread(target=client.ping) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.answer = b"-READONLY no\r\n"
        with pytest.raises(redis.ConnectionError):
            client.ping()
        proxy.answer = None
        assert client.ping()
        client.close()
