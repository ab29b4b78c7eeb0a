"""The way into the accounts' inboxes, and the message that wakes a worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import redis

from ..config import CourierCelery, Settings, make_celery
from ..config.connections import connect_briefly, until
from ..config.redis_errors import describe_redis_error
from ..jobs.errors import NotEnqueued
from ..jobs.job import AttributeJob, Lane, content_digest
from ..jobs.schema import dump_wire
from ..state import inbox
from ..state.inbox import Entry, Known
from ..state.keys import Keys
from .wakeup import WakeUp


def entry_of(job: AttributeJob) -> Entry:
    """A job's entry.

    Raises:
        InvalidJob: the document is longer than 64 KiB.
    """
    return Entry(
        job_id=job.job_id,
        wire=dump_wire(job),
        idempotency_key=job.idempotency_key,
        content=content_digest(job) if job.idempotency_key is not None else "",
    )


class Inbox:
    """The way into the accounts' inboxes. May be shared by threads, and made before a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._inboxes: dict[str, inbox.Inbox] = {}
        self._wakeup = WakeUp(settings, self.redis)

    @cached_property
    def redis(self) -> redis.Redis:
        return connect_briefly(self._settings)

    @cached_property
    def celery(self) -> CourierCelery:
        return make_celery(self._settings)

    def _of(self, account: str) -> inbox.Inbox:
        found = self._inboxes.get(account)
        if found is None:
            found = self._inboxes[account] = inbox.Inbox(
                self.redis, Keys(account), retention_s=self._settings.retention_s
            )
        return found

    def put(self, keys: Keys, lane: Lane, entries: Sequence[Entry]) -> dict[int, Known]:
        """Put jobs into the inbox, in one step, and wake a worker, unless one was woken already.

        Returns:
            For each job that was known, its position among the entries, and what answers for it.

        Raises:
            NotEnqueued: Redis did not answer in time. The jobs may have arrived.
        """
        deadline = time.monotonic() + self._settings.enqueue_timeout_s
        try:
            with until(deadline):
                done = self._of(keys.account).put(lane, entries)
        except redis.RedisError as error:
            raise NotEnqueued(describe_redis_error(self._settings, error)) from error
        if done.wake:
            self._wakeup.send(keys.account, deadline_s=deadline)
        return done.known

    def waiting(self, keys: Keys) -> int:
        """How many jobs no worker has accepted yet.

        Raises:
            NotEnqueued: Redis did not answer in time.
        """
        try:
            return self._of(keys.account).waiting()
        except redis.RedisError as error:
            raise NotEnqueued(describe_redis_error(self._settings, error)) from error

    def close(self) -> None:
        """Close the connections. New ones are opened when they are needed."""
        self.redis.close()
        self.celery.close()
        del self.celery
