"""`courier health`."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from ..operate import health
from .output import Age


@click.command(
    "health",
    epilog="""\b
Examples:
  courier health
  courier health --pid "$(cat /run/courier.pid)"

\b
In a Dockerfile:
  HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["courier", "health"]
""",
)
@click.option("--pid", type=click.IntRange(min=1), help="Only the worker with this process id.")
@click.option(
    "--max-age",
    type=Age(),
    default=f"{health.MAX_AGE_S:.0f}s",
    show_default=True,
    metavar="AGE",
    help="A part without a sign of life for so long hangs.",
)
def command(pid: int | None, max_age: timedelta) -> None:
    """Tell a container's engine whether the workers on this machine can still work.

    All workers that this user runs here are asked, under any name, without Redis and ChartMogul.
    It fails (exit code 1) when a worker's process is gone or stopped, its consumer or ticker
    hangs, or all its threads are stuck. A pause, an open circuit, a broken key or a Redis that is
    away never fails it, since a restart mends none of these: `courier status --check` tells them.
    """
    sys.exit(health.report(health.look(pid, max_age_s=max_age.total_seconds())))
