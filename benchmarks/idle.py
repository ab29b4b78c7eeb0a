"""What an idle system costs, and how quickly it answers: from the call to the request, and from
the outcome to the application that waits for it.

`python -m benchmarks.idle` from the checkout; README.md explains the tables.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import click
import redis

from .measure import percentile, ratio
from .processes import cpu_s, sessions
from .redis_use import use
from .report import Target, columns, tell
from .stage import email, staged, tidily, unlimited, until
from .ways import CELERY, ONE, RIVALS, CourierWay, RunningCourier, Way, title

LATENCY_S = 0.03
"""Of the stand-in: `wait()` is to wait, and not to find an outcome that is there already."""
PAUSE_S = (0.1, 0.25)
"""Between two jobs, at random: no rhythm of a worker's may fit it."""
WARM_UP = 5
QUIET_S = 3
BOUND_S = 30


@dataclass(frozen=True, kw_only=True)
class Answered:
    """Jobs that came one by one."""

    way: str
    to_post_s: tuple[float, ...]
    """From before a job was handed over until its request arrived."""
    to_wait_s: tuple[float, ...]
    """From the last byte of ChartMogul's answer until `wait()` returned."""
    settled_to_wait_s: tuple[float, ...]
    """From the time of settling, as the outcome tells it, until `wait()` returned."""


@dataclass(frozen=True, kw_only=True)
class Quiet:
    """What workers without work take of Redis."""

    way: str
    workers: int
    commands_per_second: float
    worker_cpu_ms_per_second: float
    """Of all workers together."""


def answered(way: Way, jobs: int, seed: int) -> Answered:
    """Hand over one job at a time, each after the last one's outcome and a pause."""
    draw = Random(seed)
    to_post, to_wait, settled_to_wait = [], [], []
    with staged(unlimited(latency_s=LATENCY_S)) as stage, way.running(stage) as running:
        seen = 0
        for number in range(WARM_UP + jobs):
            time.sleep(draw.uniform(*PAUSE_S))
            start_s = time.monotonic()
            job = running.send_live(email(number), ONE)
            outcome: Any = running.wait(job) if running.wait else None
            returned_s, returned_at_s = time.monotonic(), time.time()
            del job  # Celery's result leaves its channel

            def arrived() -> list[dict[str, Any]]:
                log = stage.stand_in.requests(since=seen)  # noqa: B023
                return [each for each in log if each["ended_s"] is not None]

            if not until(lambda: bool(arrived()), BOUND_S, look_every_s=0.01):
                raise RuntimeError(f"{title(way)} did not deliver within {BOUND_S} s")
            [request] = arrived()
            seen = request["number"]
            if number < WARM_UP:
                continue
            to_post.append(request["arrived_s"] - start_s)
            if running.wait:
                to_wait.append(returned_s - request["ended_s"])
            if isinstance(running, RunningCourier):
                settled_to_wait.append(returned_at_s - outcome.settled_at.timestamp())
    return Answered(
        way=title(way),
        to_post_s=tuple(to_post),
        to_wait_s=tuple(to_wait),
        settled_to_wait_s=tuple(settled_to_wait),
    )


def bare(jobs: int, seed: int) -> Answered:
    """The same requests, with nothing between: what a POST itself takes to arrive."""
    draw = Random(seed)
    with ExitStack() as stack:
        stage = stack.enter_context(staged(unlimited(latency_s=LATENCY_S)))
        url = urlsplit(stage.stand_in.url)
        connection = HTTPConnection(str(url.hostname), url.port)
        stack.callback(connection.close)
        login = b64encode(f"{stage.stand_in.api_key}:".encode()).decode()
        headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
        path, started = f"{url.path}/customers/attributes/custom", []
        for number in range(WARM_UP + jobs):
            body = json.dumps({"email": email(number), "custom": ONE})
            time.sleep(draw.uniform(*PAUSE_S))
            started.append(time.monotonic())
            connection.request("POST", path, body, headers)
            connection.getresponse().read()
        log = zip(stage.stand_in.requests(), started, strict=True)
        to_post_s = [request["arrived_s"] - start_s for request, start_s in log]
    return Answered(
        way="POST alone, no queue",
        to_post_s=tuple(to_post_s[WARM_UP:]),
        to_wait_s=(),
        settled_to_wait_s=(),
    )


