"""What is wrong, as one function decides it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from attribute_courier.operate.problems import FRESH_S, MAX_AGE_S, problems
from attribute_courier.state.account import AccountStatus, Circuit, ClockStep, Lane, Pause
from attribute_courier.state.counts import Counts
from attribute_courier.state.health import RedisHealth
from attribute_courier.state.hooks import HookStatus
from attribute_courier.state.workers import Worker

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NONE = Lane(due=0, oldest_s=0)
WORKER = Worker(id="w", name="courier@a", version="1", started_at=NOW)
WELL = AccountStatus(
    account="default",
    at=NOW,
    inbox=0,
    inbox_live=NONE,
    inbox_bulk=NONE,
    live=NONE,
    bulk=NONE,
    failing=NONE,
    later=0,
    in_flight=0,
    rate=39.2,
    rate_limit=39.2,
    requests_per_s=0,
    delivered_per_s=0,
    last_delivered_at=None,
    held_for_s=0,
    pause=None,
    circuit=None,
    failing_in_a_row=0,
    failing_reason=None,
    workers=(WORKER,),
    clock_step=None,
    clock_steps=0,
    repairs=0,
    counts=Counts(at=NOW),
    hour=Counts(at=NOW),
    layout="1",
)
REDIS = RedisHealth(
    version="8", used_bytes=10, maxmemory_bytes=0, policy="noeviction", persists=True
)
PAUSE = Pause(by="account", reason="HTTP 401: bad key", since=NOW, next_probe_at=None)
CIRCUIT = Circuit(reason="HTTP 503", opened_at=NOW, next_probe_at=NOW)
STEP = ClockStep(step_s=-30, at=NOW)
DUE = Lane(due=5, oldest_s=20)
OLD = Lane(due=5, oldest_s=MAX_AGE_S + 1)


def found(redis: RedisHealth = REDIS, **account: Any) -> list[tuple[str, str]]:
    return [(each.code, each.level) for each in problems([replace(WELL, **account)], redis)]


def test_nothing_where_all_is_well() -> None:
    assert found() == []
    assert found(live=DUE, last_delivered_at=NOW - timedelta(seconds=1)) == []
    assert found(live=Lane(due=5, oldest_s=2)) == [], "they have only just come"
    assert found(later=10) == [], "what is tried again later stops nobody"


@pytest.mark.parametrize(
    ("account", "codes"),
    [
        ({"workers": ()}, [("no_worker", "error")]),
        ({"pause": PAUSE, "bulk": DUE}, [("paused", "error")]),
        ({"circuit": CIRCUIT, "live": DUE}, [("circuit_open", "error")]),
        ({"failing_in_a_row": 1, "failing_reason": "HTTP 500"}, [("failing", "warning")]),
        ({"failing_in_a_row": 3, "failing_reason": "HTTP 500"}, [("failing", "error")]),
        ({"live": DUE}, [("nothing_delivered", "error")]),
        ({"live": DUE, "last_delivered_at": NOW - timedelta(seconds=11)},
         [("nothing_delivered", "error")]),
        ({"bulk": OLD, "last_delivered_at": NOW}, [("backlog_old", "error")]),
        ({"inbox": 5, "inbox_live": OLD, "last_delivered_at": NOW}, [("backlog_old", "error")]),
        ({"clock_step": STEP}, [("clock_step", "error")]),
        ({"clock_step": ClockStep(step_s=9, at=NOW - timedelta(seconds=FRESH_S))},
         [("clock_step", "warning")]),
        ({"held_for_s": 2.0, "live": DUE}, [("held", "warning")]),
        ({"layout": "0"}, [("layout", "error")]),
        ({"hour": Counts(at=NOW, jobs={("live", "failed", "server"): 5,
                                       ("live", "delivered", ""): 20})},
         [("failure_share", "warning")]),
        ({"hour": Counts(at=NOW, jobs={("live", "failed", "server"): 5})}, []),
    ],
)  # fmt: skip
def test_of_an_account(account: dict[str, Any], codes: list[tuple[str, str]]) -> None:
    assert found(**account) == codes


@pytest.mark.parametrize(
    ("redis", "codes"),
    [
        ({"policy": "allkeys-lru", "maxmemory_bytes": 100}, [("redis_evicts", "error")]),
        ({"policy": "allkeys-lru"}, []),
        ({"maxmemory_bytes": 10}, [("redis_full", "error")]),
        ({"maxmemory_bytes": 10_500_000, "used_bytes": 10_000_000},
         [("redis_nearly_full", "warning")]),
        ({"persists": False}, [("redis_not_persistent", "warning")]),
        ({"persists": None, "policy": None, "maxmemory_bytes": None}, []),
        ({"save_failed": True}, [("redis_save_failed", "error")]),
    ],
)  # fmt: skip
def test_of_redis(redis: dict[str, Any], codes: list[tuple[str, str]]) -> None:
    assert found(replace(REDIS, **redis)) == codes


def test_a_full_redis_takes_no_beat_so_it_is_not_said_that_no_worker_runs() -> None:
    full = replace(REDIS, maxmemory_bytes=10)
    assert found(full, workers=(), live=DUE) == [("redis_full", "error")]


def test_the_reason_is_in_the_text_and_the_most_urgent_comes_first() -> None:
    status = replace(WELL, pause=PAUSE, clock_step=STEP, workers=(), live=DUE)
    said = problems([status], REDIS)
    assert [each.code for each in said] == ["no_worker", "paused", "clock_step"]
    assert "HTTP 401: bad key" in said[1].text
    assert "jobs and emails waiting: 5" in said[0].text
    assert "back by 30.0 s" in said[2].text
    assert all(each.hint for each in said)


def test_a_receiver_of_hooks_that_takes_nothing() -> None:
    hook = HookStatus(
        behind=7,
        aside=2,
        oldest_at=NOW,
        failing_since=NOW - timedelta(seconds=90),
        error="HTTP 503",
        error_at=NOW,
        taken=3,
        taken_at=NOW,
        dropped=4,
    )
    [found] = problems([WELL], REDIS, hooks={"default": hook})
    assert (found.code, found.level) == ("hook_failing", "warning")
    for words in ("for 90 s: HTTP 503", "7 jobs still to be told", "dropped: 4"):
        assert words in found.text
    assert problems([WELL], REDIS, hooks={"default": replace(hook, failing_since=None)}) == []
