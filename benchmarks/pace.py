"""The pace: how near to the account's limits, and how rarely over them.

`python -m benchmarks.pace` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from attribute_courier.sandbox import SandboxConfig, SandboxError

from .measure import Measurement, measure, ratio
from .report import columns
from .stage import email, staged, strict
from .ways import CUSTOM, PLAIN_WAYS, CourierWay, PlainWay

HIDDEN_WARM_UP_S = 30
HIDDEN_LOAD_S = 75
RESTARTS_WORKERS = 4


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

    way: CourierWay | PlainWay
    measured: Measurement
    counts: dict[str, int]


def run(way: CourierWay | PlainWay, load: Load) -> Result:
    """Let one way deliver, on servers of its own, until it is done or its time is up."""
    with ExitStack() as stack:
        stage = stack.enter_context(staged(load.stand_in()))
        running = stack.enter_context(way.running(stage))
        deadline = time.monotonic() + load.bound_s
        for number in range(load.emails):
            running.send(email(number), CUSTOM)
            running.tick()  # sending takes many seconds, too
        while running.ended() < load.emails and time.monotonic() < deadline:
            running.tick()
            time.sleep(0.25)
        log, stats = stage.stand_in.requests(), stage.stand_in.stats()
        measured = measure(log, stats, emails=load.emails, warm_up_s=load.warm_up_s)
        return Result(way=way, measured=measured, counts=running.counts())


def table(results: list[Result]) -> str:
    """The results in columns, and for each of the courier's its ratio to each plain way."""
    plain = [each for each in results if isinstance(each.way, PlainWay)]
    marks = {each.way.name: f"({mark})" for each, mark in zip(plain, "abcd", strict=False)}
    head = [
        "way",
        "delivered",
        "seconds",
        "per s",
        "to 95 %",
        "429",
        "at once",
        "in 1 s",
        "requests each",
    ]
    lines = [[*head, *(f"vs {mark}" for mark in marks.values())]]
    for result in results:
        name, it = result.way.name, result.measured
        ratios = [f"{ratio(it.per_second, each.measured.per_second):.2f}" for each in plain]
        lines.append(
            [
                f"{name} {marks.get(name, '')}".rstrip(),
                f"{it.delivered:,} of {it.emails:,}",
                f"{it.seconds:.1f}",
                f"{it.per_second:.1f}",
                f"{it.per_second_to_95:.1f}",
                f"{it.share_429:.2%}",
                str(it.most_at_once),
                str(it.most_in_a_second),
                f"{it.per_delivery:.3f}",
                *(ratios if name not in marks else [""] * len(plain)),
            ]
        )
    return columns(lines)


def document(results: list[Result], load: Load) -> dict[str, Any]:
    """Everything, for `--json`."""
    parts = ("attribute-courier", "celery", "kombu", "chartmogul", "redis", "requests")
    return {
        "load": asdict(load),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "versions": {name: version(name) for name in parts},
        "results": [
            {"way": each.way.name, **asdict(each.measured), "counts": each.counts}
            for each in results
        ],
    }


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.pace
  python -m benchmarks.pace --emails 300 --workers 2 --no-plain
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
    f"{HIDDEN_WARM_UP_S} do not count. Without the plain ways.",
)
@click.option(
    "--restarts",
    is_flag=True,
    help=f"{RESTARTS_WORKERS} workers, of which every 2 to 5 s one is ended (SIGTERM or SIGKILL) "
    "and replaced. Without the plain ways.",
)
@click.option("--plain/--no-plain", default=True, show_default=True, help="Run the plain ways.")
@click.option(
    "--plain-concurrency",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    help="Their threads or processes.",
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
    plain: bool,
    plain_concurrency: int,
    bound_s: float,
    seed: int,
    path: Path | None,
) -> None:
    """Deliver to a strict stand-in for ChartMogul (40 requests in any second, 20 at once, 250 ms):
    with the courier, and with a plain Celery task around the official client.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
    load = Load(emails=emails or 2000, bound_s=bound_s, seed=seed)
    if hidden_limit is not None:
        load = Load(
            emails=emails or 3000,
            bound_s=HIDDEN_LOAD_S,
            seed=seed,
            hidden_limit=hidden_limit,
            warm_up_s=HIDDEN_WARM_UP_S,
        )
    ways: list[CourierWay | PlainWay] = [
        CourierWay(workers=count, rate_limit=rate_limit, restarts_seed=seed if restarts else None)
        for count in ([RESTARTS_WORKERS] if restarts else workers)
    ]
    if plain and not restarts and hidden_limit is None:
        ways += [replace(way, concurrency=plain_concurrency) for way in PLAIN_WAYS]
    results = []
    for way in ways:
        click.echo(f"{way.name} …", err=True)
        try:
            results.append(run(way, load))
        except (SandboxError, RuntimeError) as error:
            raise click.ClickException(str(error)) from None
    click.echo(table(results) + "\n")
    for result in results:
        counts = {**result.counts, "overlaps": result.measured.overlaps}
        said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        click.echo(f"{result.way.name}: {said}")
    if path is not None:
        path.write_text(json.dumps(document(results, load), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
