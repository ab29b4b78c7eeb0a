"""Handing jobs to the courier."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import cached_property, wraps
from inspect import Signature, signature
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from ..config.chosen import Choice, choose
from ..config.connections import connect_briefly
from ..config.errors import NotConfigured
from ..config.running_tests import running_tests
from ..config.settings import Settings
from ..config.tracing import sending
from ..jobs import rules
from ..jobs.attributes import Attributes
from ..jobs.build import build_job
from ..jobs.errors import IdempotencyConflict, InvalidJob, NotReachable
from ..jobs.job import Lane
from ..jobs.outcome import Outcome
from ..jobs.plain import kind
from ..jobs.removal import Cancellation, Forgotten
from ..state.outcomes import Outcomes
from .bulk import Batch, Bulk, BulkLoad, Item, iterator_of
from .deferred import Deferred
from .destination import Destination, current_diversion
from .dropping import Dropping
from .intake import Intake, entry_of
from .receipt import Receipt
from .wakeup import WakeUp

if TYPE_CHECKING:
    from ..config.celery import CourierCelery

P = ParamSpec("P")
T = TypeVar("T")


class Producer:
    """Hands jobs to the courier. May be shared by threads, and made before a fork.

    Application code mostly uses the module's functions, which share one made from the settings that
    hold (`config.chosen`).
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._redis = connect_briefly(settings)
        self._wakeup = WakeUp(settings, self._redis)
        self._intakes: dict[str, Intake] = {}

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
        """Queue custom attributes for every customer with this email.

        When this returns, the job is in Redis and reaches an outcome, whatever crashes.

        Args:
            email: whose customers. Sent as given, only trimmed; which spellings are one email says
                `jobs.emails.normalized_email`: case and Punycode make no difference.
            attributes: key → value (`{"channel": "Facebook", "age": 8}`), key → `Attribute` where
                the type is not Python's own, or the list of dicts of ChartMogul's reference. A
                value is str, bool, int, float, Decimal, datetime, date, an Enum of these, or a
                scalar of NumPy or pandas. A datetime without a zone is taken as UTC.
            source: where the attributes were made, for those without their own; ChartMogul shows
                it, and "API" without one.
            occurred_at: when the values became true; for each email and key the newest wins,
                whatever the order of arrival. Unless given, it is when Redis gets the job. It
                needs a zone, unlike a datetime among the values: a guess of an hour would let an
                older value win.
            idempotency_key: jobs with the same key are one job, for as long as outcomes are kept.
            lane: "live", or "bulk" for what may wait behind live jobs.
            only_changed: send no value that ChartMogul's answer showed the last time; a job of
                which nothing is left to send is `unchanged`.
            account: its name, if there are several.

        Returns:
            The receipt, of the first job if the idempotency key is known with the same content.

        Raises:
            InvalidJob: something is not accepted; `errors` lists all that is, with its place.
            IdempotencyConflict: the idempotency key is known with another email or content.
            NotEnqueued: Redis did not take it within COURIER_ENQUEUE_TIMEOUT. It may have arrived:
                only with an idempotency key is it safe to ask again.
            NotConfigured: a test runner runs this, and nobody said where jobs go.
        """
        destination = self._destination(account)
        job = build_job(
            email=email,
            attributes=attributes,
            source=source,
            occurred_at=occurred_at,
            idempotency_key=idempotency_key,
            lane=lane,
            only_changed=only_changed,
        )
        with sending(destination.account) as sent:
            if sent.traceparent is not None:
                job = replace(job, traceparent=sent.traceparent)
            first = destination.put(job.lane, [entry_of(job)]).get(0)
            if first is not None and first.conflict:
                raise IdempotencyConflict(first.job_id)
            job_id = job.job_id if first is None else first.job_id
            sent.taken(job_id)
        return Receipt(
            job_id=job_id,
            account=destination.account,
            # Known by its own id, which is new, it came twice by itself: its answer was lost.
            duplicate=job_id != job.job_id,
            _destination=destination,
        )

    def defer(
        self,
        email: str,
        attributes: Attributes,
        *,
        source: str | None = None,
        occurred_at: datetime | None = None,
        lane: Lane = "live",
        only_changed: bool = False,
        account: str | None = None,
    ) -> Deferred:
        """A job that is checked now, and handed over when somebody calls its `send`.

        What the functions for transactions are made of. The arguments are those of
        `add_attributes`.

        Raises:
            InvalidJob: something is not accepted; `errors` lists all that is, with its place.
        """
        destination = self._destination(account)
        job = build_job(
            email=email,
            attributes=attributes,
            source=source,
            occurred_at=occurred_at,
            lane=lane,
            only_changed=only_changed,
        )
        with sending(destination.account) as sent:
            if sent.traceparent is not None:
                job = replace(job, traceparent=sent.traceparent)
            entry_of(job)  # whether it is not too long
            sent.taken(job.job_id)
        receipt = Receipt(job_id=job.job_id, account=destination.account, _destination=destination)
        return Deferred(job=job, receipt=receipt, destination=destination)

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
        """Queue custom attributes for many emails: a batch of jobs in one round trip.

        The jobs are taken from the iterable as they are needed: never more than one batch is in
        memory. A wrong one spoils nothing else: it is counted, told and left out. What `on_batch`
        was told of is in Redis and reaches an outcome, whatever crashes.

        Args:
            jobs: pairs of email and attributes, or mappings with the names of `add_attributes`'
                arguments (`email`, `attributes`, `source`, `occurred_at`, `idempotency_key`) and
                `job_id`, a UUID of your own: asked again with it, it is the same job, which
                needs no memory of its own, as an idempotency key does. Of jobs that do not say
                when they occurred, the later one is the newer.
            lane: "bulk" waits behind "live" jobs.
            only_changed: as for `add_attributes`, for all of them.
            account: its name, if there are several.
            on_batch: called after each batch.
            batch_size: how many items make a batch, 1 to 1,000. A batch of long documents, of a
                million characters together, is sent earlier.
            max_waiting: while more jobs than this are in the inbox, it waits for workers.

        Returns:
            How many became jobs, how many did not, and why. An idempotency key that is known with
            other content is a rejection. After a connection was lost, jobs of the batch on its way
            then may count as duplicates of themselves if they have a `job_id`.

        Raises:
            InvalidJob: `jobs`, `lane`, `only_changed` or `account` is not accepted; nothing was
                sent.
            ValueError: `batch_size` or `max_waiting` is out of bounds; nothing was sent.
            NotEnqueued: Redis did not take a batch within COURIER_ENQUEUE_TIMEOUT, or more than
                `max_waiting` jobs are in the inbox and for 60 s it has not shrunk. The text says
                how many were enqueued before that. To ask again for all of them is safe with ids
                or idempotency keys.

            What `jobs` or `on_batch` raises goes through; a note of the exception says how many
            jobs were enqueued. The items of a batch that was not full by then were not.
        """
        load = BulkLoad(
            self._destination(account),
            lane=_judged("lane", rules.lane, lane),
            only_changed=_judged("only_changed", rules.flag, only_changed),
            batch_size=batch_size,
            max_waiting=max_waiting,
            on_batch=on_batch,
        )
        return load.run(iterator_of(jobs))

    def outcome(self, job_id: str, *, account: str | None = None) -> Outcome | None:
        """What became of a job so far; None when nothing is known of it.

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        with self._destination(account).reading() as outcomes:
            return outcomes.get(job_id)

    def outcomes(
        self, email: str, *, account: str | None = None, limit: int = 100
    ) -> list[Outcome]:
        """The email's jobs, newest first, at most 100.

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        with self._destination(account).reading() as outcomes:
            return outcomes.of_email(email, limit=limit)

    def cancel(self, job_id: str, *, account: str | None = None) -> Cancellation:
        """Take a job back that was not sent yet. Its outcome is then `canceled`.

        Other jobs of its email are untouched, and what it replaced does not come back. A job that
        was attempted, or is being sent, goes on. To ask twice does no harm.

        Returns:
            Whether it is canceled, or why not.

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        return self._destination(account).cancel(job_id)

    def forget(self, email: str, *, account: str | None = None) -> list[Forgotten]:
        """Remove all that Redis holds of an email, in whatever spelling, in all accounts.

        Its jobs that wait are canceled. Of settled ones their status and times are left, and
        nothing of whose they were. The whole of Redis is looked through, at a bounded pace: with a
        million outcomes it takes about half a minute. Jobs for the email that come in meanwhile may
        be removed as well. docs/privacy.md says what cannot be reached.

        Args:
            account: only this one.

        Returns:
            What was removed, for each account.

        Raises:
            InvalidJob: this is no email. Nothing was removed.
            NotReachable: Redis does not answer, or answers with an error. Some may be removed
                already: ask again.
        """
        found = _judged("email", rules.email, email)
        names = self.settings.accounts if account is None else [self._account(account)]
        return [self._destination(name).forget(found) for name in names]

    def reading(self, account: str | None = None) -> AbstractContextManager[Outcomes]:
        """All that can be asked about an account's outcomes in Redis, for the block of a `with`.

        Raises:
            NotReachable: Redis does not answer, or answers with an error, within the block; or the
                jobs are captured by a test.
        """
        name = self._account(account)
        if current_diversion() is not None:
            raise NotReachable("jobs are captured by attribute_courier.testing, not in Redis")
        return self._intake(name).reading()

    @cached_property
    def celery(self) -> CourierCelery:
        """The Celery application, for `AsyncResult(job_id, app=…)` and what is built on it.

        It is the courier's own: the application's may have another broker and other results.
        """
        # Only who asks for it pays for importing Celery.
        from ..config.celery import make_celery

        return make_celery(self.settings)

    def close(self) -> None:
        """Close the connections. The producer opens new ones when it is used again."""
        self._redis.close()
        self._wakeup.close()
        celery = self.__dict__.pop("celery", None)
        if celery is not None:
            celery.close()

    def _destination(self, account: str | None) -> Destination:
        """Where an account's jobs go."""
        name = self._account(account)
        diversion = current_diversion()
        if diversion is not None:
            return diversion(name)
        return self._intake(name) if self.settings.enabled else Dropping(name)

    def _intake(self, name: str) -> Intake:
        if not self.settings.names_redis and (runner := running_tests()):
            raise NotConfigured(
                f"{runner} runs this, and nobody said where jobs go: capture them "
                "(attribute_courier.testing), drop them (COURIER_ENABLED=false), or name a Redis "
                "(COURIER_REDIS_URL, redis_url)"
            )
        found = self._intakes.get(name)
        if found is None:
            found = Intake(self.settings, self._redis, self._wakeup, name)
            self._intakes[name] = found
        return found

    def _account(self, account: str | None) -> str:
        if account is None:
            return self.settings.default_account
        if type(account) is not str or account not in self.settings.accounts:
            known = ", ".join(self.settings.accounts)
            raise InvalidJob.of(
                "account",
                f"not an account that COURIER_ACCOUNT or COURIER_ACCOUNTS names ({known}); "
                f"this is {kind(account)}",
            )
        return account


