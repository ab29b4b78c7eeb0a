"""The inbox in Redis, where jobs wait for a worker, and the message that wakes one up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import redis
from kombu.exceptions import OperationalError

from ..config import CourierCelery, Settings, make_celery
from ..config.celery import ACCEPT_SHOWN, ACCEPT_TASK
from ..config.connections import connect_briefly
from ..jobs.errors import NotEnqueued
from ..jobs.job import AttributeJob, Lane
from ..jobs.schema import dump_wire
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from ..state.scripts import PACKAGE, load_script

log = logging.getLogger(__name__)

_TRANSPORT = f"{__package__}.transport:Transport"
"""By its name, since kombu's part of it is imported when a message is sent, and not before."""


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

    @cached_property
    def redis(self) -> redis.Redis:
        return connect_briefly(self._settings)

    @cached_property
    def celery(self) -> CourierCelery:
        app = make_celery(self._settings, socket_timeout_s=self._settings.enqueue_timeout_s / 4)
        # Kombu would go on connecting for seconds; a job is found without its message, too.
        app.conf.broker_transport_options |= {"max_retries": 0}
        app.conf.broker_transport = _TRANSPORT
        return app

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
            to_tell, *known = self._enqueue(keys=[keys.prefix], args=args)
        except redis.RedisError as error:
            raise NotEnqueued(self._settings.redis_is_silent(error)) from error
        if to_tell and time.monotonic() < deadline:
            self._tell(keys.account)
        return dict(zip(known[::2], known[1::2], strict=True))

    def waiting(self, keys: Keys) -> int:
        """How many jobs no worker has accepted yet.

        Raises:
            NotEnqueued: Redis did not answer in time.
        """
        try:
            return Outcomes(self.redis, keys).waiting()
        except redis.RedisError as error:
            raise NotEnqueued(self._settings.redis_is_silent(error)) from error

    def close(self) -> None:
        """Close the connections. New ones are opened when they are needed."""
        self.redis.close()
        self.celery.close()
        del self.celery

    def _tell(self, account: str) -> None:
        """Send a message. If that fails, a worker finds the jobs all the same."""
        try:
            self.celery.send_task(
                ACCEPT_TASK,
                [account],
                argsrepr=ACCEPT_SHOWN,
                kwargsrepr="",
                ignore_result=True,
                retry=False,
            )
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("no message sent to the workers (%s)", type(error).__name__)
