"""The way into one account's inbox: in the time that the caller has, and with a wake-up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from ..config import Settings
from ..config.connections import Client, until
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs.errors import NotEnqueued, NotReachable
from ..jobs.job import AttributeJob, Lane, content_digest
from ..jobs.removal import Cancellation, Forgotten
from ..jobs.wire import dump_wire
from ..state.inbox import Entry, Inbox, Known
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from ..state.removal import Removal
from .flower_event import tell_flower
from .wakeup import WakeUp


def entry_of(job: AttributeJob) -> Entry:
    """A job as the inbox takes it.

    Raises:
        InvalidJob: the document is longer than 64 KiB.
    """
    return Entry(
        job_id=job.job_id,
        wire=dump_wire(job),
        idempotency_key=job.idempotency_key,
        content=content_digest(job) if job.idempotency_key is not None else "",
    )


class Intake:
    """Hands jobs over to one account's inbox. May be shared by threads, and made before a fork."""

    settles: ClassVar[bool] = True

    def __init__(self, settings: Settings, client: Client, wakeup: WakeUp, account: str) -> None:
        self._settings = settings
        self._inbox = Inbox(client, Keys(account), retention_s=settings.retention_s)
        self._outcomes = Outcomes(client, Keys(account))
        self._removal = Removal(
            client,
            Keys(account),
            retention_s=settings.retention_s,
            keep_s=settings.outcome_retention_s,
        )
        self._client = client
        self._wakeup = wakeup
        self.account = account

    def put(self, lane: Lane, entries: Sequence[Entry]) -> dict[int, Known]:
        """Put jobs into the inbox, in one step, and wake a worker, unless one was woken already.

        When the jobs were taken and the time is up, the wake-up is left out: workers find them.

        Returns:
            For each job that was known, its position among the entries, and the job that answers
            for it.

        Raises:
            NotEnqueued: Redis did not take them within COURIER_ENQUEUE_TIMEOUT. They may have
                arrived.
        """
        deadline_s = time.monotonic() + self._settings.enqueue_timeout_s
        try:
            with until(deadline_s):
                done = self._inbox.put(lane, entries, wake=self._wakeup.message(self.account))
        except RedisError as error:
            raise NotEnqueued(describe_redis_error(self._settings, error)) from error
        if done.wake:
            self._wakeup.send(self.account, deadline_s=deadline_s)
        return done.known

    def waiting(self) -> int:
        """How many jobs no worker has accepted yet.

        Raises:
            NotEnqueued: Redis did not answer within COURIER_ENQUEUE_TIMEOUT.
        """
        try:
            with until(time.monotonic() + self._settings.enqueue_timeout_s):
                return self._inbox.waiting()
        except RedisError as error:
            raise NotEnqueued(describe_redis_error(self._settings, error)) from error

    def cancel(self, job_id: str) -> Cancellation:
        """Take a job back that was not sent yet.

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        with self._reaching():
            found = self._removal.cancel(job_id)
        if found.canceled and found.outcome is not None:
            tell_flower(self._settings, self._client, self._wakeup.broker, found.outcome)
        return found

    def forget(self, email: str) -> Forgotten:
        """Remove all that Redis holds of a valid email.

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        with self._reaching():
            return self._removal.forget(email)

    @contextmanager
    def reading(self) -> Iterator[Outcomes]:
        """All that can be asked about the account's outcomes.

        Raises:
            NotReachable: Redis does not answer, or answers with an error, within the block.
        """
        with self._reaching():
            yield self._outcomes

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise NotReachable(describe_redis_error(self._settings, error)) from error
