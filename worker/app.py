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
from celery.apps import worker as worker_program
from kombu.utils.compat import detect_environment

from ..config import SettingsError
from ..config.broker import Transport
from ..config.celery import make_celery
from ..config.chosen import choose
from ..config.connections import Client, connect_patiently
from ..config.logs import say_as_json
from ..config.network import check_for_work
from ..config.redis_errors import RedisError
from ..jobs.errors import OtherLayout
from ..state.email_hash import EmailHash
from ..state.health import redis_health
from ..state.inbox import Inbox
from ..state.keys import Keys
from ..state.layout import check_layout
from ..state.scripts import Replicas
from ..state.shards import by_shard, shortly
from ..state.workers import Worker
from .account_worker import TICK_S, AccountWorker
from .hooks import start_relays
from .liveness import STAMP_S, Liveness
from .notifier import Notifier
from .own_threads import OwnThreads
from .ticker import Ticker
from .trouble import BrokerTrouble, RedisTrouble

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.25
EVENTS_AT_ONCE = 200
WELL_AFTER_S = 3.0
"""So long after the consumer has connected without an error, it counts as well."""
POOLS = ("thread", "prefork", "solo")
"""Modules of Celery's pools that work."""

settings = choose().load(strict=True)
trouble = RedisTrouble(settings)
broker_trouble = BrokerTrouble(settings) if settings.own_broker else trouble
liveness = Liveness(trouble, timeout_s=settings.timeout_s)
app = make_celery(settings)
app.conf.include = ["attribute_courier.worker.tasks"]
app.conf.worker_consumer = "attribute_courier.worker.consumer:Intake"
stopping = threading.Event()


@cache
def _client() -> Client:
    return connect_patiently(settings)


_email_hash = EmailHash(_client)
_notifier = Notifier(app, _email_hash.of)


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
    return AccountWorker(
        account, settings, client=_client(), notifier=_notifier, email_hash=_email_hash.of
    )


@cache
def know_layout(account: str) -> None:
    """Make sure, once, that an account's keys in Redis have the form that this release reads.

    Raises:
        OtherLayout: they do not.
        redis.RedisError: Redis fails.
    """
    check_layout(_client(), Keys(account))


def refuse_eviction(client: Client) -> None:
    """Refuse a Redis that throws keys away when its memory is full: jobs would be lost in silence.

    Args:
        client: of the Redis; on a cluster, of one of its nodes.

    Raises:
        SystemExit: it does, and nobody has allowed it.
        redis.RedisError: Redis fails.
    """
    redis = redis_health(client)
    if redis.policy is None:
        log.warning(
            "Redis at %s does not tell its maxmemory-policy: see to it that it is noeviction",
            settings.redis_address,
        )
    if not redis.evicts:
        return
    says = (
        f"Redis at {redis.node or settings.redis_address} throws keys away when its memory is full "
        f"(maxmemory-policy {redis.policy}), jobs too"
    )
    if not settings.allow_eviction:
        raise SystemExit(
            f"Error: {says}. Run in Redis: CONFIG SET maxmemory-policy noeviction (and write it "
            "into its configuration), or set COURIER_ALLOW_EVICTION=true if jobs may be lost"
        )
    log.warning("%s; COURIER_ALLOW_EVICTION allows it", says)


@cache
def know_eviction(client: Client) -> None:
    """Say once that Redis evicts, to a worker that could not ask when it started.

    Raises:
        redis.RedisError: Redis fails.
    """
    try:
        refuse_eviction(client)
    except SystemExit as refusal:
        log.error("%s", str(refusal).removeprefix("Error: "))


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


