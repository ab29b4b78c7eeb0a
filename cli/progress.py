"""How far a long command is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 10.0

Advance = Callable[[int], None]
"""Takes how many are done by now."""


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Print on stderr how far something is, while it runs.

    Args:
        what: such as "enqueued".
        total: how many there are to do.
        unit: such as "rows".
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}"),
            _Rate(),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=console, transient=True, expand=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        yield _Lines(what, total, unit).tell


def rate_phrase(done: float, seconds: float) -> str:
    """`1,234/s`, or `0.5/s` where there are few."""
    rate = done / seconds if seconds > 0 else 0.0
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def duration_phrase(seconds: float) -> str:
    """`45 s`, `12 min`, `7 h 5 min`, `3 d 2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(rate_phrase(task.speed, 1) if task.speed is not None else "")


class _Lines:
    """Every ten seconds a line: done, the rate since the last one, time left at that rate."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._printed_at, self._printed = time.monotonic(), 0

    def tell(self, done: int) -> None:
        now = time.monotonic()
        seconds, more = now - self._printed_at, done - self._printed
        if seconds < LINE_EVERY_S:
            return
        self._printed_at, self._printed = now, done
        left = ""
        if more > 0:
            left = f", {duration_phrase((self._total - done) * seconds / more)} left"
        click.echo(
            f"{self._what}: {done:,} of {self._total:,} {self._unit}, "
            f"{rate_phrase(more, seconds)}{left}",
            err=True,
        )
