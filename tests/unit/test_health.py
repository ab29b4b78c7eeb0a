"""What `courier ping` finds in a Redis that answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from click.testing import CliRunner

from attribute_courier.cli import main
from attribute_courier.sandbox import DEFAULT_API_KEY, EmbeddedRedis, SandboxProcess
from attribute_courier.state import health
from attribute_courier.state.keys import Keys

from ..conftest import Courier


@pytest.fixture
def admin(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as found:
        yield found


def ping(server: EmbeddedRedis, stand_in: SandboxProcess, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        main,
        ["ping"],
        env={
            "COURIER_REDIS_URL": server.url,
            "CHARTMOGUL_API_URL": stand_in.url,
            "CHARTMOGUL_API_KEY": DEFAULT_API_KEY,
            **environ,
        },
    )
    return result.exit_code, " ".join(result.output.split())


def test_the_types_are_those_that_a_courier_at_work_uses(courier: Courier) -> None:
    courier.start_worker()
    receipts = [
        courier.producer.add_attributes("0@load.example", {"n": 1}),
        courier.producer.add_attributes("1@load.example", {"n": 1}, lane="bulk"),
    ]
    courier.wait(*receipts)
    assert health.faults(courier.client, ("default",)) == []
    prefix = Keys("default").prefix
    once = {
        key.removeprefix(prefix)
        for key in courier.client.scan_iter(prefix + "*")
        if not key.removeprefix(prefix).startswith(
            ("outcome:", "job:", "mailbox:", "email:", "counts:", "idem:", "repair")
        )
    }
    assert once - health.TYPES.keys() == set()


def test_a_key_of_another_type_is_named(
    server: EmbeddedRedis, stand_in: SandboxProcess, admin: redis.Redis
) -> None:
    key = Keys("default").of("due:live")
    admin.set(key, "1")
    code, output = ping(server, stand_in)
    assert code == 3
    assert f"the key {key} has the type string, and must have the type zset" in output


def test_a_full_redis(server: EmbeddedRedis, stand_in: SandboxProcess, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "1")
    try:
        code, output = ping(server, stand_in)
    finally:
        admin.config_set("maxmemory", "0")
    assert code == 3
    assert "is out of memory (OOM" in output


def test_a_redis_that_throws_keys_away(
    server: EmbeddedRedis, stand_in: SandboxProcess, admin: redis.Redis
) -> None:
    admin.config_set("maxmemory", "1gb")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        code, output = ping(server, stand_in)
    finally:
        admin.config_set("maxmemory", "0")
        admin.config_set("maxmemory-policy", "noeviction")
    assert code == 3
    assert "maxmemory-policy allkeys-lru" in output


def test_a_proxy_that_cannot_be_used(server: EmbeddedRedis, stand_in: SandboxProcess) -> None:
    code, output = ping(server, stand_in, HTTPS_PROXY="gopher://hush")
    assert code
    assert "HTTPS_PROXY: a proxy's URL begins with" in output
    assert "hush" not in output
