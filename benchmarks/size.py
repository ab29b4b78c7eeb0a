"""Very many jobs for one email, each with a key of its own.

`python -m benchmarks.size` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from .measure import ratio
from .processes import cpu_s, sessions
from .report import Target, tell
from .stage import staged, strict, tidily, until
from .ways import CourierWay

AIM_S = 60
ONE_BY_ONE = 39.2
"""Requests a second of a way that makes one for each job."""


@dataclass(frozen=True, kw_only=True)
class Emptied:
    """What became of the jobs."""

    jobs: int
    delivered: int
    seconds: float
    """From the first handing over until the last job was settled."""
    requests: int
    most_attributes: int
    """In one request."""
    worker_cpu_s: float


def run(jobs: int, bound_s: float) -> Emptied:
    """Hand them over in one call of `add_many()`, to one worker."""
    address = "crowded@load.example"
    with staged(strict()) as stage, CourierWay().running(stage) as running:
        workers = sessions(running.pids())
        ids: list[str] = []
        spent_s, start_s = cpu_s(workers), time.monotonic()
        running.producer.add_many(
            ((address, {f"key_{number}": number}) for number in range(jobs)),
            on_batch=lambda batch: ids.extend(map(str, batch.job_ids)),
        )
        open_ids = list(ids)
        until(lambda: running.settled(open_ids), bound_s)
        seconds, spent_s = time.monotonic() - start_s, cpu_s(workers) - spent_s
        posts = [each for each in stage.stand_in.requests() if each["method"] == "POST"]
        return Emptied(
            jobs=jobs,
            delivered=sum(running.status(each) == "delivered" for each in ids),
            seconds=seconds,
            requests=len(posts),
            most_attributes=max((len(each["custom"] or ()) for each in posts), default=0),
            worker_cpu_s=spent_s,
        )


def table(results: Sequence[Emptied]) -> list[list[str]]:
    """Each run, and what one request a job would take at the limit."""
    head = ["jobs for one email", "delivered", "seconds", "requests", "most attributes"]
    lines = [[*head, "worker CPU", "one request each"]]
    for each in results:
        lines.append(
            [
                f"{each.jobs:,}",
                f"{each.delivered:,}",
                f"{each.seconds:.1f}",
                f"{each.requests:,}",
                f"{each.most_attributes:,}",
                f"{each.worker_cpu_s:.1f} s",
                f"{ratio(each.jobs, ONE_BY_ONE):,.0f} s",
            ]
        )
    return lines


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.size
  python -m benchmarks.size --jobs 500
"""
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1_250, 5_000),
    show_default=True,
    help="For one email. May be repeated: each is a run.",
)
@click.option(
    "--bound",
    "bound_s",
    type=click.FloatRange(min=1),
    default=150.0,
    show_default=True,
    help="Seconds after which a run is cut off.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(jobs: tuple[int, ...], bound_s: float, path: Path | None) -> None:
    """Hand over jobs of distinct keys for one email, to a strict stand-in for ChartMogul.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    results = []
    with tidily():
        for count in jobs:
            click.echo(f"{count:,} jobs …", err=True)
            results.append(run(count, bound_s))
    most = results[-1]
    tell(
        table(results),
        targets=[
            Target(
                what=f"{most.jobs:,} jobs for one email, settled",
                sense="at most",
                aim=AIM_S,
                found=most.seconds if most.delivered == most.jobs else float("inf"),
                unit="s",
            )
        ],
        path=path,
        results=[asdict(each) for each in results],
    )


if __name__ == "__main__":
    main()
