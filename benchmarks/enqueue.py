"""What handing over a job costs, beside a plain Celery task.

`python -m benchmarks.enqueue` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import redis
from celery import Celery

from attribute_courier.config import Secret, load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import EmbeddedRedis

from .measure import ratio
from .report import Target, tell
from .stage import email, forget_settings, tidily

ATTRIBUTES: dict[str, Any] = {"channel": "Facebook", "age": 8, "mrr": 19.9}
CUSTOM = [
    {"type": "String", "key": "channel", "value": "Facebook"},
    {"type": "Integer", "key": "age", "value": 8},
    {"type": "Decimal", "key": "mrr", "value": 19.9},
]
"""The same, as a plain task would take it."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to hand over jobs, and what it took."""

    name: str
    run: Callable[[int], list[float]]
    """Hands over so many jobs; returns the seconds of each call."""
    rows: int
    """How many in a block."""
    call_s: list[float] = field(default_factory=list)
    """Of each call, in all blocks."""
    per_second: list[float] = field(default_factory=list)
    """Rows a second, of each block."""

    def block(self) -> None:
        call_s = self.run(self.rows)
        self.call_s.extend(call_s)
        self.per_second.append(self.rows / sum(call_s))


def each(
    hand_over: Callable[[str], object], before: Callable[[], object] = lambda: None
) -> Callable[[int], list[float]]:
    """A way that takes one job a call; the time of what comes before is not counted."""

    def run(count: int) -> list[float]:
        took = []
        for address in map(email, range(count)):
            before()
            started = time.perf_counter()
            hand_over(address)
            took.append(time.perf_counter() - started)
        return took

    return run


def at_once(producer: Producer) -> Callable[[int], list[float]]:
    """A way that takes all jobs in one call."""

    def run(count: int) -> list[float]:
        started = time.perf_counter()
        bulk = producer.add_many((address, ATTRIBUTES) for address in map(email, range(count)))
        if bulk.enqueued != count:
            raise click.ClickException(f"add_many() enqueued {bulk.enqueued} of {count} jobs")
        return [time.perf_counter() - started]

    return run


def table(ways: list[Way]) -> list[list[str]]:
    """The ways, line by line; the first one is what the others are compared with."""
    plain = ways[0]
    lines = [["way", "median call", "time vs plain", "rows a second", "rows vs plain"]]
    for way in ways:
        call_s, per_second = median(way.call_s), median(way.per_second)
        many = len(way.call_s) < way.rows
        lines.append(
            [
                way.name,
                f"{way.rows:,} rows, {call_s * 1e3:,.0f} ms" if many else f"{call_s * 1e6:,.0f} µs",
                "" if many or way is plain else f"{call_s / median(plain.call_s):.2f}",
                f"{per_second:,.0f}",
                "" if way is plain else f"{per_second / median(plain.per_second):.2f}",
            ]
        )
    return lines


def targets(ways: list[Way]) -> list[Target]:
    """The courier's, beside `delay()`."""
    plain, one, _, many = ways
    return [
        Target(
            what="time of add_attributes(), task.delay() is 1",
            sense="at most",
            aim=1.4,
            found=ratio(median(one.call_s), median(plain.call_s)),
        ),
        Target(
            what="rows a second of add_many(), task.delay() is 1",
            sense="at least",
            aim=10,
            found=ratio(median(many.per_second), median(plain.per_second)),
        ),
    ]


def results(ways: list[Way]) -> list[dict[str, Any]]:
    """Each way in numbers, for `--json`."""
    return [
        {
            "way": way.name,
            "rows_in_a_block": way.rows,
            "median_call_s": median(way.call_s),
            "median_per_second": median(way.per_second),
            "per_second": way.per_second,
        }
        for way in ways
    ]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.enqueue
  python -m benchmarks.enqueue --rounds 3 --json enqueue.json
"""
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How often each way gets its turn.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    help="Jobs a turn; ten times as many for add_many().",
)
@click.option(
    "--bound",
    "bound_s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds after which no further round begins.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(rounds: int, rows: int, bound_s: float, path: Path | None) -> None:
    """Hand over jobs of three attributes, in turns: with a plain Celery task's delay(), with
    add_attributes(), each waking a worker and while others wait, and with add_many().

    All of it runs on this machine, on a Redis in a temporary directory. Nobody takes the jobs, and
    nothing is asserted.
    """
    forget_settings()
    with ExitStack() as stack:
        stack.enter_context(tidily())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="courier-enqueue-")))
        server = stack.enter_context(EmbeddedRedis(home / "redis"))
        client = stack.enter_context(redis.Redis.from_url(server.url))
        app = stack.enter_context(Celery("plain", broker=server.url, set_as_current=False))

        @app.task(name="add_attributes")
        def task(email: str, custom: list[dict[str, Any]]) -> None:
            """Never run: there is no worker."""

        # An application gives up after two seconds; on a busy machine the benchmark rather waits.
        settings = replace(load_settings(), redis_url=Secret(server.url), enqueue_timeout_s=20)
        producer = Producer(settings)
        stack.callback(producer.close)
        ways = [
            Way(
                name="task.delay()",
                run=each(lambda address: task.delay(address, CUSTOM)),
                rows=rows,
            ),
            Way(
                name="add_attributes()",
                run=each(
                    lambda address: producer.add_attributes(address, ATTRIBUTES),
                    # As if a worker had taken all there is: each job wakes it again.
                    before=client.flushdb,
                ),
                rows=rows,
            ),
            Way(
                name="add_attributes(), others wait",
                run=each(lambda address: producer.add_attributes(address, ATTRIBUTES)),
                rows=rows,
            ),
            Way(name="add_many()", run=at_once(producer), rows=10 * rows),
        ]
        for way in ways:
            way.run(10)  # connections are opened, and the script is loaded
        deadline = time.monotonic() + bound_s
        done = 0
        while done < rounds and time.monotonic() < deadline:
            for way in ways:
                client.flushdb()
                way.block()
            done += 1
    note = f"{done} rounds of {rows:,} jobs, {10 * rows:,} for add_many(), in turns"
    tell(
        table(ways),
        notes=[note],
        targets=targets(ways),
        path=path,
        rounds=done,
        results=results(ways),
    )


if __name__ == "__main__":
    main()
