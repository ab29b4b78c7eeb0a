"""`courier resume`."""

from __future__ import annotations

import click

from .account import weathers


@click.command(
    "resume",
    epilog="""\b
Example:
  courier resume
""",
)
@click.option("--account", help="Only this account.")
def command(account: str | None) -> None:
    """Let deliveries go on at once: ends a pause, an open circuit and a hold.

    An account that was paused for its key or plan resumes by itself when ChartMogul answers a ping;
    this does not wait for it.
    """
    with weathers(account) as found:
        resumed = [weather.resume() for weather in found]
    click.echo("Resumed." if any(resumed) else "Nothing was paused.")