def _judged(path: str, rule: Callable[[object], T], value: object) -> T:
    try:
        return rule(value)
    except InvalidJob as invalid:
        raise InvalidJob.of(path, invalid.errors[0].message) from None


_lock = threading.RLock()
_default: Producer | None = None
_chosen: Choice | None = None
"""What the default producer was made from."""


def default_producer() -> Producer:
    """The producer that the module's functions share.

    It is made at first use, from the settings that hold: those of `configure()`, else Django's
    before the environment's. Where others hold now than when it was made, another one is made.

    Raises:
        SettingsError: the settings are not valid.
    """
    global _default, _chosen
    with _lock:
        choice = choose()  # here, so that no thread comes back to settings of before
        if _default is None or _chosen != choice:
            # The one before is left open: another thread may use it, and receipts ask through it.
            _default, _chosen = Producer(choice.load(strict=False)), choice
        return _default


def _shared(
    method: Callable[Concatenate[Producer, P], T],
) -> Callable[[Callable[[], None]], Callable[P, T]]:
    """Makes of a named, empty function one that calls the method of the default producer.

    It has the method's parameters and documentation, which so stand once.
    """

    def decorate(named: Callable[[], None]) -> Callable[P, T]:
        @wraps(method)
        def function(*args: P.args, **options: P.kwargs) -> T:
            return method(default_producer(), *args, **options)

        whole = signature(method)
        parameters = list(whole.parameters.values())[1:]  # without `self`
        _describe(function, named, whole.replace(parameters=parameters), method.__doc__)
        return function

    return decorate


