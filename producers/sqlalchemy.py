"""For applications that use SQLAlchemy: jobs that belong to a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from sqlalchemy import MetaData, event, insert
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from ..jobs.attributes import Attributes
from ..jobs.outbox import outbox_document
from ..jobs.outbox_table import outbox_table as outbox_table
from ..jobs.outbox_table import written_us
from .deferred import Deferred, JobOptions
from .producer import Producer, default_producer
from .receipt import Receipt

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import (  # which needs a package of its own
        AsyncSession,
        async_scoped_session,
    )

_TABLE = outbox_table(MetaData())
_INFO = "attribute_courier"


def add_attributes_on_commit(
    session: Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any],
    email: str,
    attributes: Attributes,
    *,
    producer: Producer | None = None,
    **options: Unpack[JobOptions],
) -> Receipt:
    """Queue custom attributes once the session's transaction is committed; nothing, if it is not.

    What was asked for within a savepoint goes with the savepoint. What is not valid is said at
    once. If Redis does not take the job after the commit, it is lost, and an error in the log says
    so: use `add_attributes_in_outbox` where that must not happen.

    Args:
        session: in whose transaction; one is begun if there is none. A scoped session, such as
            Flask-SQLAlchemy's `db.session`, is the one that it has now.
        email: as for `add_attributes`, and so are attributes and options: source, occurred_at,
            lane, only_changed and account.
        producer: the default one unless given.

    Returns:
        The receipt. Nothing is known of the job until the commit.

    Raises:
        InvalidJob: something is not accepted; `errors` lists all that is, with its place.
        TypeError: this is no session.
    """
    deferred = (producer or default_producer()).defer(email, attributes, **options)
    _pending_of(_current(session)).add(deferred)
    return deferred.receipt


def add_attributes_in_outbox(
    session: Session | scoped_session[Any],
    email: str,
    attributes: Attributes,
    *,
    producer: Producer | None = None,
    **options: Unpack[JobOptions],
) -> Receipt:
    """Write custom attributes into the outbox, in the session's transaction.

    Nothing is sent to Redis: a worker, or `courier outbox relay`, relays the row once the
    transaction is committed. So the job is lost neither when Redis is away nor when this process
    ends. Unless `occurred_at` is given, it is the time of this call by the database's clock.

    With an `AsyncSession`: `await session.run_sync(add_attributes_in_outbox, email, {…})`.

    Args:
        session: in whose transaction the row is written. The others are those of
            `add_attributes_on_commit`.

    Returns:
        The receipt. Nothing is known of the job until the row is relayed.

    Raises:
        InvalidJob: something is not accepted; `errors` lists all that is, with its place.
        sqlalchemy.exc.SQLAlchemyError: the database does not take the row; is the table there?
    """
    deferred = (producer or default_producer()).defer(email, attributes, **options)
    job = deferred.job
    session.execute(
        insert(_TABLE).values(
            job_id=job.job_id,
            account=deferred.receipt.account,
            lane=job.lane,
            document=outbox_document(job),
            written_us=written_us(),
        )
    )
    return deferred.receipt


class _Pending:
    """Jobs of a session that wait for its commit, each with the transaction that it belongs to."""

    def __init__(self, session: Session) -> None:
        self._jobs: list[tuple[SessionTransaction, Deferred]] = []
        self._session = session
        event.listen(session, "after_commit", self._committed)
        # Also where the session is closed. What was committed has been dealt with by then.
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, deferred: Deferred) -> None:
        session = self._session
        transaction = session.get_nested_transaction() or session.get_transaction()
        self._jobs.append((transaction or session.begin(), deferred))

    def _committed(self, session: Session) -> None:
        done = session.get_nested_transaction()
        if done is not None and done.parent is not None:  # a savepoint: what is around it has them
            around = done.parent
            self._jobs = [(around if own is done else own, job) for own, job in self._jobs]
            return
        jobs, self._jobs = self._jobs, []
        for _, deferred in jobs:
            deferred.send()

    def _ended(self, _session: Session, gone: SessionTransaction) -> None:
        self._jobs = [(own, job) for own, job in self._jobs if not _within(own, gone)]


def _within(own: SessionTransaction | None, gone: SessionTransaction) -> bool:
    while own is not None and own is not gone:
        own = own.parent
    return own is not None


def _current(session: Any) -> Session:
    """The session that has the transaction."""
    scoped = hasattr(session, "registry") and hasattr(session, "remove")
    found = session.registry() if scoped else session
    found = getattr(found, "sync_session", found)
    if not isinstance(found, Session):
        raise TypeError(f"a session of SQLAlchemy is expected, not {type(session).__name__}")
    return found


def _pending_of(session: Session) -> _Pending:
    if _INFO not in session.info:
        session.info[_INFO] = _Pending(session)
    found: _Pending = session.info[_INFO]
    return found
