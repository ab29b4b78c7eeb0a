"""`courier flower`."""

from __future__ import annotations

import os
import threading

import click

from ..config import load_settings
from ..config.celery import make_celery
from ..config.settings import is_loopback
from .extras import needing

ENDS_WITHIN_S = 5.0


@click.command(
    "flower",
    epilog="""\b
Examples:
  courier flower
  COURIER_FLOWER_BASIC_AUTH=ada:secret courier flower --host 0.0.0.0
""",
)
@click.option("--port", type=click.IntRange(1, 65535), default=5555, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def command(port: int, host: str) -> None:
    """Watch the jobs in a browser, with Flower.

    A job's task has the job's id, its state follows the job's outcome, and it shows no values and
    no whole email. Beyond this machine Flower listens only with a password, which also protects
    its /metrics then: set COURIER_FLOWER_BASIC_AUTH=user:password.
    """
    settings = load_settings()
    if settings.flower_basic_auth is None and not is_loopback(host):
        raise click.UsageError(
            f"to listen on {host}, set COURIER_FLOWER_BASIC_AUTH=user:password: "
            "Flower can stop workers and send tasks"
        )
    with needing("flower"):
        from ..operate.flower import add_pages
        from ..operate.metrics import metrics_source

    add_pages(settings, metrics=metrics_source(settings))
    if settings.flower_basic_auth is not None:
        # By the environment, since the arguments of a process are everybody's to read.
        os.environ["FLOWER_BASIC_AUTH"] = settings.flower_basic_auth.reveal()
    app = make_celery(settings)
    app.set_default()  # of which Flower asks a task's result
    try:
        app.start(["flower", f"--address={host}", f"--port={port}"])
    finally:
        # Threads of Flower's may wait for a broker that is away: they must not keep it from ending.
        end = threading.Timer(ENDS_WITHIN_S, os._exit, [0])
        end.daemon = True
        end.start()
