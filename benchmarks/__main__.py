"""All benchmarks, one after the other: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from attribute_courier.sandbox import LeashedProcess

from .report import Target, columns, machine
from .ways import ROOT

BOUND_S = 900
"""Seconds after which a benchmark is given up; each ends by itself well before."""
GRACE_S = 20
"""Seconds in which it then clears away what it has made."""
RESULTS = ROOT / "benchmarks" / "RESULTS.md"

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One of those that run, as a process of its own."""

    name: str
    module: str
    asks: str
    """What it finds out, in a line."""
    args: tuple[str, ...] = ()
    quick_args: tuple[str, ...] = ()
    targets: Callable[[Document], list[Target]] = lambda document: [
        Target(**each) for each in document["targets"]
    ]
    """Reads them from what its `--json` wrote."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What became of one."""

    benchmark: Benchmark
    command: str
    said: str
    """Its table, or why there is none."""
    targets: Sequence[Target]
    finished: bool
    seconds: float


def pace_targets(document: Document) -> list[Target]:
    """Those of the pace, whose own table has none."""
    ours = [each for each in document["results"] if each["way"].startswith("courier")]
    return [
        Target(
            what="deliveries a second, slowest number of workers",
            sense="at least",
            aim=38.8,
            found=min(each["per_second"] for each in ours),
        ),
        Target(
            what="answered 429, most",
            sense="at most",
            aim=0.1,
            found=max(each["share_429"] for each in ours) * 100,
            unit="%",
        ),
        Target(
            what="at once, most",
            sense="at most",
            aim=20,
            found=max(each["most_at_once"] for each in ours),
        ),
        Target(
            what="two requests at once for one email",
            sense="at most",
            aim=0,
            found=sum(each["overlaps"] for each in ours),
        ),
    ]


def enqueue_targets(document: Document) -> list[Target]:
    """Those of handing over, whose own table has none."""
    plain, one, _, many = document["results"]
    return [
        Target(
            what="time of add_attributes(), task.delay() is 1",
            sense="at most",
            aim=1.4,
            found=one["median_call_s"] / plain["median_call_s"],
        ),
        Target(
            what="rows a second of add_many(), task.delay() is 1",
            sense="at least",
            aim=10,
            found=many["median_per_second"] / plain["median_per_second"],
        ),
    ]


SUITE = (
    Benchmark(
        name="enqueue",
        module="enqueue",
        asks="What does handing over a job cost?",
        quick_args=("--rounds", "2"),
        targets=enqueue_targets,
    ),
    Benchmark(
        name="accept",
        module="accept",
        asks="How quickly does a worker accept jobs, and what does Redis hold for an email?",
        quick_args=("--rounds", "1", "--emails", "5000"),
    ),
    Benchmark(
        name="import",
        module="import_",
        asks="How quick is importing a table, and in how much memory?",
        quick_args=("--rows", "20000", "--plain-rows", "1000"),
    ),
    Benchmark(
        name="cpu",
        module="cpu",
        asks="What does a delivery cost a worker, when nothing limits it?",
        quick_args=("--rounds", "1", "--emails", "300"),
    ),
    Benchmark(
        name="backlog",
        module="backlog",
        asks="How many requests does a backlog with many updates of each email take?",
        quick_args=("--emails", "200", "--updates", "2000", "--plain-updates", "200"),
    ),
    Benchmark(
        name="latency",
        module="latency",
        asks="How long does a live job wait while a bulk backlog drains?",
        quick_args=("--backlog", "5000", "--seconds", "10", "--plain-backlog", "200"),
    ),
    Benchmark(
        name="pace",
        module="pace",
        asks="How near to the account's limits, and how rarely over them?",
        args=("--emails", "1500", "--bound", "50"),
        quick_args=("--emails", "200", "--bound", "15", "--workers", "2"),
        targets=pace_targets,
    ),
)


def run(benchmark: Benchmark, *, quick: bool) -> Ran:
    """Run one to its end. What it says of its progress goes to this terminal."""
    args = benchmark.quick_args if quick else benchmark.args
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="courier-benchmark-") as home:
        path, out = Path(home) / "results.json", Path(home) / "said"
        argv = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *args, "--json", str(path)]
        with out.open("wb") as stream:
            process = LeashedProcess(argv, cwd=ROOT, stdout=stream)
            try:
                code: int | None = process.popen.wait(BOUND_S)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.stop(GRACE_S)
        targets: list[Target] = []
        if code == 0:
            said = out.read_text("utf-8").rstrip()
            targets = benchmark.targets(json.loads(path.read_text("utf-8")))
        else:
            said = f"It was given up after {BOUND_S} s." if code is None else f"It failed ({code})."
    return Ran(
        benchmark=benchmark,
        command=" ".join(["python", *argv[1:-2]]),
        said=said,
        targets=targets,
        finished=code == 0,
        seconds=time.monotonic() - started_s,
    )


def summary(results: Sequence[Ran]) -> list[list[str]]:
    """All targets, each with its benchmark."""
    head = ["benchmark", "target", "", "found", ""]
    return [
        head,
        *([ran.benchmark.name, *target.cells()] for ran in results for target in ran.targets),
    ]


def page(results: Sequence[Ran], where: Document) -> str:
    """What RESULTS.md says."""
    head, *lines = summary(results)
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    parts = [
        "# Results",
        f"Written by `python -m benchmarks` on {where['date']}. [README.md](README.md) says what "
        "each benchmark does and what its columns mean. Figures are of this machine, which also "
        "ran Redis, the stand-in for ChartMogul and whatever handed over the jobs; ratios travel "
        "better.",
        f"- {where['system']}; {where['cpus']} cores, {where['cpu'] or 'of unknown kind'}\n"
        f"- Python {where['python']}; {versions}",
        "## Targets",
        "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines]),
    ]
    for ran in results:
        parts += [
            f"## {ran.benchmark.name}",
            f"{ran.benchmark.asks} `{ran.command}`, {ran.seconds:.0f} s.",
            f"```text\n{ran.said}\n```",
        ]
    return "\n\n".join(parts) + "\n"


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks
  python -m benchmarks --quick
  python -m benchmarks --only cpu --only backlog
"""
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([each.name for each in SUITE]),
    help="This one; may be repeated.",
)
@click.option("--quick", is_flag=True, help="To see that all work: the figures are no good.")
@click.option(
    "--results",
    "path",
    type=click.Path(path_type=Path),
    help="Write them here. benchmarks/RESULTS.md when all run, and not quickly; else nowhere.",
)
def main(only: tuple[str, ...], quick: bool, path: Path | None) -> None:
    """Run all benchmarks, print what they find, and write benchmarks/RESULTS.md.

    It takes about a quarter of an hour, on this machine alone, and wants it for itself. Nothing is
    asserted: the exit code is 1 only if a benchmark did not come to its end.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
    if path is None and not only and not quick:
        path = RESULTS
    results = []
    for benchmark in SUITE:
        if only and benchmark.name not in only:
            continue
        click.echo(f"{benchmark.name}: {benchmark.asks}\n", err=True)
        ran = run(benchmark, quick=quick)
        results.append(ran)
        click.echo(f"{benchmark.name} ({ran.seconds:.0f} s)\n{ran.said}\n")
    click.echo(columns(summary(results)))
    if path is not None:
        path.write_text(page(results, machine()), "utf-8")
        click.echo(f"\nWritten to {path}", err=True)
    sys.exit(0 if all(ran.finished for ran in results) else 1)


if __name__ == "__main__":
    main()
