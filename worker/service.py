"""What a worker process needs to deliver, whatever Celery app it belongs to.

Nothing is opened before it is used. What a fork must not share (connections, threads, locks) is
made anew in each process; what the processes of a pool share (that the worker stops, what was said
of Redis) is in memory that a fork inherits.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from kombu.utils.compat import detect_environment

from ..config.connections import Client, connect_patiently
from ..config.errors import SettingsError
from ..config.network import check_for_work
from ..config.redis_errors import RedisError
from ..config.settings import Settings
from ..jobs.errors import OtherLayout
from ..state.email_hash import EmailHash
from ..state.health import redis_health
from ..state.keys import Keys
from ..state.layout import check_layout
from ..state.shards import by_shard, shortly
from ..state.workers import Worker
from .account_worker import TICK_S, AccountWorker
from .hooks import start_relays
from .liveness import Liveness
from .notifier import Asking, Notifier, Send
from .stint import Done
from .stopping import Stopping
from .ticker import Ticker, ticker_name
from .trouble import BrokerTrouble, RedisTrouble

log = logging.getLogger(__name__)

LEAVE_WITHIN_S = 2.0
"""What a Redis that does not answer adds to a worker's time to stop, at most."""

POOLS = ("thread", "prefork", "solo")
"""Modules of Celery's pools that work."""


class Unfit(Exception):  # noqa: N818  (a state, which the text describes)
    """Raised where a worker cannot deliver. The text says why, and what to do."""


