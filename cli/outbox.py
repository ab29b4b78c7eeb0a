"""`courier outbox`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ..config import SettingsError, load_settings
from ..config.connections import connect_patiently
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs.errors import NotReachable
from ..jobs.text import counted
from ..producers.wakeup import WakeUp
from .extras import needing
from .main import EXIT_UNREACHABLE, Failure

if TYPE_CHECKING:
    from ..worker.relay import Relay


@click.group(
    "outbox",
    epilog="""\b
Examples:
  courier outbox create
  courier outbox status
  courier outbox relay --once
""",
)
def command() -> None:
    """Relay jobs that an application has written into its own database.

    COURIER_OUTBOX_URL names the database, such as postgresql+psycopg://user:password@host/name. A
    worker with this setting relays them itself.
    """


@command.command("relay")
@click.option("--once", is_flag=True, help="Relay what is there now, and end.")
def relay(once: bool) -> None:
    """Relay rows as they are committed, until SIGTERM or Ctrl-C. Several at a time do no harm."""
    with _relay() as outbox:
        if once:
            count = 0
            while found := outbox.relay():
                count += found
            click.echo(f"{counted(count, 'job')} relayed")
            return
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        outbox.run(stopping)


@command.command("status")
def status() -> None:
    """Show how many jobs wait in the outbox, and for how long."""
    with _relay() as outbox:
        found = outbox.status()
    age_s = time.time() - found.oldest_us / 1e6 if found.oldest_us else 0
    since = f", the first for {age_s:,.0f} s" if age_s else ""
    click.echo(f"{counted(found.rows, 'job')} waiting{since}")


@command.command("create")
def create() -> None:
    """Create the table, where no migration of the application does. Harmless if it is there."""
    with _relay() as outbox:
        outbox.create_table()
    click.echo("The table is there.")


@contextmanager
def _relay() -> Iterator[Relay]:
    settings = load_settings()
    with needing("outbox"):
        from sqlalchemy.exc import SQLAlchemyError

        from ..worker.relay import Relay, describe, inboxes_of
    client = connect_patiently(settings)
    wakeup = WakeUp(settings, client)
    if settings.outbox_url is None:
        raise SettingsError("COURIER_OUTBOX_URL: is not set; it names the database")
    outbox = Relay(
        settings.outbox_url,
        inboxes_of(settings, client, settings.accounts),
        wake=lambda account: wakeup.send(account, deadline_s=time.monotonic() + 2),
    )
    try:
        yield outbox
    except SQLAlchemyError as error:
        raise Failure(
            f"the database of COURIER_OUTBOX_URL: {describe(error)}", EXIT_UNREACHABLE
        ) from None
    except RedisError as error:
        raise NotReachable(describe_redis_error(settings, error)) from error
    finally:
        outbox.close()
        client.close()
