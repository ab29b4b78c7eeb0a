"""Importing a table: how quick, and in how much memory.

`python -m benchmarks.import_` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import redis
from celery import Celery

from attribute_courier.sandbox import LeashedProcess

from .measure import ratio
from .processes import peak_bytes
from .report import Target, tell
from .stage import email, forget_settings, staged, strict, tidily
from .ways import CourierWay

AIM_BYTES = 150 * 10**6
LOOK_EVERY_S = 0.05
BOUND_S = 1_800
ALONE_ROWS = 40_000
"""Fewer than the import lets wait in the inbox: so many need no worker."""
PLANS = ("free", "pro", "team", "enterprise")


@dataclass(frozen=True, kw_only=True)
class Read:
    """What reading a table, or importing it, took."""

    way: str
    rows: int
    seconds: float
    peak_bytes: int | None = None
    """The most memory that the process ever had; None if it was not looked at."""

    @property
    def per_second(self) -> float:
        return ratio(self.rows, self.seconds)


def write_table(path: Path, rows: int) -> None:
    """A CSV file: an email and three attributes (String, Integer, Decimal) in each row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["email", "plan", "seats", "mrr"])
        for number in range(rows):
            plan = PLANS[number % len(PLANS)]
            table.writerow([email(number), plan, number % 500, f"{number % 9_999}.90"])


def import_with(way: str, *options: str, path: Path, rows: int) -> Read:
    """Run `courier import` in a process of its own.

    Raises:
        RuntimeError: it did not end well; with what it said.
    """
    argv = [sys.executable, "-m", "attribute_courier.cli", "import", str(path), *options]
    said = path.with_name("import.log")
    started_s, peak = time.monotonic(), 0
    with said.open("wb") as out:
        process = LeashedProcess(argv, stdout=out, stderr=subprocess.STDOUT)
        while process.running and time.monotonic() < started_s + BOUND_S:
            peak = max(peak, peak_bytes(process.pid))
            time.sleep(LOOK_EVERY_S)
        seconds = time.monotonic() - started_s
        process.stop(grace_s=5)
    if process.popen.returncode != 0:
        end = said.read_text("utf-8", "replace")[-2_000:]
        raise RuntimeError(f"courier import ended with {process.popen.returncode}:\n{end}")
    return Read(way=way, rows=rows, seconds=seconds, peak_bytes=peak)


def empty(url: str) -> None:
    """Take everything out of Redis."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def plain_loop(url: str, path: Path, rows: int) -> Read:
    """Read so many rows of the table, and send a task for each; nothing is checked."""
    done = 0
    with (
        Celery("plain", broker=url, set_as_current=False) as sender,
        path.open(newline="", encoding="utf-8") as file,
    ):
        started_s = time.monotonic()
        for row in csv.DictReader(file):
            custom = [
                {"type": "String", "key": "plan", "value": row["plan"]},
                {"type": "Integer", "key": "seats", "value": int(row["seats"])},
                {"type": "Decimal", "key": "mrr", "value": float(row["mrr"])},
            ]
            sender.send_task("add_attributes", [row["email"], custom])
            done += 1
            if done == rows:
                break
        seconds = time.monotonic() - started_s
    return Read(way="plain loop of send_task()", rows=done, seconds=seconds)


def table(results: Sequence[Read]) -> list[list[str]]:
    """The results; the last one is what the others are compared with."""
    plain = results[-1]
    lines = [["way", "rows", "seconds", "rows a second", "rows vs plain", "peak memory"]]
    for each in results:
        memory = "" if each.peak_bytes is None else f"{each.peak_bytes / 10**6:,.0f} MB"
        lines.append(
            [
                each.way,
                f"{each.rows:,}",
                f"{each.seconds:.1f}",
                f"{each.per_second:,.0f}",
                "" if each is plain else f"{ratio(each.per_second, plain.per_second):.2f}",
                memory,
            ]
        )
    return lines


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.import_
  python -m benchmarks.import_ --rows 1000000
"""
)
@click.option("--rows", type=click.IntRange(min=1), default=200_000, show_default=True)
@click.option(
    "--plain-rows",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="So many of them for the plain way.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(rows: int, plain_rows: int, path: Path | None) -> None:
    """Import a generated CSV file, three attributes a row, with `courier import`: as a dry run; a
    part of it with no worker; all of it, while a worker accepts the rows; and with a loop that
    sends a plain Celery task for each row.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    with tidily(), staged(strict()) as stage:
        file, part = stage.home / "customers.csv", stage.home / "some.csv"
        write_table(file, rows)
        write_table(part, min(rows, ALONE_ROWS))
        forget_settings()
        os.environ["COURIER_REDIS_URL"] = stage.server.url
        click.echo("courier import --dry-run …", err=True)
        dry = import_with("courier import --dry-run", "--dry-run", path=file, rows=rows)
        click.echo("courier import, no worker …", err=True)
        alone = import_with("courier import, no worker", path=part, rows=min(rows, ALONE_ROWS))
        empty(stage.server.url)
        click.echo("courier import, one worker …", err=True)
        with CourierWay(workers=1).running(stage):
            os.environ["COURIER_ENQUEUE_TIMEOUT"] = "20s"  # on a busy machine, rather wait
            real = import_with("courier import, one worker", path=file, rows=rows)
        empty(stage.server.url)
        click.echo("plain …", err=True)
        plain = plain_loop(stage.server.url, file, min(plain_rows, rows))
    results = [dry, alone, real, plain]
    tell(
        table(results),
        targets=[
            Target(
                what=f"peak memory, {rows:,} rows",
                sense="at most",
                aim=AIM_BYTES / 10**6,
                found=max(each.peak_bytes or 0 for each in results) / 10**6,
                unit="MB",
            )
        ],
        path=path,
        results=[asdict(each) for each in results],
    )


if __name__ == "__main__":
    main()
