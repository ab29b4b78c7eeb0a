"""The Celery application: `celery -A attribute_courier.worker worker`, or `courier worker`.

Takes the settings that hold when it is imported: those of `configure()`, else Django's, where
Django is set up, before the environment's.
"""

from __future__ import annotations

import logging
import secrets
import threading
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

from celery import bootsteps, signals
from kombu.utils.compat import detect_environment

from ..config import SettingsError
from ..config.celery import make_celery
from ..config.chosen import choose
from ..config.connections import Client, connect_patiently
from ..config.network import check_for_work
from ..config.redis_errors import RedisError
from ..jobs.errors import OtherLayout
from ..state.keys import Keys
from ..state.layout import check_layout
from ..state.workers import Worker
from .account_worker import TICK_S, AccountWorker
from .notifier import Notifier
from .ticker import Ticker
from .trouble import RedisTrouble

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.25
EVENTS_AT_ONCE = 200
WELL_AFTER_S = 3.0
"""So long after the consumer has connected without an error, it counts as well."""
POOLS = ("thread", "prefork", "solo")
"""Modules of Celery's pools that work."""

settings = choose().load(strict=True)
trouble = RedisTrouble(settings)
app = make_celery(settings)
app.conf.include = ["attribute_courier.worker.tasks"]
app.conf.worker_consumer = "attribute_courier.worker.consumer:Intake"
stopping = threading.Event()
_notifier = Notifier(app)


@cache
def _client() -> Client:
    return connect_patiently(settings)


@cache
def account_worker_of(account: str) -> AccountWorker:
    """The worker of an account.

    Raises:
        LookupError: no such account is configured here.
        SettingsError: the account has no API key.
    """
    if account not in settings.accounts:
        raise LookupError(
            f"no account of this name is configured here; COURIER_ACCOUNTS names "
            f"{', '.join(settings.accounts)}"
        )
    return AccountWorker(account, settings, client=_client(), notifier=_notifier)


@cache
def know_layout(account: str) -> None:
    """Make sure, once, that an account's keys in Redis have the form that this release reads.

    Raises:
        OtherLayout: they do not.
        redis.RedisError: Redis fails.
    """
    check_layout(_client(), Keys(account))


class Checks(bootsteps.Step):
    """Refuses to start, in words, where a worker could not work."""

    def __init__(self, worker: Any, autoscale: Any = None, **options: Any) -> None:
        pool = worker.pool_cls
        name = getattr(pool, "__module__", str(pool)).rpartition(".")[2]
        if name not in POOLS or detect_environment() != "default":
            raise SystemExit(
                "Error: a worker works with the pools threads (the default), prefork and solo, "
                "and not with gevent or eventlet: start it without -P, or with one of these"
            )
        if autoscale:
            raise SystemExit(
                "Error: a worker does not work with --autoscale. Its idle threads cost nothing: "
                "set their number by --concurrency or COURIER_CONCURRENCY"
            )
        try:
            check_for_work(settings)
        except SettingsError as error:
            raise SystemExit(f"Error: {error}") from None
        _notifier.hostname = worker.hostname


def _description(worker: Any) -> Worker:
    """This worker process, as it says that it is alive."""
    return Worker(
        id=secrets.token_hex(8),
        name=worker.hostname,
        version=version("attribute-courier"),
        pool=getattr(worker.pool_cls, "__module__", "").rpartition(".")[2],
        concurrency=worker.concurrency or 1,
        started_at=datetime.now(UTC),
    )


class Ticking(bootsteps.StartStopStep):
    """Runs the ticker in a thread of its own, from the worker's start to its stop."""

    def __init__(self, worker: Any, **options: Any) -> None:
        self._ticker: Ticker | None = None

    def start(self, worker: Any) -> None:
        workers = {name: account_worker_of(name) for name in settings.accounts}
        self._ticker = ticker = Ticker(_client(), workers, me=_description(worker))
        try:
            for account in settings.accounts:
                know_layout(account)
        except RedisError as error:
            trouble.met("ticker", error)  # each task and tick looks again
        except OtherLayout as error:
            raise SystemExit(f"Error: {error}") from None
        for run in (lambda: _tick(ticker), lambda: ticker.repair_until(stopping)):
            threading.Thread(target=run, name="ticker", daemon=True).start()

    def stop(self, worker: Any) -> None:
        stopping.set()
        if self._ticker is not None:
            self._ticker.leave()


def _tick(ticker: Ticker) -> None:
    wait_s = 0.0
    while not stopping.wait(wait_s):
        wait_s = TICK_S
        try:
            for account in settings.accounts:
                know_layout(account)
            wait_s = ticker.tick()
        except RedisError as error:
            trouble.met("ticker", error)
        except Exception:
            log.exception("the ticker met an unexpected error; trying again")
        else:
            trouble.over("ticker")


class Reports(bootsteps.StartStopStep):
    """Lends the worker's event dispatcher to the notifier while it is connected.

    Events go out together, a few times a second: Celery sends nearly each by itself, which would be
    a quarter of the worker's CPU time.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timers: list[Any] = []

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_limit = EVENTS_AT_ONCE
        self._timers = [
            consumer.hub.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush),
            consumer.hub.call_later(WELL_AFTER_S, trouble.over, "consumer"),
        ]
        _notifier.dispatcher = dispatcher

    def stop(self, consumer: Any) -> None:
        _notifier.dispatcher = None
        for timer in self._timers:
            timer.cancel()
        if consumer.event_dispatcher is not None:
            with suppress(*consumer.connection_errors):
                consumer.event_dispatcher.flush()


@signals.worker_process_init.connect
def _report_from_a_child(**_: Any) -> None:
    """In a process of the prefork pool: it has a dispatcher, and a clock, of its own."""
    dispatcher = app.events.Dispatcher(
        app.connection_for_write(),
        hostname=_notifier.hostname,
        buffer_group=["task"],
        on_send_buffered=lambda: None,
    )
    dispatcher.buffer_limit = EVENTS_AT_ONCE
    _notifier.dispatcher = dispatcher

    def flush() -> None:
        pause = threading.Event()
        while not pause.wait(EVENTS_EVERY_S):
            with suppress(*app.connection_for_write().connection_errors):
                dispatcher.flush()

    threading.Thread(target=flush, name="events", daemon=True).start()


app.steps["worker"].update({Checks, Ticking})
app.steps["consumer"].add(Reports)
