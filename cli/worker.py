"""`courier worker`."""

from __future__ import annotations

import sys

import click

from ..config import load_settings
from ..config.network import check_for_work


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
    help="Number of threads. [default: COURIER_CONCURRENCY, or what the accounts' limits take]",
)
@click.option(
    "--pool",
    type=click.Choice(["threads", "prefork", "solo"]),
    default="threads",
    show_default=True,
    help="What runs the deliveries: threads, processes, or nothing but the main thread.",
)
@click.option("--name", default="courier@%h", show_default=True, help="Name of this worker.")
@click.option(
    "--loglevel",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def command(concurrency: int | None, pool: str, name: str, loglevel: str) -> None:
    """Run a worker in the foreground, until SIGTERM or Ctrl-C.

    It then stops gracefully: it finishes what is in flight; the rest waits in Redis. While Redis
    does not answer, or answers with errors, it says so and waits. Its exit code is not 0 when it
    ends by an error.
    """
    check_for_work(load_settings())
    from celery.utils.nodenames import default_nodename, host_format

    from ..worker import app

    # Celery's command line would read CELERY_… variables, and lose the exit code.
    worker = app.Worker(
        hostname=host_format(default_nodename(name)),
        pool_cls=pool,
        concurrency=1 if pool == "solo" else concurrency,
        loglevel=loglevel,
    )
    worker.start()
    sys.exit(worker.exitcode or 0)