class Living(bootsteps.StartStopStep):
    """Shows `courier health` that this worker can work, from its start to its end."""

    def __init__(self, worker: Any, **options: Any) -> None:
        """Nothing: Celery passes what a step may need."""

    def start(self, worker: Any) -> None:
        liveness.start(worker)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Each time that the consumer has connected."""
        hub.call_repeatedly(STAMP_S, liveness.beat, "consumer")

    def stop(self, worker: Any) -> None:
        liveness.stopping()


@signals.worker_shutting_down.connect
def _stop_gracefully(**_: Any) -> None:
    liveness.stopping()  # what is in flight is finished first


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
    """Runs each ticker in a thread of its own, from the worker's start to its stop."""

    requires = (Living,)

    def __init__(self, worker: Any, **options: Any) -> None:
        self._tickers: list[Ticker] = []
        self._relays: list[threading.Thread] = []
        self._threads: OwnThreads | None = None

    def start(self, worker: Any) -> None:
        workers = {name: account_worker_of(name) for name in settings.accounts}
        if settings.own_broker:
            self._threads = _notifier.own_threads = OwnThreads(app, settings.concurrency)
            _notifier.broker_is_away = lambda: broker_trouble.present
        me = _description(worker)
        for client, accounts in by_shard(_client(), settings.accounts):
            ticker = Ticker(client, {name: workers[name] for name in accounts}, me=me)
            self._tickers.append(ticker)
            try:
                with shortly(_client()):
                    for account in accounts:
                        know_layout(account)
                    refuse_eviction(client)
            except RedisError as error:
                trouble.met(ticker.name, error)  # each task and tick looks again
            except OtherLayout as error:
                raise SystemExit(f"Error: {error}") from None
        for ticker in self._tickers:
            for run, *args in ((_tick, ticker), (ticker.repair_until, stopping)):
                threading.Thread(target=run, args=args, name=ticker.name, daemon=True).start()
        self._relays = start_relays(
            settings, _client(), trouble, stopping, email_hash=_email_hash.of
        )

    def stop(self, worker: Any) -> None:
        stopping.set()
        if self._threads is not None:
            self._threads.finish(settings.timeout_s + 2)
        for thread in self._relays:
            thread.join(settings.hook_timeout_s + 2)
        for ticker in self._tickers:
            ticker.leave()


class Relaying(bootsteps.StartStopStep):
    """Relays the outbox in a thread of its own, where the settings name a database; on a cluster
    in one for each account, as a shard that is down must not hold the others' rows back."""

    def __init__(self, worker: Any, **options: Any) -> None:
        """Nothing: Celery passes what a step may need."""

    def start(self, worker: Any) -> None:
        if settings.outbox_url is None:
            return
        try:
            from .relay import Relay
        except ModuleNotFoundError as error:
            raise SystemExit(
                f"Error: COURIER_OUTBOX_URL: {error.name} is not installed: "
                "pip install 'attribute-courier[outbox]'"
            ) from None
        for client, accounts in by_shard(_client(), settings.accounts):
            inboxes = {
                name: Inbox(
                    client,
                    Keys(name),
                    retention_s=settings.retention_s,
                    replicas=Replicas.of(settings),
                )
                for name in accounts
            }
            try:
                relay = Relay(settings.outbox_url, inboxes, wake=_notifier.accept)
            except SettingsError as error:
                raise SystemExit(f"Error: {error}") from None
            threading.Thread(target=relay.run, args=[stopping], name="outbox", daemon=True).start()


def _tick(ticker: Ticker) -> None:
    wait_s = 0.0
    while not stopping.wait(wait_s):
        wait_s = TICK_S
        liveness.beat("ticker")
        try:
            for account in ticker.accounts:
                know_layout(account)
            know_eviction(ticker.client)
            wait_s = ticker.tick()
        except RedisError as error:
            trouble.met(ticker.name, error)
        except Exception:
            log.exception("the ticker met an unexpected error; trying again")
        else:
            trouble.over(ticker.name)


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
            # A transport that is not asynchronous has no hub.
            consumer.timer.call_repeatedly(EVENTS_EVERY_S, dispatcher.flush),
            consumer.timer.call_after(WELL_AFTER_S, broker_trouble.over, ("consumer",)),
        ]
        _notifier.dispatcher = dispatcher

    def stop(self, consumer: Any) -> None:
        _notifier.dispatcher = None
        for timer in self._timers:
            timer.cancel()
        if consumer.event_dispatcher is not None:
            with suppress(*consumer.connection_errors):
                consumer.event_dispatcher.flush()


class Watch(bootsteps.StartStopStep):
    """Looks once a second whether a connection of our transport for Redis has fallen silent."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        transport = consumer.connection.transport
        if isinstance(transport, Transport):
            self._timer = consumer.timer.call_repeatedly(1.0, self._look, (transport,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @staticmethod
    def _look(transport: Any) -> None:
        for channel in transport.channels:
            channel.check_silence()


@signals.celeryd_init.connect
def _write_json_from_the_start(instance: Any = None, options: Any = None, **_: Any) -> None:
    """Where the log is JSON, so is what Celery says before it sets its log up, and beside it."""
    if settings.log_format == "json":
        instance.quiet = True  # no banner
        options = options or {}
        app.log.setup(options.get("loglevel"), options.get("logfile"), hostname=instance.hostname)
        vars(worker_program)["safe_say"] = say_as_json


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


app.steps["worker"].update({Checks, Living, Ticking, Relaying})
app.steps["consumer"].update({Reports, Watch})
