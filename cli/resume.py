"""`courier resume`."""

from __future__ import annotations

import click

from .account import healths


@click.command(
    "resume",
    epilog="""\b
Example:
  courier resume
""",
)
@click.option("--account", help="Only this account.")
def command(account: str | None) -> None:
    """Let deliveries go on at once: end a pause, an open circuit and a hold.

    An account that was paused for its key or plan resumes by itself once ChartMogul answers a ping.
    This command does not wait for that.
    """
    with healths(account) as found:
        resumed = [health.resume() for health in found]
    click.echo("Resumed." if any(resumed) else "Nothing was paused.")
