"""All benchmarks, one after the other: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
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
SCEPTIC = ROOT / "benchmarks" / "SCEPTIC.md"
"""What a sceptic would object to: becomes a part of the results."""

WIDTH = 150

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


SUITE = (
    Benchmark(
        name="cpu",
        module="cpu",
        asks="What does a delivery cost a worker and Redis, when nothing limits it?",
        quick_args=("--rounds", "1", "--emails", "300"),
    ),
    Benchmark(
        name="pace",
        module="pace",
        asks="How near to the account's limits, and how rarely over them?",
        args=("--emails", "1200", "--bound", "50"),
        quick_args=("--emails", "120", "--bound", "15", "--workers", "2"),
    ),
    Benchmark(
        name="idle",
        module="idle",
        asks="How quickly does an idle system answer, and what does it cost while nothing happens?",
        quick_args=("--jobs", "10", "--seconds", "2", "--no-rivals"),
    ),
    Benchmark(
        name="live",
        module="live",
        asks="How long does a live job wait while a bulk backlog drains?",
        quick_args=("--backlog", "2000", "--seconds", "6", "--rival-backlog", "300"),
    ),
    Benchmark(
        name="memory",
        module="memory",
        asks="What does Redis hold for a job, and how quickly are jobs accepted?",
        quick_args=("--jobs", "500"),
    ),
    Benchmark(
        name="growth",
        module="growth",
        asks="Do Redis's scripts take longer the more emails wait?",
        quick_args=("--size", "1000", "--size", "10000"),
    ),
    Benchmark(
        name="culprits",
        module="culprits",
        asks="What do emails that always fail do to others?",
        quick_args=("--seconds", "12", "--failing", "500", "--no-rivals"),
    ),
    Benchmark(
        name="size",
        module="size",
        asks="How long do very many jobs for one email take?",
        quick_args=("--jobs", "500"),
    ),
    Benchmark(
        name="backlog",
        module="backlog",
        asks="How many requests does a backlog with many updates of each email take?",
        quick_args=("--emails", "200", "--updates", "2000", "--plain-updates", "200"),
    ),
    Benchmark(
        name="enqueue",
        module="enqueue",
        asks="What does handing over a job cost?",
        quick_args=("--rounds", "2"),
    ),
    Benchmark(
        name="import",
        module="import_",
        asks="How quick is importing a table, and in how much memory?",
        quick_args=("--rows", "20000", "--plain-rows", "1000"),
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
            document = json.loads(path.read_text("utf-8"))
            targets = [Target(**each) for each in document["targets"]]
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
        fill(
            f"Written by `python -m benchmarks` on {where['date']}. [README.md](README.md) says "
            "what each benchmark does and what its columns mean, and what a sceptic would object "
            "to is at the end. Figures are of this machine, which also ran Redis, the stand-in for "
            "ChartMogul and whatever handed over the jobs; ratios travel better.",
            WIDTH,
        ),
        f"- {where['system']}; {where['cpus']} cores, {where['cpu'] or 'of unknown kind'}\n"
        + fill(f"- Python {where['python']}; {versions}", WIDTH, subsequent_indent="  "),
        "## Targets",
        "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines]),
    ]
    for ran in results:
        parts += [
            f"## {ran.benchmark.name}",
            f"{ran.benchmark.asks} `{ran.command}`, {ran.seconds:.0f} s.",
            f"```text\n{ran.said}\n```",
        ]
    return "\n\n".join([*parts, SCEPTIC.read_text("utf-8").rstrip()]) + "\n"


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

    It takes about half an hour, on this machine alone, and wants it for itself. Nothing is
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
