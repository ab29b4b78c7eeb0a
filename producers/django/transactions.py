"""Jobs that belong to a transaction of Django's."""

from __future__ import annotations

from typing import Unpack

from django.db import DEFAULT_DB_ALIAS, transaction

from ...jobs.attributes import Attributes
from ...jobs.outbox import outbox_document
from ..deferred import JobOptions
from ..producer import Producer, default_producer
from ..receipt import Receipt


def add_attributes_on_commit(
    email: str,
    attributes: Attributes,
    *,
    using: str = DEFAULT_DB_ALIAS,
    producer: Producer | None = None,
    **options: Unpack[JobOptions],
) -> Receipt:
    """Queue custom attributes once the transaction is committed; nothing, if it is not.

    Outside of a transaction they are queued at once. What was asked for within a savepoint goes
    with the savepoint. What is not valid is said at once. If Redis does not take the job after the
    commit, it is lost, and an error in the log says so: use `add_attributes_in_outbox` where that
    must not happen.

    Args:
        email: as for `add_attributes`, and so are attributes and options: source, occurred_at,
            lane, only_changed and account.
        using: the database whose transaction it is.
        producer: the default one unless given.

    Returns:
        The receipt. Nothing is known of the job until the commit.

    Raises:
        InvalidJob: something is not accepted; `errors` lists all that is, with its place.
    """
    deferred = (producer or default_producer()).defer(email, attributes, **options)
    transaction.on_commit(deferred.send, using=using)
    return deferred.receipt


def add_attributes_in_outbox(
    email: str,
    attributes: Attributes,
    *,
    using: str = DEFAULT_DB_ALIAS,
    producer: Producer | None = None,
    **options: Unpack[JobOptions],
) -> Receipt:
    """Write custom attributes into the outbox, in the transaction of a database.

    Nothing is sent to Redis: a worker, or `courier outbox relay`, relays the row once the
    transaction is committed. So the job is lost neither when Redis is away nor when this process
    ends. Unless `occurred_at` is given, it is the time of this call by the database's clock.

    Args:
        using: the database. The others are those of `add_attributes_on_commit`.

    Returns:
        The receipt. Nothing is known of the job until the row is relayed.

    Raises:
        InvalidJob: something is not accepted; `errors` lists all that is, with its place.
        django.db.DatabaseError: the database does not take the row; was `manage.py migrate` run?
    """
    from .models import Outbox, WrittenUs  # once Django's apps are ready

    deferred = (producer or default_producer()).defer(email, attributes, **options)
    job = deferred.job
    Outbox.objects.using(using).create(
        job_id=job.job_id,
        account=deferred.receipt.account,
        lane=job.lane,
        document=outbox_document(job),
        written_us=WrittenUs(),
    )
    return deferred.receipt
