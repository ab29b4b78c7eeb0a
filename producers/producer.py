"""Handing jobs to the courier."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import redis

from ..config import CourierCelery, Settings, load_settings
from ..config.redis_errors import describe_redis_error
from ..jobs.attributes import Attributes
from ..jobs.build import build_job
from ..jobs.emails import normalized_email
from ..jobs.errors import FieldError, IdempotencyConflict, InvalidJob, NotReachable
from ..jobs.job import Lane
from ..jobs.outcome import Outcome
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from .bulk import Batch, Bulk, BulkLoad, Item
from .inbox import Inbox, entry_of


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The proof that a job is in the courier's hands."""

    job_id: str
    """As Flower shows it and `AsyncResult` takes it. With an idempotency key seen before: the first
    job's."""
    account: str
    duplicate: bool = False
    """Whether an earlier job with this idempotency key answers for this one."""
    _producer: Producer = field(repr=False, compare=False)

    def outcome(self) -> Outcome | None:
        """What became of the job so far; None when it is known no more, after the retention.

        Raises:
            NotReachable: Redis does not answer.
        """
        return self._producer.outcome(self.job_id, account=self.account)

    def wait(self, timeout: float | None = None, *, poll: float = 0.1) -> Outcome:
        """Wait until the job is at its end.

        Args:
            timeout: seconds; None waits as long as it takes, which can be days.
            poll: seconds between two looks.

        Raises:
            TimeoutError: it is still pending. It goes on all the same.
            NotReachable: Redis does not answer.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            outcome = self.outcome()
            if outcome is not None and outcome.settled:
                return outcome
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.job_id} is still pending after {timeout:g} s")
            time.sleep(poll)

    async def wait_async(self, timeout: float | None = None, *, poll: float = 0.1) -> Outcome:
        """As `wait`, without blocking the event loop."""
        async with asyncio.timeout(timeout):
            while True:
                outcome = await asyncio.to_thread(self.outcome)
                if outcome is not None and outcome.settled:
                    return outcome
                await asyncio.sleep(poll)


class Producer:
    """Hands jobs to the courier. May be shared by threads, and made before a fork.

    Application code mostly uses the module's functions, which share one made from the environment.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._inbox = Inbox(settings)

    def add_attributes(
        self,
        email: str,
        attributes: Attributes,
        *,
        source: str | None = None,
        occurred_at: datetime | None = None,
        idempotency_key: str | None = None,
        lane: Lane = "live",
        only_changed: bool = False,
        account: str | None = None,
    ) -> Receipt:
        """Ask for custom attributes to be added to all customers who have this email.

        When this returns, the job is in Redis and reaches an outcome, whatever crashes.

        Args:
            email: whose customers.
            attributes: key → value (`{"channel": "Facebook", "age": 8}`), key → `Attribute` where
                the type is not Python's own, or the list of dicts of ChartMogul's reference.
            source: where the attributes were made, for those without their own; ChartMogul shows
                it, and "API" without one.
            occurred_at: when the values became true (now unless given); needs a zone. For each
                email and key the newest wins, whatever the order of arrival.
            idempotency_key: a job with a key that was seen within the retention is not a new job.
            lane: "live", or "bulk" for what may wait behind live jobs.
            only_changed: send no value that ChartMogul's answer showed the last time; a job of
                which nothing is left to send is `unchanged`.
            account: its name, if there are several.

        Raises:
            InvalidJob: something is not accepted; `errors` lists all that is, with its place.
            NotEnqueued: Redis did not take it within COURIER_ENQUEUE_TIMEOUT. It may have arrived:
                only with an idempotency key is it safe to ask again.
        """
        keys = self._keys(account)
        job = build_job(
            email=email,
            attributes=attributes,
            source=source,
            occurred_at=occurred_at,
            idempotency_key=idempotency_key,
            lane=lane,
            only_changed=only_changed,
        )
        known = self._inbox.put(keys, job.lane, [entry_of(job)]).get(0)
        if known is not None and known.conflict:
            raise IdempotencyConflict(known.job_id)
        job_id = known.job_id if known is not None else job.job_id
        return Receipt(
            job_id=job_id,
            account=keys.account,
            duplicate=job_id != job.job_id,
            _producer=self,
        )

    def add_many(
        self,
        jobs: Iterable[Item],
        *,
        lane: Lane = "bulk",
        only_changed: bool = False,
        account: str | None = None,
        on_batch: Callable[[Batch], None] | None = None,
        batch_size: int = 500,
        max_waiting: int = 50_000,
    ) -> Bulk:
        """Ask for custom attributes to be added, for many emails: a batch of jobs a round trip.

        The jobs are taken from the iterable as they are needed: never more than one batch is in
        memory. One that is wrong spoils nothing else: it is counted and told of, and left out.
        What `on_batch` was told of is in Redis and reaches an outcome, whatever crashes.

        Args:
            jobs: pairs of email and attributes, or mappings with the names of `add_attributes`'
                arguments (`email`, `attributes`, `source`, `occurred_at`, `idempotency_key`) and
                `job_id`, a UUID of your own: asked again with it, it is the same job, which
                needs no memory of its own, as an idempotency key does. A job that does not say
                when it occurred does so now, and later than the one before it.
            lane: "bulk" waits behind "live" jobs.
            only_changed: as for `add_attributes`, for all of them.
            account: its name, if there are several.
            on_batch: called after each batch.
            batch_size: how many items make a batch, 1 to 1,000. A batch of long documents, of a
                million characters together, is sent earlier.
            max_waiting: while more jobs than this are in the inbox, it waits for workers.

        Returns:
            How many became jobs, how many did not, and why. After a connection was lost, jobs of
            the batch on its way then may count as duplicates of themselves if they have a
            `job_id`.

        Raises:
            InvalidJob: `lane`, `only_changed` or `account` is not accepted. Nothing was sent.
            NotEnqueued: Redis did not take a batch within COURIER_ENQUEUE_TIMEOUT, or more than
                `max_waiting` jobs are in the inbox and for 60 s it has not shrunk. The text says
                how many were enqueued before that. To ask again for all of them is safe with ids
                or idempotency keys.
        """
        load = BulkLoad(
            self._inbox,
            self._keys(account),
            lane=lane,
            only_changed=only_changed,
            max_waiting=max_waiting,
        )
        return load.run(jobs, on_batch=on_batch, batch_size=batch_size)

    def outcome(self, job_id: str, *, account: str | None = None) -> Outcome | None:
        """What became of a job so far; None when nothing is known of it.

        Raises:
            NotReachable: Redis does not answer.
        """
        with self.reading(account) as outcomes:
            return outcomes.get(job_id)

    def outcomes(
        self, email: str, *, account: str | None = None, limit: int = 100
    ) -> list[Outcome]:
        """The email's jobs, newest first, at most 100.

        Raises:
            NotReachable: Redis does not answer.
        """
        with self.reading(account) as outcomes:
            return outcomes.of_email(normalized_email(email), limit=limit)

    @contextmanager
    def reading(self, account: str | None = None) -> Iterator[Outcomes]:
        """All that can be asked about an account's outcomes.

        Raises:
            NotReachable: Redis does not answer, within the block.
        """
        try:
            yield Outcomes(self._inbox.redis, self._keys(account))
        except redis.RedisError as error:
            raise NotReachable(describe_redis_error(self.settings, error)) from error

    @property
    def celery(self) -> CourierCelery:
        """The Celery application, for `AsyncResult(job_id, app=…)` and what is built on it.

        It is the courier's own: the application's may have another broker and other results.
        """
        return self._inbox.celery

    def close(self) -> None:
        """Close the connections. The producer opens new ones when it is used again."""
        self._inbox.close()

    def _keys(self, account: str | None) -> Keys:
        account = account or self.settings.default_account
        if account not in self.settings.accounts:
            known = ", ".join(self.settings.accounts)
            message = f"not an account that COURIER_ACCOUNT or COURIER_ACCOUNTS names ({known})"
            raise InvalidJob([FieldError(path="account", message=message)])
        return Keys(account)


