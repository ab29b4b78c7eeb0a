"""`courier worker`."""

from __future__ import annotations

import click

from ..config import load_settings


@click.command(
    "worker",
    epilog="""\b
Examples:
  courier worker
  courier worker --concurrency 44 --name worker2@%h

\b
The same through Celery's own command:
  celery -A attribute_courier.worker worker
""",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=2),
    help="Threads; without it COURIER_CONCURRENCY, or what the accounts' limits ask for.",
)
@click.option("--name", default="courier@%h", show_default=True, help="Name of this worker.")
@click.option(
    "--loglevel",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def command(concurrency: int | None, name: str, loglevel: str) -> None:
    """Run a worker in the foreground, until SIGTERM or Ctrl-C.

    It then ends gracefully: what is in flight is finished, the rest waits in Redis.
    """
    settings = load_settings()
    for account in settings.accounts:
        settings.api_key(account)
    from ..worker import app

    arguments = ["worker", "--loglevel", loglevel, "--hostname", name]
    if concurrency is not None:
        arguments += ["--concurrency", str(concurrency)]
    app.worker_main(arguments)