class WorkerService:
    """All of a worker for the accounts of its settings.

    Args:
        settings: with the accounts' API keys.
        send: how work is asked for.
        stint_s: seconds after which a stint asks for no further delivery, in place of its own.
        asking: makes what decides, for each account, how often a tick asks for work.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        send: Send,
        stint_s: float | None = None,
        asking: Callable[[], Asking] | None = None,
    ) -> None:
        self.settings = settings
        self._asking = asking
        self.stint_s = stint_s
        self.stopping = Stopping()
        self.trouble = RedisTrouble(settings)
        self.broker_trouble = BrokerTrouble(settings) if settings.own_broker else self.trouble
        self.liveness = Liveness(self.trouble, timeout_s=settings.timeout_s)
        self.notifier = Notifier(send, self.email_hash)
        self._own = _Process()
        self._tickers: list[Ticker] = []
        self._relays: list[threading.Thread] = []
        self._checked: set[str] = set()
        """Accounts whose Redis was asked whether it keeps jobs."""

    # --- the work ---------------------------------------------------------------------------------

    def work(self, account: str, work: Literal["accept", "deliver"]) -> Done:
        """Do what a message asks for.

        Raises:
            LookupError: no such account is configured here.
            SettingsError: the account has no API key.
            OtherLayout: its keys in Redis have a form that this release does not read.
            RedisError: Redis fails.
        """
        worker = self.account_worker(account)
        self.know_layout(account)
        run = worker.accept if work == "accept" else worker.deliver
        return run(self.stopping)

    def account_worker(self, account: str) -> AccountWorker:
        """The worker of an account, in this process.

        Raises:
            LookupError: no such account is configured here.
            SettingsError: the account has no API key.
        """
        own = self._process
        with own.lock:
            found = own.account_workers.get(account)
            if found is None:
                if account not in self.settings.accounts:
                    raise LookupError(
                        "no account of this name is configured here; COURIER_ACCOUNTS names "
                        f"{', '.join(self.settings.accounts)}"
                    )
                found = own.account_workers[account] = AccountWorker(
                    account,
                    self.settings,
                    client=own.client(self.settings),
                    notifier=self.notifier,
                    email_hash=self.email_hash,
                    stint_s=self.stint_s,
                    asking=self._asking() if self._asking else None,
                )
        return found

    def know_layout(self, account: str) -> None:
        """Make sure, once, that an account's keys in Redis have the form that this release reads.

        Raises:
            OtherLayout: they do not.
            RedisError: Redis fails.
        """
        known = self._process.known_layouts
        if account not in known:
            check_layout(self.client, Keys(account))
            known.add(account)

    @property
    def client(self) -> Client:
        """A connection to Redis, of this process."""
        return self._process.client(self.settings)

    def email_hash(self, email: str) -> str:
        """What stands for an email in the log."""
        return self._process.email_hash(self.settings).of(email)

    @property
    def _process(self) -> _Process:
        if self._own.pid != os.getpid():  # forked: nobody else runs in this process yet
            self._own = _Process()
        return self._own

    def forked(self) -> None:
        """To be called in each process of a pool, before it works."""
        self.stopping.forked()
        self.trouble.forked()
        self.broker_trouble.forked()

    # --- whether it can work ----------------------------------------------------------------------

    def check_settings(self, pool: Any) -> None:
        """Whether settings and pool are such that a worker can deliver.

        Args:
            pool: the class of Celery's pool.

        Raises:
            Unfit: they are not.
        """
        name = getattr(pool, "__module__", str(pool)).rpartition(".")[2]
        if name not in POOLS or detect_environment() != "default":
            raise Unfit(
                "a worker works with the pools threads (the default), prefork and solo, "
                "and not with gevent or eventlet: start it without -P, or with one of these"
            )
        try:
            check_for_work(self.settings)
        except SettingsError as error:
            raise Unfit(str(error)) from None

    def check_redis(self) -> None:
        """Whether Redis keeps jobs, and holds what this release reads.

        On a cluster, nothing is asked of a shard that does not answer while another one does: each
        tick looks again.

        Raises:
            Unfit: it throws keys away when its memory is full, so that jobs would be lost in
                silence, and nobody has allowed it; or its keys have another form.
            RedisError: Redis fails, as was said.
        """
        shards = by_shard(self.client, self.settings.accounts)
        faults = []
        for client, accounts in shards:
            try:
                with shortly(self.client):
                    self._check_shard(client, accounts)
            except RedisError as error:
                self.trouble.met(ticker_name(accounts), error)
                faults.append(error)
        if len(faults) == len(shards):
            raise faults[0]

    def _check_shard(self, client: Client, accounts: Iterable[str]) -> None:
        try:
            for account in accounts:
                self.know_layout(account)
        except OtherLayout as error:
            raise Unfit(str(error)) from None
        redis = redis_health(client)
        where = f"Redis at {redis.node or self.settings.redis_address}"
        new = not self._checked.issuperset(accounts)
        if redis.policy is None and new:
            log.warning(
                "%s does not tell its maxmemory-policy: see to it that it is noeviction", where
            )
        if redis.evicts:
            says = (
                f"{where} throws keys away when its memory is full "
                f"(maxmemory-policy {redis.policy}), jobs too"
            )
            if not self.settings.allow_eviction:
                raise Unfit(
                    f"{says}. Run in Redis: CONFIG SET maxmemory-policy noeviction (and write it "
                    "into its configuration), or set COURIER_ALLOW_EVICTION=true if jobs may be "
                    "lost"
                )
            if new:
                log.warning("%s; COURIER_ALLOW_EVICTION allows it", says)
        self._checked.update(accounts)

    def _say_unfit_once(self, ticker: Ticker) -> None:
        """To a worker that could not ask Redis when it started.

        Raises:
            OtherLayout: keys have another form; nothing may touch them.
            RedisError: Redis fails.
        """
        for account in ticker.accounts:
            self.know_layout(account)
        if not self._checked.issuperset(ticker.accounts):
            try:
                self._check_shard(ticker.client, ticker.accounts)
            except Unfit as unfit:
                log.error("%s", unfit)
            self._checked.update(ticker.accounts)

    # --- what runs beside the tasks ---------------------------------------------------------------

    def start(self, worker: Any) -> None:
        """Run the ticker, the hooks and the outbox, in threads of their own.

        Args:
            worker: Celery's.

        Raises:
            Unfit: the outbox cannot be relayed.
        """
        relays = self._outbox_relays()
        workers = {name: self.account_worker(name) for name in self.settings.accounts}
        me = _description(worker)
        self._tickers = [
            Ticker(client, {name: workers[name] for name in accounts}, me=me)
            for client, accounts in by_shard(self.client, self.settings.accounts)
        ]
        for ticker in self._tickers:
            for run, *args in ((self._tick, ticker), (ticker.repair_until, self.stopping)):
                threading.Thread(target=run, args=args, name=ticker.name, daemon=True).start()
        self._relays = start_relays(
            self.settings, self.client, self.trouble, self.stopping, email_hash=self.email_hash
        )
        for relay in relays:
            threading.Thread(
                target=relay.run, args=[self.stopping], name="outbox", daemon=True
            ).start()

    def stop(self, within_s: float | None = None) -> None:
        """Stop what `start` started.

        Args:
            within_s: waits no longer than this for events that are being told; unless given, as
                long as their receiver may take.
        """
        self.stopping.set()
        _join(self._relays, self.settings.hook_timeout_s + 2 if within_s is None else within_s)
        leaves = [
            threading.Thread(target=ticker.leave, name=ticker.name, daemon=True)
            for ticker in self._tickers
        ]
        for leave in leaves:
            leave.start()
        _join(leaves, LEAVE_WITHIN_S)

    def _outbox_relays(self) -> list[Any]:
        """What relays the outbox, where the settings name a database.

        On a cluster one for each account, as a shard that is down must not hold the others' rows
        back.
        """
        url = self.settings.outbox_url
        if url is None:
            return []
        try:
            from .relay import Relay, inboxes_of
        except ModuleNotFoundError as error:
            raise Unfit(
                f"COURIER_OUTBOX_URL: {error.name} is not installed: "
                "pip install 'attribute-courier[outbox]'"
            ) from None
        try:
            return [
                Relay(
                    url,
                    inboxes_of(self.settings, client, accounts),
                    wake=self.notifier.accept,
                )
                for client, accounts in by_shard(self.client, self.settings.accounts)
            ]
        except SettingsError as error:
            raise Unfit(str(error)) from None

    def _tick(self, ticker: Ticker) -> None:
        wait_s, said = 0.0, ""
        while not self.stopping.wait(wait_s):
            wait_s = TICK_S
            self.liveness.beat("ticker")
            try:
                self._say_unfit_once(ticker)
                wait_s = ticker.tick()
            except RedisError as error:
                self.trouble.met(ticker.name, error)
            except OtherLayout as error:
                if str(error) != said:
                    said = str(error)
                    log.error("%s", said)
            except Exception:
                log.exception("the ticker met an unexpected error; trying again")
            else:
                self.trouble.over(ticker.name)


class _Process:
    """What one process has for itself."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.RLock()
        self.account_workers: dict[str, AccountWorker] = {}
        self.known_layouts: set[str] = set()
        self._client: Client | None = None
        self._email_hash: EmailHash | None = None

    def client(self, settings: Settings) -> Client:
        with self.lock:
            if self._client is None:
                self._client = connect_patiently(settings)
            return self._client

    def email_hash(self, settings: Settings) -> EmailHash:
        with self.lock:
            if self._email_hash is None:
                self._email_hash = EmailHash(lambda: self.client(settings))
            return self._email_hash


def _join(threads: Iterable[threading.Thread], within_s: float) -> None:
    """Wait for all of them together."""
    ends_s = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, ends_s - time.monotonic()))


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
