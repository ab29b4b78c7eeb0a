"""Handing jobs to the courier."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import redis
from kombu.exceptions import OperationalError

from ..config import CourierCelery, Settings, load_settings, make_celery
from ..config.celery import ACCEPT_TASK
from ..config.connections import connect_briefly
from ..config.scripts import load_script
from ..jobs.attributes import Attribute, attributes_from
from ..jobs.errors import FieldError, InvalidJob, NotEnqueued, NotReachable
from ..jobs.ids import new_job_id
from ..jobs.job import AttributeJob, Lane, describe, normalized_email
from ..jobs.keys import Keys
from ..jobs.outcome import Outcome, Outcomes
from ..jobs.schema import WIRE_VERSION, dump_wire, load_job

log = logging.getLogger(__name__)

Attributes = Mapping[str, Any] | Sequence[Mapping[str, Any] | Attribute]
"""Key → plain value or `Attribute`, or the list of dicts of ChartMogul's reference."""

MAX_AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie in the future."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The proof that a job is in the courier's hands."""

    job_id: str
    """Also the id of its Celery task. With an idempotency key seen before: the first job's."""
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
            if outcome is not None and outcome.ended:
                return outcome
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.job_id} is still pending after {timeout:g} s")
            time.sleep(poll)

    async def wait_async(self, timeout: float | None = None, *, poll: float = 0.1) -> Outcome:
        """As `wait`, without blocking the event loop."""
        async with asyncio.timeout(timeout):
            while True:
                outcome = await asyncio.to_thread(self.outcome)
                if outcome is not None and outcome.ended:
                    return outcome
                await asyncio.sleep(poll)


class Producer:
    """Hands jobs to the courier. May be shared by threads, and made before a fork.

    Application code mostly uses the module's functions, which share one made from the environment.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._enqueue = load_script(self._redis, "attribute_courier.producers", "enqueue.lua")

    def add_attributes(
        self,
        email: str,
        attributes: Attributes,
        *,
        source: str | None = None,
        occurred_at: datetime | None = None,
        idempotency_key: str | None = None,
        lane: Lane = "live",
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
            account: its name, if there are several.

        Raises:
            InvalidJob: something is not accepted; `errors` lists all that is, with its place.
            NotEnqueued: Redis did not take it within COURIER_ENQUEUE_TIMEOUT. It may have arrived:
                only with an idempotency key is it safe to ask again.
        """
        keys = self._keys(account)
        job = _job(email, attributes, source, occurred_at, idempotency_key, lane)
        deadline = time.monotonic() + self.settings.enqueue_timeout_s
        idem = keys.idempotency(idempotency_key) if idempotency_key is not None else ""
        try:
            answers_for_it = self._enqueue(
                keys=[keys.prefix],
                args=[job.job_id, dump_wire(job), idem, self.settings.retention_s],
            )
        except redis.RedisError as error:
            raise NotEnqueued(self.settings.redis_is_silent(error)) from error
        duplicate = answers_for_it != job.job_id
        if not duplicate and time.monotonic() < deadline:
            self._announce(keys.account, job)
        return Receipt(
            job_id=answers_for_it, account=keys.account, duplicate=duplicate, _producer=self
        )

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
            yield Outcomes(self._redis, self._keys(account))
        except redis.RedisError as error:
            raise NotReachable(self.settings.redis_is_silent(error)) from error

    @cached_property
    def celery(self) -> CourierCelery:
        """The Celery application, for `AsyncResult(job_id, app=…)` and what is built on it.

        It is the courier's own: the application's may have another broker and other results.
        """
        app = make_celery(self.settings, socket_timeout_s=self.settings.enqueue_timeout_s / 4)
        # Kombu would go on connecting for seconds; a job is found without its message, too.
        app.conf.broker_transport_options |= {"max_retries": 0}
        return app

    def close(self) -> None:
        """Close the connections. The producer opens new ones when it is used again."""
        self._redis.close()
        self.celery.close()
        del self.celery

    def _announce(self, account: str, job: AttributeJob) -> None:
        """Tell the workers, with ids only. If that fails, they find the job all the same."""
        try:
            self.celery.send_task(
                ACCEPT_TASK,
                [account, [job.job_id]],
                task_id=job.job_id,
                argsrepr=describe(job),
                kwargsrepr="",
                retry=False,
            )
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("job %s: no message sent (%s)", job.job_id, type(error).__name__)

    def _keys(self, account: str | None) -> Keys:
        account = account or self.settings.default_account
        if account not in self.settings.accounts:
            known = ", ".join(self.settings.accounts)
            message = f"not an account that COURIER_ACCOUNT or COURIER_ACCOUNTS names ({known})"
            raise InvalidJob([FieldError(path="account", message=message)])
        return Keys(account)

    @cached_property
    def _redis(self) -> redis.Redis:
        return connect_briefly(self.settings)


def _job(
    email: str,
    attributes: Attributes,
    source: str | None,
    occurred_at: datetime | None,
    idempotency_key: str | None,
    lane: Lane,
) -> AttributeJob:
    now = datetime.now(UTC)
    untyped: tuple[FieldError, ...] = ()
    try:
        listed = attributes_from(attributes, source)
    except InvalidJob as invalid:
        # What stands in for them is right, so that the rest is judged, too.
        untyped, listed = invalid.errors, [{"type": "Boolean", "key": "stand_in", "value": True}]
    document = {
        "v": WIRE_VERSION,
        "email": email,
        "attributes": listed,
        "occurred_at": now if occurred_at is None else occurred_at,
        "lane": lane,
        **({} if idempotency_key is None else {"idempotency_key": idempotency_key}),
    }
    try:
        job = load_job(new_job_id(), document)
    except InvalidJob as invalid:
        raise InvalidJob([*untyped, *invalid.errors]) from None
    if untyped:
        raise InvalidJob(untyped)
    if job.occurred_at > now + MAX_AHEAD:
        message = "lies more than 5 minutes in the future"
        raise InvalidJob([FieldError(path="occurred_at", message=message)])
    return job


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
            _default = Producer(load_settings())
        return _default


def add_attributes(
    email: str,
    attributes: Attributes,
    *,
    source: str | None = None,
    occurred_at: datetime | None = None,
    idempotency_key: str | None = None,
    lane: Lane = "live",
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
        account=account,
    )


async def add_attributes_async(
    email: str,
    attributes: Attributes,
    *,
    source: str | None = None,
    occurred_at: datetime | None = None,
    idempotency_key: str | None = None,
    lane: Lane = "live",
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
        account=account,
    )
