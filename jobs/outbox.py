"""The outbox: jobs that wait in a table of the application's own database, until they are relayed.

A row is written in the application's transaction, so it is there if and only if that transaction
was committed. `producers.sqlalchemy` and `producers.django` write rows, `worker.relay` reads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from .job import END_OF_TIME, AttributeJob, time_of
from .wire import dump_wire

TABLE = "attribute_courier_outbox"
"""Columns: `id` (a number that grows), `job_id`, `account`, `lane`, `document`, `written_us`."""
WRITTEN_US = {
    "postgresql": "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
    "sqlite": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000",
    "mysql": "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
    "mariadb": "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)",
}
"""The database's time of the statement, not of its transaction, in microseconds since 1970.

Of two transactions that change one customer, the second waits for the first. So the time of its
statement is later, though it may have begun earlier.
"""


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """One job in the outbox."""

    id: int
    job_id: str
    """Is the job's id, too: a row that is relayed twice is one job."""
    account: str
    lane: str
    document: str
    """The job's wire document."""
    written_us: int
    """When it was written, by the database's clock: microseconds since 1970."""


def outbox_document(job: AttributeJob) -> str:
    """A job's document, as the outbox holds it.

    Raises:
        InvalidJob: it is longer than 64 KiB, or will be once it says when it occurred.
    """
    if job.occurred_at is None:
        dump_wire(replace(job, occurred_at=END_OF_TIME))
    return dump_wire(job)


def relayed_document(row: OutboxRow) -> str:
    """A row's document as the inbox gets it.

    A job that does not say when it occurred says when it was written: a row that is relayed late
    must not overwrite what was written after it.
    """
    try:
        document = json.loads(row.document)
        if "occurred_at" in document:
            return row.document
        moment = time_of(row.written_us).replace(tzinfo=None)
        document["occurred_at"] = moment.isoformat(timespec="microseconds") + "Z"
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        text.encode()  # fails where a lone surrogate was escaped
    except (ValueError, TypeError, OverflowError, RecursionError):
        return row.document  # somebody else's; a worker says what is wrong with it
    return text
