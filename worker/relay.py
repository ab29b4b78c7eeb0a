"""Relaying the outbox: from a table of the application's database into the inbox.

Rows are read in the order in which they were written, put into the inbox, and then removed, in one
transaction of the database. A relay that dies between the two leaves the rows: the next one puts
them there again, where they are known by their ids. There is no position that is kept, so a row
whose transaction is committed late is not skipped. While one relay has rows in hand, another takes
others; which of two jobs is newer does not depend on who is relayed first.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import MetaData, create_engine, delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from ..config.connections import Client
from ..config.errors import SettingsError
from ..config.redis_errors import RedisError
from ..config.secret import Secret
from ..config.settings import Settings
from ..jobs.outbox import TABLE, OutboxRow, relayed_document
from ..jobs.outbox_table import outbox_table
from ..state.inbox import Entry, Inbox
from ..state.keys import Keys
from ..state.scripts import Replicas

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Rows in one transaction."""
EVERY_S = 1.0
"""How often it is looked whether there are rows."""
LONGEST_PAUSE_S = 30.0
"""While the database or Redis fails, the pause doubles up to this."""


@dataclass(frozen=True, kw_only=True)
class OutboxStatus:
    """What waits in the outbox."""

    rows: int
    oldest_us: int | None
    """When the first of them was written, by the database's clock: microseconds since 1970."""


def inboxes_of(settings: Settings, client: Client, accounts: Iterable[str]) -> dict[str, Inbox]:
    """Account → its inbox, for a relay."""
    replicas = Replicas.of(settings)
    return {
        name: Inbox(client, Keys(name), retention_s=settings.retention_s, replicas=replicas)
        for name in accounts
    }


class Relay:
    """Relays the outbox of one database.

    Args:
        url: the database's, as SQLAlchemy takes it.
        inboxes: account → its inbox. Rows of other accounts stay for another relay.
        wake: wakes a worker for an account; must not raise.

    Raises:
        SettingsError: the URL cannot be used, or its driver is not installed.
    """

    def __init__(
        self, url: Secret, inboxes: Mapping[str, Inbox], *, wake: Callable[[str], object]
    ) -> None:
        try:
            # What a row holds must not reach a log.
            self._engine = create_engine(url.reveal(), hide_parameters=True, pool_pre_ping=True)
        except (SQLAlchemyError, ImportError) as error:
            raise SettingsError(
                f"COURIER_OUTBOX_URL: not usable ({type(error).__name__}): it must look like "
                "postgresql+psycopg://user:password@host/name, and its driver must be installed"
            ) from None
        self._inboxes = inboxes
        self._wake = wake
        self.table = outbox_table(MetaData())

    def create_table(self) -> None:
        """Create the outbox's table, unless it is there.

        Raises:
            SQLAlchemyError: the database fails.
        """
        self.table.metadata.create_all(self._engine)

    def status(self) -> OutboxStatus:
        """What waits.

        Raises:
            SQLAlchemyError: the database fails.
        """
        columns = self.table.c
        with self._engine.connect() as connection:
            rows, oldest_us = connection.execute(
                select(func.count(), func.min(columns.written_us)).where(
                    columns.account.in_(self._inboxes)
                )
            ).one()
        return OutboxStatus(rows=rows, oldest_us=oldest_us)

    def relay(self) -> int:
        """Relay some rows, the oldest first. Returns how many; 0 when none is left.

        Raises:
            SQLAlchemyError: the database fails.
            RedisError: Redis fails. The rows stay, and those that it took are known there.
        """
        columns = self.table.c
        with self._engine.begin() as connection:
            found = connection.execute(
                select(self.table)
                .where(columns.account.in_(self._inboxes))
                .order_by(columns.id)
                .limit(AT_ONCE)
                .with_for_update(skip_locked=True)  # where the database can
            )
            rows = [OutboxRow(**row) for row in found.mappings()]
            if rows:
                self._put(rows)
                ids = [row.id for row in rows]
                connection.execute(delete(self.table).where(columns.id.in_(ids)))
        return len(rows)

    def _put(self, rows: Sequence[OutboxRow]) -> None:
        for (account, lane), group in groupby(rows, key=lambda row: (row.account, row.lane)):
            entries = [Entry(job_id=row.job_id, wire=relayed_document(row)) for row in group]
            done = self._inboxes[account].put("bulk" if lane == "bulk" else "live", entries)
            if done.wake:
                self._wake(account)

    def run(self, stopping: threading.Event) -> None:
        """Relay until `stopping` is set. What fails is said once, and tried again."""
        pause_s, troubled = EVERY_S, False
        while not stopping.is_set():
            try:
                if self.relay() == AT_ONCE:
                    continue
                if troubled:
                    log.warning("outbox: relaying again")
                pause_s, troubled = EVERY_S, False
            except (SQLAlchemyError, RedisError) as error:
                if not troubled:
                    log.error("outbox: nothing is relayed for now: %s", describe(error))
                pause_s, troubled = min(2 * pause_s, LONGEST_PAUSE_S), True
            except Exception as error:  # the thread must not end; a text might show a row
                log.error("outbox: an unexpected error (%s); trying again", type(error).__name__)
                pause_s, troubled = min(2 * pause_s, LONGEST_PAUSE_S), True
            stopping.wait(pause_s)

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()


def describe(error: Exception) -> str:
    """An error of the database or of Redis in one line, without a row's content."""
    original = getattr(error, "orig", None)
    said = " ".join(f"{type(original or error).__name__}: {original or error}".split())[:300]
    if TABLE in said and re.search("no such table|does not exist|doesn't exist", said):
        said += "; run `courier outbox create`, or your migrations"
    return said