_lock = threading.Lock()
_default: Producer | None = None


def default_producer() -> Producer:
    """The producer that the module's functions share, made from the environment at first use.

    Raises:
        SettingsError: the environment does not make valid settings.
    """
    global _default
    with _lock:
        if _default is None:
            _default = Producer(load_settings(strict=False))
        return _default


def add_attributes(
    email: str,
    attributes: Attributes,
    *,
    source: str | None = None,
    occurred_at: datetime | None = None,
    idempotency_key: str | None = None,
    lane: Lane = "live",
    only_changed: bool = False,
    account: str | None = None,
) -> Receipt:
    """`Producer.add_attributes` of the default producer."""
    return default_producer().add_attributes(
        email,
        attributes,
        source=source,
        occurred_at=occurred_at,
        idempotency_key=idempotency_key,
        lane=lane,
        only_changed=only_changed,
        account=account,
    )


def add_many(
    jobs: Iterable[Item],
    *,
    lane: Lane = "bulk",
    only_changed: bool = False,
    account: str | None = None,
    on_batch: Callable[[Batch], None] | None = None,
    batch_size: int = 500,
    max_waiting: int = 50_000,
) -> Bulk:
    """`Producer.add_many` of the default producer."""
    return default_producer().add_many(
        jobs,
        lane=lane,
        only_changed=only_changed,
        account=account,
        on_batch=on_batch,
        batch_size=batch_size,
        max_waiting=max_waiting,
    )


async def add_attributes_async(
    email: str,
    attributes: Attributes,
    *,
    source: str | None = None,
    occurred_at: datetime | None = None,
    idempotency_key: str | None = None,
    lane: Lane = "live",
    only_changed: bool = False,
    account: str | None = None,
) -> Receipt:
    """`add_attributes`, without blocking the event loop."""
    return await asyncio.to_thread(
        add_attributes,
        email,
        attributes,
        source=source,
        occurred_at=occurred_at,
        idempotency_key=idempotency_key,
        lane=lane,
        only_changed=only_changed,
        account=account,
    )
