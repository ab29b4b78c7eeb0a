"""Redis's clock steps, on a real server (promise 12): a hiccup of seconds, and no job's end.

What is measured is the time until jobs are delivered, by a clock that never steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attribute_courier.producers import Receipt

from ..clocks import SteppedRedis, need_faketime, wait_for_step
from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"
SOON_S = 5
"""The promise is 2 s; the machine may be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SteppedRedis]:
    """One of its own, whose clock can be set."""
    need_faketime()
    with SteppedRedis(tmp_path / "redis") as found:
        yield found


class Clock:
    """A courier at work while Redis's clock steps."""

    def __init__(self, courier: Courier, server: SteppedRedis) -> None:
        self.courier, self.server = courier, server
        self.receipts: list[Receipt] = []
        courier.start_worker()
        self.goes_on()

    def step(self, offset_s: float) -> None:
        self.server.step_to(offset_s)
        wait_for_step(self.courier.client, offset_s)

    def ask(self) -> Receipt:
        n = len(self.receipts)
        self.receipts.append(self.courier.producer.add_attributes(f"{n}@load.example", {"n": n}))
        return self.receipts[-1]

    def goes_on(self) -> None:
        """Jobs are delivered soon, one after the other."""
        for _ in range(3):
            assert self.ask().wait(SOON_S).status == "delivered"


@pytest.fixture
def clock(courier: Courier, server: SteppedRedis) -> Clock:
    return Clock(courier, server)


@pytest.mark.parametrize("step_s", [1, -1, 5, 20, 45, -60, 3600, -3600])
def test_deliveries_go_on_after_a_step_and_after_it_was_put_right(
    clock: Clock, step_s: float
) -> None:
    """RC4, RC5, RC6. No job ends otherwise than it would have."""
    clock.step(step_s)
    clock.goes_on()
    clock.step(0)
    clock.goes_on()
    outcomes = [receipt.outcome() for receipt in clock.receipts]
    assert {outcome and outcome.status for outcome in outcomes} == {"delivered"}
    assert clock.courier.stand_in.stats()["overlaps"] == 0
    assert clock.courier.stand_in.stats()["by_status"].keys() == {"200"}
    assert "Traceback" not in clock.courier.log()


def test_a_backlog_is_delivered_at_the_accounts_pace_over_steps(clock: Clock) -> None:
    """Promise 4 holds by the account's time, which neither goes back nor jumps."""
    clock.courier.stand_in.configure(latency_s=0.1)
    receipts = [
        clock.courier.producer.add_attributes(f"{n}@load.example", {"pace": n}) for n in range(300)
    ]
    for offset_s in (30, 0, -60, 0, 2, 0, 3600):
        before = len(clock.courier.posts())
        clock.step(offset_s)
        wait_until(
            lambda seen=before: len(clock.courier.posts()) >= min(seen + 10, 300),  # type: ignore[misc]
            timeout_s=SOON_S,
            what=f"deliveries go on at {offset_s:+}",
        )
    outcomes = clock.courier.wait(*receipts, timeout_s=30)
    assert {outcome.status for outcome in outcomes} == {"delivered"}
    stats = clock.courier.stand_in.stats()
    assert stats["by_status"].get("429", 0) <= 2
    assert stats["overlaps"] == 0


@pytest.mark.parametrize("step_s", [30, -60])
def test_arrival_order_holds_over_steps_of_up_to_a_minute(clock: Clock, step_s: float) -> None:
    clock.courier.health().pause("so that all jobs meet in the mailbox")
    add = clock.courier.producer.add_attributes
    receipts = [add(ADA, {"plan": "first", "one": 1})]
    clock.step(step_s)
    receipts.append(add(ADA, {"plan": "second", "two": 2}))
    clock.step(0)
    receipts.append(add(ADA, {"plan": "third", "three": 3}))
    clock.courier.health().resume()
    clock.courier.wait(*receipts)
    assert clock.courier.custom(ADA) == {"plan": "third", "one": 1, "two": 2, "three": 3}
    clock.step(step_s)
    assert add(ADA, {"plan": "fourth"}).wait(SOON_S).status == "delivered"
    clock.step(0)
    assert add(ADA, {"plan": "fifth"}).wait(SOON_S).status == "delivered"
    assert clock.courier.custom(ADA)["plan"] == "fifth"


def test_status_names_the_step(clock: Clock) -> None:
    clock.step(3600)
    step = wait_until(lambda: clock.courier.health().status().clock_step)
    assert step.step_s == pytest.approx(3600, abs=2)
    wait_until(lambda: "Redis's clock stepped ahead by 3" in clock.courier.log())
    command = [sys.executable, "-m", "attribute_courier.cli", "status", "--format", "json"]
    shown = subprocess.run(
        command,
        env={**os.environ, **clock.courier.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "clock" in json.dumps(json.loads(shown.stdout))


def test_a_retry_is_not_put_off_by_a_step_back(clock: Clock) -> None:
    """Retries wait in a time that takes up steps back."""
    receipt = clock.courier.producer.add_attributes("late@example.com", {"plan": "pro"})
    wait_until(lambda: clock.courier.posts("late@example.com"), what="the first attempt")
    clock.step(-3600)
    began_s = time.monotonic()
    assert receipt.wait(10).status == "unmatched"
    assert time.monotonic() - began_s < 10


def test_a_hold_that_chartmogul_asked_for_ends_in_its_time(clock: Clock) -> None:
    """A step back after a 429 stops nothing."""
    clock.courier.stand_in.configure(retry_after="seconds", retry_after_s=2, rate_limit=1)
    receipts = [clock.ask() for _ in range(3)]
    wait_until(lambda: clock.courier.health().status().held_for_s, what="the account is held")
    clock.step(-3600)
    clock.courier.stand_in.configure(rate_limit=40)
    outcomes = clock.courier.wait(*receipts, timeout_s=10)
    assert {outcome.status for outcome in outcomes} == {"delivered"}
