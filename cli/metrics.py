"""`courier metrics`."""

from __future__ import annotations

import click

from ..config import load_settings
from ..operate.exporter import Exporter


@click.command(
    "metrics",
    epilog="""\b
Examples:
  courier metrics
  courier metrics --host 0.0.0.0
""",
)
@click.option("--port", type=click.IntRange(0, 65535), default=9464, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def command(port: int, host: str) -> None:
    """Serve metrics for Prometheus, at /metrics.

    They hold for all workers that share this Redis: one exporter is enough. They name accounts, and
    show no email, no value and no key; nothing can be changed through them, so there is no
    password. Whoever can connect to the address can read them.

    /healthz answers as long as this command runs. Whether Redis answers is a metric,
    attribute_courier_up.
    """
    settings = load_settings()
    with Exporter(settings, host, port, tell=lambda text: click.echo(text, err=True)) as exporter:
        click.echo(f"Metrics at {exporter.url}")
        exporter.serve()
