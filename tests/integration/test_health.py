"""`courier health`, of real workers: what a container's engine is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attribute_courier.config.vitals import Vitals, all_vitals
from attribute_courier.operate.health import judge
from attribute_courier.sandbox import LeashedProcess

from ..conftest import Courier
from ..waiting import wait_until

COURIER = [sys.executable, "-m", "attribute_courier"]
CELERY = [sys.executable, "-m", "celery", "-A", "attribute_courier.worker", "worker"]


def health(*options: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COURIER, "health", *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def start(courier: Courier, *argv: str) -> LeashedProcess:
    log = courier.logs / "worker-0.log"
    before = courier.log().count(" ready.")
    with log.open("ab") as stream:
        worker = LeashedProcess(
            list(argv), env={**os.environ, **courier.environ}, stdout=stream, stderr=stream
        )
    courier.workers.append(worker)
    wait_until(lambda: courier.log().count(" ready.") > before or not worker.running)
    assert worker.running, courier.log()
    return worker


def broken(tmp_path: Path, *lines: str) -> list[str]:
    """A worker, a part of which is broken by a few lines of code."""
    script = tmp_path / "broken.py"
    script.write_text(
        "\n".join(
            [
                "import threading",
                "def hang(*args, **options):",
                "    threading.Event().wait()",
                "from attribute_courier.worker import account_worker, ticker",
                "from attribute_courier.worker.standalone import service",
                "liveness = service.liveness",
                *lines,
                "from attribute_courier.cli import main",
                "main(['worker', '--concurrency', '2'])",
            ]
        )
    )
    return [sys.executable, str(script)]


def one() -> Vitals:
    [vitals] = all_vitals()
    return vitals


def test_two_workers_of_any_name_and_what_becomes_of_them(courier: Courier) -> None:
    """Stopped and killed processes are seen at once; a graceful stop is nothing bad."""
    first = start(courier, *COURIER, "worker", "--name", "any name@here", "--concurrency", "2")
    second = start(courier, *CELERY, "-l", "info", "-n", "second@%h")
    code, said = health()
    assert code == 0
    assert f"worker any name@here (pid {first.pid}) works, 0 of 2 threads are busy" in said
    assert f"(pid {second.pid}) works, 0 of 30 threads are busy" in said

    second.send(signal.SIGSTOP)
    code, said = health()
    assert code == 1
    assert f"(pid {second.pid}): its process is stopped" in said
    assert health("--pid", str(first.pid))[0] == 0
    second.send(signal.SIGCONT)

    # A request is in flight while it stops.
    courier.stand_in.configure(latency_s=1.5)
    courier.producer.add_attributes("0@load.example", {"n": 1})
    wait_until(lambda: courier.posts("0@load.example") or courier.health().status().in_flight)
    for worker in (first, second):
        worker.send(signal.SIGTERM)
    stopping: list[Vitals] = []

    def seen() -> list[Vitals]:
        stopping[:] = [each for each in all_vitals() if each.stopping_s]
        return stopping

    wait_until(seen)
    found = judge(stopping, time.monotonic())
    assert not found.faults
    assert "stops; tasks that still run: " in found.said[0]
    for worker in (first, second):
        worker.popen.wait(20)
    assert all_vitals() == []
    assert health()[0] == 1

    third = start(courier, *COURIER, "worker", "--pool", "prefork", "--concurrency", "2")
    assert health()[0] == 0
    third.kill()
    code, said = health()
    assert code == 1
    assert f"(pid {third.pid}): its process is gone" in said


@pytest.mark.long
def test_nothing_that_a_restart_does_not_mend_makes_it_unhealthy(courier: Courier) -> None:
    """A pause, a broken key, and Redis silent and away: its parts go on trying."""
    worker = start(courier, *COURIER, "worker")
    courier.health().pause("by a test")
    assert health()[0] == 0
    for away, back in (
        (courier.server.pause, courier.server.resume),
        (courier.server.kill, courier.server.start),
    ):
        away()
        began_s = time.monotonic()
        wait_until(
            lambda s=began_s: min(one().consumer_s, one().ticker_s) > s + 1,  # type: ignore[misc]
            timeout_s=40,
            what="all parts go on",
        )
        assert health()[0] == 0
        back()
    assert worker.running


def test_a_worker_whose_ticker_hangs(courier: Courier, tmp_path: Path) -> None:
    start(courier, *broken(tmp_path, "ticker.Ticker.tick = hang"))
    wait_until(lambda: health("--max-age", "2s")[0])
    _, said = health("--max-age", "2s")
    assert "its ticker has hung for" in said
    assert health()[0] == 0, "it is not so long yet"


def test_a_worker_whose_consumer_hangs(courier: Courier, tmp_path: Path) -> None:
    """And one whose threads are all stuck, which the same worker becomes first."""
    start(
        courier,
        *broken(
            tmp_path,
            "liveness._task_limit_s = 1.0",
            "account_worker.AccountWorker.accept = hang",
            "from celery.worker.control import control_command",
            "@control_command(args=[])",
            "def hang_up(state): hang()",
        ),
    )
    celery = courier.producer.celery
    for _ in range(2):
        celery.send_task("attribute_courier.accept", ["default"])
    wait_until(lambda: health()[0])
    assert "each of its 2 threads has been stuck for" in health()[1]
    celery.control.broadcast("hang_up")
    wait_until(lambda: time.monotonic() - one().consumer_s > 2)
    assert "has been stuck" in health("--max-age", "1s")[1]
