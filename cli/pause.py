"""`courier pause`."""

from __future__ import annotations

import click

from .account import healths


@click.command(
    "pause",
    epilog="""\b
Example:
  courier pause --reason "moving to a new ChartMogul plan"
""",
)
@click.option("--reason", default="paused by hand", help="Shown by courier status.")
@click.option("--account", help="Only this account.")
def command(reason: str, account: str | None) -> None:
    """Deliver nothing until `courier resume`. Jobs are accepted, and wait.

    What is in flight is finished.
    """
    with healths(account) as found:
        for health in found:
            health.pause(reason)
    click.echo("Paused.")
