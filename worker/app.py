"""The Celery application: `celery -A attribute_courier.worker worker`, or `courier worker`.

Reads the settings when it is imported.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from functools import cache
from typing import Any

import redis
from celery import bootsteps, signals
from kombu.utils.compat import detect_environment

from ..config import SettingsError, load_settings, make_celery
from ..config.connections import connect_patiently
from ..config.network import check_for_work
from ..state.account import AccountHealth
from ..state.keys import Keys
from ..state.mailboxes import Mailboxes
from ..state.outcomes import Outcomes
from .account_worker import LEASE_MARGIN_S, TICK_S, Courier
from .chartmogul import ChartMogul
from .notifier import CeleryNotifier
from .trouble import RedisTrouble

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.25
EVENTS_AT_ONCE = 200
WELL_AFTER_S = 3.0
"""So long after the consumer has connected without an error, it counts as well."""
POOLS = ("thread", "prefork", "solo")
"""Modules of Celery's pools that work."""

settings = load_settings()
trouble = RedisTrouble(settings)
app = make_celery(settings)
app.conf.include = ["attribute_courier.worker.tasks"]
app.conf.worker_consumer = "attribute_courier.worker.consumer:Intake"
_notifier = CeleryNotifier(app)


@cache
def _client() -> redis.Redis:
    return connect_patiently(settings)


@cache
def account_worker_of(account: str) -> Courier:
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
    keys = Keys(account)
    return Courier(
        account,
        settings,
        mailboxes=Mailboxes(
            _client(),
            keys,
            # Longer than a request (promise 3), and than a lost one can still act after it.
            lease_s=2 * settings.timeout_s + LEASE_MARGIN_S,
            retention_s=settings.retention_s,
            rate_limit=settings.rate_limit,
            bulk_share=settings.bulk_share,
            strict_types=settings.strict_types,
        ),
        outcomes=Outcomes(_client(), keys),
        weather=AccountHealth(
            _client(),
            keys,
            rate_limit=settings.rate_limit,
            probe_delays_s=settings.probe_delays_s,
        ),
        chartmogul=ChartMogul(
            settings.api_url,
            settings.api_key(account),
            timeout_s=settings.timeout_s,
            with_associated_emails=settings.with_associated_emails,
        ),
        post=_notifier,
    )


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
                "Error: a worker does not work with --autoscale: its idle threads cost nothing, so "
                "set their number by --concurrency or COURIER_CONCURRENCY"
            )
        try:
            check_for_work(settings)
        except SettingsError as error:
            raise SystemExit(f"Error: {error}") from None
        _notifier.hostname = worker.hostname


class Ticker(bootsteps.StartStopStep):
    """Runs the `tick` of all accounts in one thread, from the worker's start to its stop."""

    def __init__(self, worker: Any, **options: Any) -> None:
        self._stopping = threading.Event()

    def start(self, worker: Any) -> None:
        threading.Thread(target=self._run, name="ticker", daemon=True).start()

    def stop(self, worker: Any) -> None:
        self._stopping.set()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = min(self._tick(account) for account in settings.accounts)

    def _tick(self, account: str) -> float:
        part = f"ticker of {account}"
        try:
            wait_s = account_worker_of(account).tick()
        except redis.RedisError as error:
            trouble.met(part, error)
            return TICK_S
        except Exception:
            log.exception("account %s: the ticker met an unexpected error; trying again", account)
            return TICK_S
        trouble.over(part)
        return wait_s


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


app.steps["worker"].update({Checks, Ticker})
app.steps["consumer"].add(Reports)
