"""`courier metrics`."""

from __future__ import annotations

import signal

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
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9464,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def command(port: int, host: str) -> None:
    """Serve metrics for Prometheus at /metrics, until Ctrl-C.

    They count over all workers that share a Redis, so one of these is enough. They name accounts,
    and show no email, no value and no key. Nothing can be changed through them, so there is no
    password: whoever can connect to the address may read them.

    When Redis does not answer, the metric attribute_courier_up is 0. /healthz answers all the same.
    """
    settings = load_settings()
    try:
        exporter = Exporter(settings, host, port, tell=lambda text: click.echo(text, err=True))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None
    # The first process of a container is not ended by SIGTERM unless it says so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with exporter:
            click.echo(f"Metrics at {exporter.url}")
            exporter.serve()
    except KeyboardInterrupt:
        pass