def _in_a_thread(
    blocking: Callable[P, T],
) -> Callable[[Callable[[], None]], Callable[P, Coroutine[Any, Any, T]]]:
    """Makes of a named, empty function one that calls another without blocking the event loop."""

    def decorate(named: Callable[[], None]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(blocking)
        async def function(*args: P.args, **options: P.kwargs) -> T:
            return await asyncio.to_thread(blocking, *args, **options)

        doc = f"{named.__doc__}\n\n{blocking.__doc__}"
        _describe(function, named, signature(blocking), doc)
        return function

    return decorate


def _describe(function: Any, named: Any, parameters: Signature, doc: str | None) -> None:
    """What `help()`, editors and tracebacks show of a function that stands for another."""
    function.__name__ = function.__qualname__ = named.__name__
    function.__signature__ = parameters
    function.__doc__ = doc


@_shared(Producer.add_attributes)
def add_attributes() -> None:
    """`Producer.add_attributes` of the default producer."""


@_shared(Producer.add_many)
def add_many() -> None:
    """`Producer.add_many` of the default producer."""


@_in_a_thread(add_attributes)
def add_attributes_async() -> None:
    """`add_attributes`, without blocking the event loop."""


@_shared(Producer.cancel)
def cancel() -> None:
    """`Producer.cancel` of the default producer."""


@_shared(Producer.forget)
def forget() -> None:
    """`Producer.forget` of the default producer."""
