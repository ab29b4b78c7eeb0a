"""The inbox in Redis, where jobs wait for a worker."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import redis

from ..config import CourierCelery, Settings, make_celery
from ..config.connections import connect_briefly, until
from ..config.redis_errors import describe_redis_error
from ..jobs.errors import NotEnqueued
from ..jobs.job import AttributeJob, Lane
from ..jobs.schema import dump_wire
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from ..state.scripts import PACKAGE, load_script
from .wakeup import WakeUp


class Entry(NamedTuple):
    """A job as the inbox takes it."""

    job_id: str
    wire: str
    idempotency: str
    """The key in Redis of its idempotency key; "" for none."""

    @classmethod
    def of(cls, job: AttributeJob, keys: Keys) -> Entry:
        """A job's entry.

        Raises:
            InvalidJob: the document is longer than 64 KiB.
        """
        key = job.idempotency_key
        return cls(job.job_id, dump_wire(job), "" if key is None else keys.idempotency(key))


class Inbox:
    """The way into the accounts' inboxes. May be shared by threads, and made before a fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._enqueue = load_script(self.redis, PACKAGE, "enqueue.lua")
        self._wakeup = WakeUp(settings, self.redis)

    @cached_property
    def redis(self) -> redis.Redis:
        return connect_briefly(self._settings)

    @cached_property
    def celery(self) -> CourierCelery:
        return make_celery(self._settings)

    def put(self, keys: Keys, lane: Lane, entries: Iterable[Entry]) -> dict[int, str]:
        """Put jobs into the inbox, in one step, and tell a worker, unless one was told already.

        Returns:
            For each job that was known, its position among the entries, and the id of the job
            that answers for it. That is its own where the id was known, as it also is when the
            answer was lost and redis-py asked again.

        Raises:
            NotEnqueued: Redis did not answer in time. The jobs may have arrived.
        """
        deadline = time.monotonic() + self._settings.enqueue_timeout_s
        args: list[str | int] = [lane, self._settings.retention_s]
        for entry in entries:
            args += entry
        try:
            with until(deadline):
                to_tell, *known = self._enqueue(keys=[keys.prefix], args=args)
        except redis.RedisError as error:
            raise NotEnqueued(describe_redis_error(self._settings, error)) from error
        if to_tell:
            self._wakeup.send(keys.account, deadline_s=deadline)
        return dict(zip(known[::2], known[1::2], strict=True))

    def waiting(self, keys: Keys) -> int:
        """How many jobs no worker has accepted yet.

        Raises:
            NotEnqueued: Redis did not answer in time.
        """
        try:
            return Outcomes(self.redis, keys).waiting()
        except redis.RedisError as error:
            raise NotEnqueued(describe_redis_error(self._settings, error)) from error

    def close(self) -> None:
        """Close the connections. New ones are opened when they are needed."""
        self.redis.close()
        self.celery.close()
        del self.celery
