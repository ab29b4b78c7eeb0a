"""A worker that is asked to stop: what is in flight ends, and nothing further begins."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attribute_courier.config.vitals import Vitals, all_vitals
from attribute_courier.sandbox import LeashedProcess

from ..conftest import Courier
from ..processes import children_of
from ..waiting import wait_until

LATENCY_S = 1.5
BEGAN_BEFORE_S = 0.9
"""What had been claimed when the signal came may reach the stand-in so much later, at most."""


def start(
    courier: Courier, *arguments: str, parallel: int = 3, wrapper: tuple[str, ...] = ()
) -> LeashedProcess:
    """A worker that delivers a backlog to a slow ChartMogul, with all its places in use."""
    courier.stand_in.configure(latency_s=LATENCY_S)
    log = courier.logs / "worker-0.log"
    with log.open("wb") as stream:
        worker = LeashedProcess(
            [*wrapper, sys.executable, "-m", "attribute_courier", "worker", *arguments],
            env={
                **os.environ,
                **courier.environ,
                "COURIER_MAX_PARALLEL": str(parallel),
                "COURIER_TIMEOUT": "10s",
            },
            stdout=stream,
            stderr=stream,
        )
    courier.workers.append(worker)
    wait_until(lambda: " ready." in courier.log() or not worker.running, what="it is ready")
    for n in range(20):
        courier.producer.add_attributes(f"{n}@load.example", {"n": n})
    wait_until(lambda: len(in_flight(courier)) == parallel, what="all places are in use")
    return worker


def in_flight(courier: Courier) -> list[dict[str, Any]]:
    return [each for each in courier.posts() if each["ended_s"] is None]


def stopping_since_s() -> float:
    """When the worker took the signal, by the clock that the stand-in has, too."""

    def stops() -> list[Vitals]:
        return [each for each in all_vitals() if each.stopping_s is not None]

    [vitals] = wait_until(stops, what="it says that it stops")
    assert vitals.stopping_s is not None
    return vitals.stopping_s


def assert_nothing_further_began(courier: Courier, since_s: float) -> None:
    """And what was in flight has ended, with its outcomes."""
    posts = courier.posts()
    assert not [each for each in posts if each["arrived_s"] > since_s + BEGAN_BEFORE_S]
    assert {each["status"] for each in posts} == {200}
    delivered = [courier.outcomes.of_email(each["email"])[0].status for each in posts]
    assert set(delivered) == {"delivered"}
    assert courier.health().status().in_flight == 0


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_sigterm_starts_no_further_request(courier: Courier, pool: str) -> None:
    """A second SIGTERM changes nothing."""
    worker = start(courier, "--pool", pool, "--concurrency", "6")
    worker.send(signal.SIGTERM)
    since_s = stopping_since_s()
    worker.send(signal.SIGTERM)
    assert worker.popen.wait(40) == 0
    assert_nothing_further_began(courier, since_s)


@pytest.mark.long
def test_ctrl_c_does_the_same_with_another_exit_code(courier: Courier) -> None:
    worker = start(courier, "--pool", "solo", parallel=1)
    worker.send(signal.SIGINT)
    since_s = stopping_since_s()
    assert worker.popen.wait(40) == 1
    assert_nothing_further_began(courier, since_s)


def first_process(wrapper: LeashedProcess) -> int:
    """The process that `unshare` made the first of a namespace, by its number outside."""
    [pid] = wait_until(lambda: children_of(wrapper.pid), what="unshare has a child")
    return pid


@pytest.fixture
def unshare() -> tuple[str, ...]:
    """As a container's engine starts the first process of a container."""
    argv = ("unshare", "--pid", "--fork", "--kill-child", "--")
    if shutil.which("unshare") is None or subprocess.run([*argv, "true"], check=False).returncode:
        pytest.skip("needs unshare, and the right to make a namespace")
    return argv


@pytest.mark.long
def test_the_first_process_of_a_container_stops_as_any_other(
    courier: Courier, unshare: tuple[str, ...]
) -> None:
    """`docker stop`, and the end of a pod: SIGTERM to the entry point, which is the worker."""
    worker = start(courier, "--concurrency", "6", wrapper=unshare)
    os.kill(first_process(worker), signal.SIGTERM)
    since_s = stopping_since_s()
    assert worker.popen.wait(40) == 0
    assert_nothing_further_began(courier, since_s)


def test_the_first_process_of_a_container_ends_by_sigterm_from_its_start(
    courier: Courier, unshare: tuple[str, ...]
) -> None:
    """The kernel ignores what such a process does not handle; nobody waits until it is killed."""
    argv = [*unshare, sys.executable, "-m", "attribute_courier", "outcomes", "--follow"]
    command = LeashedProcess(argv, env={**os.environ, **courier.environ})
    courier.workers.append(command)
    pid = first_process(command)

    def caught() -> bool:
        [mask] = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
        return bool(int(mask, 16) >> signal.SIGTERM - 1 & 1)

    wait_until(caught, what="it handles SIGTERM")
    os.kill(pid, signal.SIGTERM)
    assert command.popen.wait(20) == 128 + signal.SIGTERM
