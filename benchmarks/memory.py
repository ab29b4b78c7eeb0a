"""What Redis holds for a job, from the inbox to its outcome, and how quickly jobs are accepted.

`python -m benchmarks.memory` from the checkout; README.md explains the tables.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import redis

from .measure import ratio
from .processes import cpu_s, send, sessions
from .redis_use import held_bytes, use
from .report import Target, columns, tell
from .stage import Stage, email, staged, tidily, unlimited, until
from .ways import (
    CELERY,
    DRAMATIQ,
    ONE,
    TASKIQ,
    CourierWay,
    Custom,
    RivalWay,
    Running,
    courier_command,
    title,
)

THREE: Custom = [
    *ONE,
    {"type": "Integer", "key": "age", "value": 8},
    {"type": "Decimal", "key": "mrr", "value": 19.9},
]
WARM_UP = 100
QUIET_S = 1.0
BOUND_S = 120
NO_LIMIT = 10_000
FULL_RATE = 40
DAY_S = 86_400
GIGABYTE = 10**9

COURIER = CourierWay(rate_limit=NO_LIMIT)
RIVALS = tuple(replace(way, rate_limit=NO_LIMIT) for way in (CELERY, DRAMATIQ, TASKIQ))


@dataclass(frozen=True, kw_only=True)
class Held:
    """Bytes of Redis for each job, each for an email of its own."""

    way: str
    attributes: int
    handed_over: float
    """In the inbox, or as a message in a queue."""
    delivered: float
    """The outcome, and whatever else is kept."""
    waiting: float | None = None
    """In the email's mailbox. None for who has none: it goes on being a message."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What it took to bring jobs from the inbox into their mailboxes."""

    attributes: int
    jobs: int
    seconds: float
    worker_cpu_s: float
    redis_cpu_s: float


def courier(jobs: int, custom: Custom) -> tuple[Held, Accepted]:
    """Hand over jobs while a worker stands still; let it accept them; let it deliver them."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(unlimited()))
        running = stack.enter_context(COURIER.running(stage))
        client: Any = stack.enter_context(redis.Redis.from_url(stage.server.url))
        _warm_up(stage, running, custom)
        workers = sessions(running.pids())
        courier_command("pause")
        time.sleep(QUIET_S)
        empty = held_bytes(client)
        send(workers, signal.SIGSTOP)
        ids: list[str] = []
        running.producer.add_many(
            ((email(WARM_UP + number), custom) for number in range(jobs)),
            on_batch=lambda batch: ids.extend(map(str, batch.job_ids)),
        )
        inbox = held_bytes(client)
        before, spent_s, start_s = use(client), cpu_s(workers), time.monotonic()
        send(workers, signal.SIGCONT)
        if not until(lambda: running.accepted(ids[-1]), BOUND_S, look_every_s=0.02):
            raise RuntimeError(f"the courier did not accept {jobs} jobs within {BOUND_S} s")
        seconds = time.monotonic() - start_s
        accepted = Accepted(
            attributes=len(custom),
            jobs=jobs,
            seconds=seconds,
            worker_cpu_s=cpu_s(workers) - spent_s,
            redis_cpu_s=use(client).since(before).cpu_s,
        )
        until(lambda: all(map(running.accepted, ids)), BOUND_S)
        time.sleep(QUIET_S)
        waiting = held_bytes(client)
        courier_command("resume")
        delivered = _delivered(stage, jobs, client)
        until(lambda: running.settled(ids), BOUND_S)
        return Held(
            way="courier",
            attributes=len(custom),
            handed_over=(inbox - empty) / jobs,
            waiting=(waiting - empty) / jobs,
            delivered=(delivered - empty) / jobs,
        ), accepted


def rival(way: RivalWay, jobs: int, custom: Custom) -> Held:
    """Hand over jobs while a worker stands still; let it deliver them."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(unlimited()))
        running = stack.enter_context(way.running(stage))
        client: Any = stack.enter_context(redis.Redis.from_url(stage.server.url))
        _warm_up(stage, running, custom)
        workers = sessions(running.pids())
        empty = held_bytes(client)
        send(workers, signal.SIGSTOP)
        for number in range(jobs):
            running.send(email(WARM_UP + number), custom)
        queued = held_bytes(client)
        send(workers, signal.SIGCONT)
        delivered = _delivered(stage, jobs, client)
        return Held(
            way=title(way),
            attributes=len(custom),
            handed_over=(queued - empty) / jobs,
            delivered=(delivered - empty) / jobs,
        )


