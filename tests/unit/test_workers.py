"""Which workers are alive."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import redis

from attribute_courier.state.keys import Keys
from attribute_courier.state.workers import ALIVE_S, FORGOTTEN_S, Worker, Workers, alive

WORKER = Worker(
    id="w1",
    name="courier@a",
    version="1.0",
    concurrency=30,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def now_us() -> int:
    return time.time_ns() // 1000


def beats(client: Any, account: str = "default") -> dict[str, str]:
    found: dict[str, str] = client.hgetall(Keys(account).of("workers"))
    return found


def test_a_worker_is_alive_for_all_its_accounts_until_it_says_nothing(client: redis.Redis) -> None:
    at = now_us()
    Workers(client, ["default", "eu"]).beat(WORKER, at)
    for account in ("default", "eu"):
        [found] = alive(beats(client, account), at + 2_000_000)
        assert found == WORKER
        assert found.seen_s == 2
        assert list(alive(beats(client, account), at + round(ALIVE_S * 1e6) + 1)) == []


def test_a_step_of_the_clock_makes_no_dead_worker_alive_for_long(client: redis.Redis) -> None:
    Workers(client, ["default"]).beat(WORKER, now_us())
    assert list(alive(beats(client), now_us() - 3_600_000_000)) == []


def test_a_worker_that_ends_says_so(client: redis.Redis) -> None:
    workers = Workers(client, ["default"])
    workers.beat(WORKER, now_us())
    workers.beat(replace(WORKER, id="w2"), now_us())
    workers.leave("w1")
    assert list(beats(client)) == ["w2"]


def test_the_dead_are_forgotten_after_an_hour(client: redis.Redis) -> None:
    workers = Workers(client, ["default"])
    workers.beat(WORKER, now_us() - round(FORGOTTEN_S * 1e6) - 5_000_000)
    workers.beat(replace(WORKER, id="w2"), now_us() - 60_000_000)
    workers.forget_the_dead()
    assert list(beats(client)) == ["w2"]


def test_what_cannot_be_read_is_no_worker_and_is_forgotten(client: redis.Redis) -> None:
    workers = Workers(client, ["default"])
    workers.beat(WORKER, now_us())
    name = Keys("default").of("workers")
    client.hset(name, "bad", "garbage")
    client.hset(name, "other", f"{now_us()} []")
    assert [worker.id for worker in alive(beats(client), now_us())] == ["w1"]
    workers.forget_the_dead()
    assert "bad" not in beats(client)
