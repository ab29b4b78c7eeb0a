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
from ..state.account import AccountHealth
from ..state.keys import Keys
from ..state.mailboxes import Mailboxes
from ..state.outcomes import Outcomes
from .account_worker import LEASE_MARGIN_S, TICK_S, Courier
from .chartmogul import ChartMogul
from .notifier import CeleryNotifier

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.25
EVENTS_AT_ONCE = 200

settings = load_settings()
app = make_celery(settings)
app.conf.include = ["attribute_courier.worker.tasks"]
app.conf.worker_consumer = "attribute_courier.worker.consumer:Intake"
_post = CeleryNotifier(app)


@cache
def _client() -> redis.Redis:
    return connect_patiently(settings)


@cache
def courier_of(account: str) -> Courier:
    """The courier of an account.

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
        post=_post,
    )


class Ticker(bootsteps.StartStopStep):
    """Runs each account's `tick` in a thread of its own, from the worker's start to its stop."""

    def __init__(self, worker: Any, **options: Any) -> None:
        self._stopping = threading.Event()

    def start(self, worker: Any) -> None:
        # A missing key stops the worker here, and not job by job.
        couriers = {account: courier_of(account) for account in settings.accounts}
        for account, courier in couriers.items():
            name = f"ticker-{account}"
            threading.Thread(
                target=self._run, args=(account, courier), name=name, daemon=True
            ).start()

    def stop(self, worker: Any) -> None:
        self._stopping.set()

    def _run(self, account: str, courier: Courier) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            try:
                wait_s = courier.tick()
            except redis.RedisError as error:
                log.warning("Redis does not answer (%s); trying again", type(error).__name__)
                wait_s = TICK_S
            except Exception:
                log.exception("the ticker met an unexpected error; trying again")
                wait_s = TICK_S


class Reports(bootsteps.StartStopStep):
    """Lends the worker's event dispatcher to the couriers while it is connected.

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
        _post.dispatcher = dispatcher

    def stop(self, consumer: Any) -> None:
        _post.dispatcher = None
        if self._timer is not None:
            self._timer.cancel()
        if consumer.event_dispatcher is not None:
            with suppress(*consumer.connection_errors):
                consumer.event_dispatcher.flush()


app.steps["worker"].add(Ticker)
app.steps["consumer"].add(Reports)
