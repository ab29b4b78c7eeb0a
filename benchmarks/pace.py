"""The pace: how near to the account's limits, and how rarely over them.

`python -m benchmarks.pace` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from attribute_courier.sandbox import SandboxConfig

from .measure import Measurement, measure
from .report import Target, tell
from .stage import email, staged, strict, tidily
from .ways import (
    CELERY,
    CUSTOM,
    DRAMATIQ,
    FLOOR,
    OFFICIAL,
    TASKIQ,
    CourierWay,
    RunningCourier,
    Way,
    title,
)

LIMIT = 40
"""Requests in any second that the stand-in allows."""
HIDDEN_WARM_UP_S = 30
HIDDEN_LOAD_S = 75
RESTARTS_WORKERS = 4
QUIET_S = 0.5
"""Seconds after the last answer in which outcomes are written."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What every way has to do, and against what."""

    emails: int
    bound_s: float
    seed: int
    hidden_limit: int | None = None
    warm_up_s: float = 0.0

    def stand_in(self) -> SandboxConfig:
        return strict(hidden_rate_limit=self.hidden_limit, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one way's run; `counts` are its own."""

    way: Way
    measured: Measurement
    counts: dict[str, int]

    @property
    def name(self) -> str:
        workers = getattr(self.way, "workers", 1)
        name = title(self.way)
        return (
            name
            if isinstance(self.way, CourierWay) or workers == 1
            else f"{name}, {workers} workers"
        )


def run(way: Way, load: Load) -> Result:
    """Let one way deliver, on servers of its own, until it is done or its time is up."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(load.stand_in()))
        running = stack.enter_context(way.running(stage))
        deadline = time.monotonic() + load.bound_s
        job_ids = []
        for number in range(load.emails):
            handle = running.send(email(number), CUSTOM)
            if isinstance(running, RunningCourier):
                job_ids.append(handle.job_id)
            running.tick()  # sending takes many seconds, too
        while stage.delivered() < load.emails and time.monotonic() < deadline:
            running.tick()
            time.sleep(0.25)
        time.sleep(QUIET_S)
        log, stats = stage.stand_in.requests(), stage.stand_in.stats()
        counts: Counter[str] = Counter()
        if isinstance(running, RunningCourier):
            counts.update(str(running.status(job_id)) for job_id in job_ids)
            counts += running.made
        measured = measure(log, stats, emails=load.emails, warm_up_s=load.warm_up_s)
        return Result(way=way, measured=measured, counts=dict(counts))


def table(results: list[Result]) -> list[list[str]]:
    """The results in columns, and how much of the limit each makes use of."""
    lines = [
        [
            "way",
            "delivered",
            "seconds",
            "per s",
            "of the limit",
            "to 95 %",
            "429",
            "at once",
            "in 1 s",
            "requests each",
        ]
    ]
    for result in results:
        it = result.measured
        lines.append(
            [
                result.name,
                f"{it.delivered:,} of {it.emails:,}",
                f"{it.seconds:.1f}",
                f"{it.per_second:.1f}",
                f"{it.per_second / LIMIT:.1%}",
                f"{it.per_second_to_95:.1f}",
                f"{it.share_429:.2%}",
                str(it.most_at_once),
                str(it.most_in_a_second),
                f"{it.per_delivery:.3f}",
            ]
        )
    return lines


def notes(results: list[Result]) -> list[str]:
    """What each way counted itself, and two requests at once for one email."""
    return [
        f"{result.name}: "
        + ", ".join(
            f"{count:,} {name}"
            for name, count in {**result.counts, "overlaps": result.measured.overlaps}.items()
        )
        for result in results
        if result.counts or result.measured.overlaps
    ]


def targets(results: list[Result]) -> list[Target]:
    """The courier's, over all numbers of workers."""
    ours = [each.measured for each in results if isinstance(each.way, CourierWay)]
    return [
        Target(
            what="share of the limit, slowest number of workers",
            sense="at least",
            aim=97,
            found=min(each.per_second for each in ours) / LIMIT * 100,
            unit="%",
        ),
        Target(
            what="answered 429, most",
            sense="at most",
            aim=0.1,
            found=max(each.share_429 for each in ours) * 100,
            unit="%",
        ),
        Target(
            what="requests at once, most",
            sense="at most",
            aim=20,
            found=max(each.most_at_once for each in ours),
        ),
        Target(
            what="two requests at once for one email",
            sense="at most",
            aim=0,
            found=sum(each.overlaps for each in ours),
        ),
    ]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.pace
  python -m benchmarks.pace --emails 300 --workers 2 --no-rivals
  python -m benchmarks.pace --hidden-limit 25 --workers 2
  python -m benchmarks.pace --restarts --seed 3 --json restarts.json
"""
)
@click.option("--emails", type=click.IntRange(min=1), help="2000; with --hidden-limit 3000.")
@click.option(
    "--workers",
    type=click.IntRange(1, 16),
    multiple=True,
    default=(1, 2, 4),
    show_default=True,
    help="Worker processes of the courier. May be repeated: each is a run.",
)
@click.option(
    "--rate-limit",
    type=click.FloatRange(min=0.1),
    help="COURIER_RATE_LIMIT, if not its default; the stand-in allows 40.",
)
@click.option(
    "--hidden-limit",
    type=click.IntRange(min=1),
    help=f"A second limit, which nobody is told: {HIDDEN_LOAD_S} s of load, of which the first "
    f"{HIDDEN_WARM_UP_S} do not count. Without the rivals.",
)
@click.option(
    "--restarts",
    is_flag=True,
    help=f"{RESTARTS_WORKERS} workers, of which every 2 to 5 s one is ended (SIGTERM or SIGKILL) "
    "and replaced. Without the rivals.",
)
@click.option("--rivals/--no-rivals", default=True, show_default=True, help="Run the rivals.")
@click.option(
    "--rival-workers",
    type=click.IntRange(1, 10),
    multiple=True,
    default=(1,),
    show_default=True,
    help="Worker processes of Celery, dramatiq and taskiq, with 20 threads together.",
)
@click.option(
    "--bound",
    "bound_s",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds after which a run is cut off.",
)
@click.option("--seed", default=0, show_default=True, help="Of all that is random.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(
    emails: int | None,
    workers: tuple[int, ...],
    rate_limit: float | None,
    hidden_limit: int | None,
    restarts: bool,
    rivals: bool,
    rival_workers: tuple[int, ...],
    bound_s: float,
    seed: int,
    path: Path | None,
) -> None:
    """Deliver to a strict stand-in for ChartMogul (40 requests in any second, 20 at once, 250 ms):
    with the courier, and with each of its rivals.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    load = Load(emails=emails or 2000, bound_s=bound_s, seed=seed)
    if hidden_limit is not None:
        load = Load(
            emails=emails or 3000,
            bound_s=HIDDEN_LOAD_S,
            seed=seed,
            hidden_limit=hidden_limit,
            warm_up_s=HIDDEN_WARM_UP_S,
        )
    ways: list[Way] = [
        CourierWay(workers=count, rate_limit=rate_limit, restarts_seed=seed if restarts else None)
        for count in ([RESTARTS_WORKERS] if restarts else workers)
    ]
    if rivals and not restarts and hidden_limit is None:
        ways += [
            replace(way, workers=count)
            for count in rival_workers
            for way in (CELERY, DRAMATIQ, TASKIQ)
        ]
        ways += [OFFICIAL, FLOOR]
    results = []
    with tidily():
        for way in ways:
            click.echo(f"{title(way)} …", err=True)
            results.append(run(way, load))
    tell(
        table(results),
        notes=notes(results),
        targets=[] if restarts or hidden_limit is not None else targets(results),
        path=path,
        load=asdict(load),
        results=[
            {"way": each.name, **asdict(each.measured), "counts": each.counts} for each in results
        ],
    )


if __name__ == "__main__":
    main()