def _warm_up(stage: Stage, running: Running, custom: Custom) -> None:
    """Connections are opened, scripts are loaded, and Redis's own tables have their place."""
    for number in range(WARM_UP):
        running.send(email(number), custom)
    if not until(lambda: stage.delivered() >= WARM_UP, BOUND_S):
        raise RuntimeError(f"the first {WARM_UP} jobs were not delivered within {BOUND_S} s")
    time.sleep(QUIET_S)


def _delivered(stage: Stage, jobs: int, client: Any) -> int:
    """What Redis holds once all are delivered."""
    if not until(lambda: stage.delivered() >= WARM_UP + jobs, BOUND_S):
        raise RuntimeError(f"{jobs} jobs were not delivered within {BOUND_S} s")
    time.sleep(QUIET_S)
    return held_bytes(client)


def held_table(results: Sequence[Held]) -> list[list[str]]:
    """Bytes of Redis for each job."""
    lines = [["Redis, each job", "attributes", "handed over", "waiting", "delivered"]]
    for each in results:
        waiting = each.handed_over if each.waiting is None else each.waiting
        cells = [f"{value:,.0f} B" for value in (each.handed_over, waiting, each.delivered)]
        lines.append([each.way, str(each.attributes), *cells])
    return lines


def accepted_table(results: Sequence[Accepted]) -> list[list[str]]:
    """How quickly, and at what cost."""
    lines = [["accepting", "attributes", "jobs a second", "worker CPU each", "Redis CPU each"]]
    for each in results:
        cells = [f"{ratio(each.jobs, each.seconds):,.0f}"]
        for spent_s in (each.worker_cpu_s, each.redis_cpu_s):
            cells.append(f"{ratio(spent_s, each.jobs) * 1e6:,.0f} µs")
        lines.append([f"{each.jobs:,} jobs", str(each.attributes), *cells])
    return lines


def kept_bytes(each: float, days: float) -> float:
    """What an account at the full rate leaves behind, if outcomes are kept for so many days."""
    return each * FULL_RATE * DAY_S * days


def month(held: Held) -> list[str]:
    """The same in words."""
    jobs = FULL_RATE * DAY_S * 30
    return [
        f"An account that delivers {FULL_RATE} jobs a second for a month leaves {jobs:,} outcomes "
        "behind (computed):",
        f"kept for 30 days, {kept_bytes(held.delivered, 30) / GIGABYTE:,.0f} GB of Redis; "
        f"for a day, {kept_bytes(held.delivered, 1) / GIGABYTE:,.1f} GB.",
    ]


def targets(held: Sequence[Held]) -> list[Target]:
    """The courier's, for each number of attributes."""
    aims: list[tuple[str, float, Callable[[Held], float]]] = [
        ("delivered", 700, lambda each: each.delivered),
        ("waiting", 620, lambda each: each.waiting or 0),
    ]
    return [
        Target(
            what=f"Redis for a {name} job of {each.attributes} "
            + ("attribute" if each.attributes == 1 else "attributes"),
            sense="at most",
            aim=aim,
            found=value(each),
            unit="B",
        )
        for name, aim, value in aims
        for each in held
        if each.way == "courier"
    ]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.memory
  python -m benchmarks.memory --jobs 1000
"""
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=5_000,
    show_default=True,
    help="Each for an email of its own.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(jobs: int, path: Path | None) -> None:
    """Look at what Redis holds for jobs in the inbox, in mailboxes and delivered, without the
    buffers of its connections and of its append-only file; and at what the rivals hold there.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    held: list[Held] = []
    accepted: list[Accepted] = []
    with tidily():
        for custom in (ONE, THREE):
            click.echo(f"courier, {len(custom)} …", err=True)
            found, took = courier(jobs, custom)
            held.append(found)
            accepted.append(took)
        for way in RIVALS:
            click.echo(f"{title(way)} …", err=True)
            held.append(rival(way, jobs, ONE))
    click.echo(columns(accepted_table(accepted)) + "\n")
    tell(
        held_table(held),
        notes=month(held[0]),
        targets=targets(held),
        path=path,
        held=[asdict(each) for each in held],
        accepted=[asdict(each) for each in accepted],
    )


if __name__ == "__main__":
    main()
