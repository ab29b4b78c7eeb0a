"""What a delivery costs a worker and Redis, when nothing limits it.

`python -m benchmarks.cpu` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import redis

from .measure import ratio
from .processes import cpu_s, pin, resident_bytes, send, sessions
from .redis_use import use
from .report import Target, tell
from .stage import email, staged, tidily, unlimited, until
from .ways import CELERY, ONE, RIVALS, CourierWay, Way, title

NO_LIMIT = 10_000
COURIER = CourierWay(rate_limit=NO_LIMIT)
WAYS: tuple[Way, ...] = (
    COURIER,
    *(replace(way, concurrency=20, rate_limit=NO_LIMIT) for way in RIVALS),
)
COMPARED_WITH = CELERY.title
WARM_UP = 40
QUIET_S = 0.5
"""Seconds after the last answer in which outcomes are written."""
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one run took."""

    delivered: int
    seconds: float
    worker_cpu_s: float
    redis_cpu_s: float
    """To deliver."""
    commands: int
    reads: int
    handing_over_redis_cpu_s: float
    """Before that, while the workers stood still."""
    handing_over_commands: int
    worker_bytes: int
    """Memory of the worker at the end."""

    def each(self) -> dict[str, float]:
        """For a delivery; Redis's with handing over."""
        parts = {
            "worker": self.worker_cpu_s,
            "redis": self.redis_cpu_s + self.handing_over_redis_cpu_s,
            "commands": self.commands + self.handing_over_commands,
            "trips": self.reads,
        }
        return {name: ratio(part, self.delivered) for name, part in parts.items()}


def run(way: Way, emails: int, bound_s: float) -> Spent:
    """Hand over a job for each email while the workers stand still, and let them deliver."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(unlimited()))
        running = stack.enter_context(way.running(stage))
        client: Any = stack.enter_context(redis.Redis.from_url(stage.server.url))
        for number in range(WARM_UP):  # connections are opened, and scripts are loaded
            running.send(email(number), ONE)
        if not until(lambda: stage.delivered() >= WARM_UP, bound_s):
            raise RuntimeError(f"{title(way)} did not deliver the first {WARM_UP} jobs")
        time.sleep(QUIET_S)
        workers = sessions(running.pids())
        if len(cpus := sorted(os.sched_getaffinity(0))) > 1:
            pin(workers, {cpus[-1]})
            pin([stage.server.pid, stage.stand_in.pid, os.getpid()], set(cpus[:-1]))
            stack.callback(pin, [os.getpid()], set(cpus))
        send(workers, signal.SIGSTOP)
        at_first = use(client)
        for number in range(WARM_UP, WARM_UP + emails):
            running.send(email(number), ONE)
        handed_over, spent_s, start_s = use(client), cpu_s(workers), time.monotonic()
        send(workers, signal.SIGCONT)
        until(lambda: stage.delivered() >= WARM_UP + emails, bound_s)
        seconds = time.monotonic() - start_s
        time.sleep(QUIET_S)
        asked, delivering = handed_over.since(at_first), use(client).since(handed_over)
        return Spent(
            delivered=stage.delivered() - WARM_UP,
            seconds=seconds,
            worker_cpu_s=cpu_s(workers) - spent_s,
            redis_cpu_s=delivering.cpu_s,
            commands=delivering.commands,
            reads=delivering.reads,
            handing_over_redis_cpu_s=asked.cpu_s,
            handing_over_commands=asked.commands,
            worker_bytes=resident_bytes(workers),
        )


def medians(runs: Sequence[Spent]) -> dict[str, float]:
    """Of each figure for a delivery."""
    each = [spent.each() for spent in runs]
    return {name: median(one[name] for one in each) for name in each[0]}


def table(runs: Mapping[str, Sequence[Spent]]) -> list[list[str]]:
    """Medians of each way's runs, and their ratio to Celery's."""
    head = ["way", "delivered", "per s", "worker CPU each", "vs celery", "Redis CPU each"]
    lines = [[*head, "vs celery", "commands each", "round trips each", "memory"]]
    celery = medians(runs[COMPARED_WITH]) if COMPARED_WITH in runs else None
    for name, spent in runs.items():
        found = medians(spent)
        lines.append(
            [
                name,
                f"{sum(each.delivered for each in spent):,}",
                f"{median(ratio(each.delivered, each.seconds) for each in spent):,.0f}",
                f"{found['worker'] * 1e3:.2f} ms",
                f"{found['worker'] / celery['worker']:.2f}" if celery else "",
                f"{found['redis'] * 1e3:.2f} ms",
                f"{found['redis'] / celery['redis']:.2f}" if celery else "",
                f"{found['commands']:.1f}",
                f"{found['trips']:.2f}",
                f"{median(each.worker_bytes for each in spent) / MEBIBYTE:,.0f} MiB",
            ]
        )
    return lines


def notes(runs: Mapping[str, Sequence[Spent]]) -> list[str]:
    """What handing over alone took of Redis."""
    return [
        f"{name}: of these, handing over took {cpu_ms:.2f} ms of Redis and {commands:.1f} commands"
        for name, spent in runs.items()
        for cpu_ms, commands in [
            (
                median(ratio(each.handing_over_redis_cpu_s, each.delivered) for each in spent)
                * 1e3,
                median(ratio(each.handing_over_commands, each.delivered) for each in spent),
            )
        ]
    ]


def targets(runs: Mapping[str, Sequence[Spent]]) -> list[Target]:
    """The courier's, beside Celery with its result backend."""
    ours, celery = medians(runs[COURIER.name]), medians(runs[COMPARED_WITH])
    return [
        Target(
            what="CPU of the worker for a delivery, Celery's is 1",
            sense="at most",
            aim=0.7,
            found=ratio(ours["worker"], celery["worker"]),
        ),
        Target(
            what="CPU of Redis for a delivery, Celery's is 1",
            sense="at most",
            aim=1.2,
            found=ratio(ours["redis"], celery["redis"]),
        ),
        Target(
            what="Redis commands for a delivery", sense="at most", aim=50, found=ours["commands"]
        ),
    ]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.cpu
  python -m benchmarks.cpu --emails 500 --rounds 1
"""
)
@click.option("--emails", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=2,
    show_default=True,
    help="How often each way gets its turn.",
)
@click.option(
    "--bound",
    "bound_s",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds after which a run is cut off.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(emails: int, rounds: int, bound_s: float, path: Path | None) -> None:
    """Deliver a job of one attribute for each email to a stand-in for ChartMogul that has no limits
    and answers at once: with the courier, and with each of its rivals.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    runs: dict[str, list[Spent]] = {title(way): [] for way in WAYS}
    with tidily():
        for number in range(rounds):
            for way in WAYS:
                click.echo(f"round {number + 1} of {rounds}: {title(way)} …", err=True)
                runs[title(way)].append(run(way, emails, bound_s))
    tell(
        table(runs),
        notes=notes(runs),
        targets=targets(runs),
        path=path,
        runs={name: [asdict(each) for each in spent] for name, spent in runs.items()},
    )


if __name__ == "__main__":
    main()
