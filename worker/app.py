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
from celery import bootsteps

from ..config import load_settings, make_celery
from ..config.connections import connect_patiently
from ..config.redis_errors import describe_redis_error
from .account_worker import TICK_S, AccountWorker
from .notifier import Notifier
from .ticker import Ticker

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.25
EVENTS_AT_ONCE = 200

settings = load_settings()
app = make_celery(settings)
app.conf.include = ["attribute_courier.worker.tasks"]
app.conf.worker_consumer = "attribute_courier.worker.consumer:Intake"
_notifier = Notifier(app)
stopping = threading.Event()


@cache
def _client() -> redis.Redis:
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


class Ticking(bootsteps.StartStopStep):
    """Runs the ticker in a thread of its own, from the worker's start to its stop."""

    def __init__(self, worker: Any, **options: Any) -> None:
        """Nothing: Celery passes what a step may need."""

    def start(self, worker: Any) -> None:
        # A missing key stops the worker here, and not job by job.
        workers = {account: account_worker_of(account) for account in settings.accounts}
        ticker = Ticker(_client(), workers)
        for run in (lambda: _tick(ticker), lambda: ticker.repair_until(stopping)):
            threading.Thread(target=run, name="ticker", daemon=True).start()

    def stop(self, worker: Any) -> None:
        stopping.set()


def _tick(ticker: Ticker) -> None:
    wait_s, trouble = 0.0, ""
    while not stopping.wait(wait_s):
        try:
            wait_s, trouble = ticker.tick(), ""
        except redis.RedisError as error:
            words = describe_redis_error(settings, error)
            if words != trouble:
                log.warning("%s", words)
            wait_s, trouble = TICK_S, words
        except Exception:
            log.exception("the ticker met an unexpected error; trying again")
            wait_s = TICK_S


class Reports(bootsteps.StartStopStep):
    """Lends the worker's event dispatcher to the notifier while it is connected.

    Events go out together, a few times a second: Celery sends nearly each by itself, which would be
    a quarter of the worker's CPU time.
    """

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_limit = EVENTS_AT_ONCE
        self._timer = consumer.hub.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush)
        _notifier.dispatcher = dispatcher

    def stop(self, consumer: Any) -> None:
        _notifier.dispatcher = None
        if self._timer is not None:
            self._timer.cancel()
        if consumer.event_dispatcher is not None:
            with suppress(*consumer.connection_errors):
                consumer.event_dispatcher.flush()


app.steps["worker"].add(Ticking)
app.steps["consumer"].add(Reports)