def quiet(way: Way, seconds: float) -> Quiet:
    """Let workers be idle, and count what Redis is asked meanwhile."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(unlimited()))
        running = stack.enter_context(way.running(stage))
        client: Any = stack.enter_context(redis.Redis.from_url(stage.server.url))
        time.sleep(QUIET_S)
        pids = sessions(running.pids())
        before, spent_s, start_s = use(client), cpu_s(pids), time.monotonic()
        time.sleep(seconds)
        found, took_s = use(client).since(before), time.monotonic() - start_s
        return Quiet(
            way=title(way) + (", 3 accounts" if isinstance(way, CourierWay) else ""),
            workers=way.workers,
            commands_per_second=ratio(found.commands, took_s),
            worker_cpu_ms_per_second=ratio(cpu_s(pids) - spent_s, took_s) * 1e3,
        )


def answered_table(results: Sequence[Answered]) -> list[list[str]]:
    """Milliseconds, at the median and for most."""
    head = ["one job, idle system", "call to POST p50", "p95", "answer to wait() p50", "p95"]
    lines = [[*head, "settled to wait() p50", "p95"]]
    for each in results:
        cells = [each.way]
        for values in (each.to_post_s, each.to_wait_s, each.settled_to_wait_s):
            cells += [_ms(percentile(values, share)) if values else "" for share in (0.5, 0.95)]
        lines.append(cells)
    return lines


def quiet_table(results: Sequence[Quiet]) -> list[list[str]]:
    """Of Redis and of the workers, a second."""
    lines = [["idle workers", "workers", "Redis commands a second", "worker CPU a second"]]
    for each in results:
        commands, cpu = each.commands_per_second, each.worker_cpu_ms_per_second
        lines.append([each.way, str(each.workers), f"{commands:.1f}", f"{cpu:.1f} ms"])
    return lines


def targets(jobs: Sequence[Answered], idle: Sequence[Quiet]) -> list[Target]:
    """The courier's, beside Celery's."""
    ours, celery = (next(each for each in jobs if each.way == name) for name in _COMPARED)
    to_post_ms = median(ours.to_post_s) * 1e3
    return [
        Target(
            what="add_attributes() to POST, median, beyond Celery's",
            sense="at most",
            aim=1.5,
            found=to_post_ms - median(celery.to_post_s) * 1e3,
            unit="ms",
        ),
        Target(
            what="from settled until wait() returns, median",
            sense="at most",
            aim=15,
            found=median(ours.settled_to_wait_s) * 1e3,
            unit="ms",
        ),
        Target(
            what="Redis commands a second, one idle worker",
            sense="at most",
            aim=5,
            found=next(each.commands_per_second for each in idle if each.workers == 1),
        ),
    ]


COURIER = CourierWay()
_COMPARED = (COURIER.name, CELERY.title)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.idle
  python -m benchmarks.idle --jobs 20 --seconds 5
"""
)
@click.option("--jobs", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="How long idle workers are looked at.",
)
@click.option(
    "--rivals/--no-rivals", default=True, show_default=True, help="Run all rivals, not only Celery."
)
@click.option("--seed", default=0, show_default=True, help="Of the pauses between jobs.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(jobs: int, seconds: float, rivals: bool, seed: int, path: Path | None) -> None:
    """Hand over one job at a time to an idle system, and look at idle workers: the courier's, and
    each rival's.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    found, idle = [], []
    others = RIVALS if rivals else (CELERY,)
    with tidily():
        for way in (COURIER, *others):
            click.echo(f"one job at a time: {title(way)} …", err=True)
            found.append(answered(way, jobs, seed))
        found.append(bare(jobs, seed))
        for quiet_way in (
            CourierWay(accounts=3),
            CourierWay(accounts=3, workers=4),
            *others,
        ):
            click.echo(f"idle: {title(quiet_way)} …", err=True)
            idle.append(quiet(quiet_way, seconds))
    click.echo(columns(answered_table(found)) + "\n")
    tell(
        quiet_table(idle),
        targets=targets(found, idle),
        path=path,
        jobs=[asdict(each) for each in found],
        idle=[asdict(each) for each in idle],
    )


if __name__ == "__main__":
    main()
