"""Once a second: what no message asks for.

A lost message, a stint that died, the end of a hold, a retry that falls due: a look at Redis finds
each of them. An idle worker sends two commands for all its accounts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from ..config.connections import Client
from ..config.redis_errors import OutOfMemoryError, RedisError
from ..state.clock import ClockWatch, work_exists
from ..state.keys import Keys
from ..state.repair import EVERY_S, repair
from ..state.workers import BEAT_S, Worker, Workers
from .account_worker import TICK_S, AccountWorker

log = logging.getLogger(__name__)


def ticker_name(accounts: Iterable[str]) -> str:
    """What the ticker of these accounts is called: its threads, and its trouble with Redis."""
    return f"ticker of {', '.join(accounts)}"


class Ticker:
    """Looks after accounts of a worker: all of them, but on a cluster one, as others are well
    while its shard is not.

    Args:
        client: a connection with `decode_responses`, for the Redis that holds them.
        workers: account → its worker.
        me: the worker process, as it says that it is alive.
    """

    def __init__(self, client: Client, workers: Mapping[str, AccountWorker], *, me: Worker) -> None:
        self.client = client
        self._workers = workers
        self.accounts = tuple(workers)
        self.name = ticker_name(workers)
        self._clock = ClockWatch(client)
        self._me = me
        self._alive = Workers(client, workers)
        self._beats_at_s = 0.0

    def tick(self) -> float:
        """Look once. Returns seconds until the next look, at most `TICK_S`.

        Raises:
            RedisError: Redis fails.
        """
        step_s = self._clock.step_s()
        self._beat()
        if step_s is not None:
            self._note_step(step_s)
        if not work_exists(self.client, list(self._workers)):
            return TICK_S
        wait_s, errors = TICK_S, []
        for worker in self._workers.values():
            try:
                wait_s = min(wait_s, worker.tick())
            except RedisError as error:  # perhaps a damaged key, which is this account's alone
                errors.append(error)
        if errors:
            raise errors[0]
        return wait_s

    def _beat(self) -> None:
        """Say that this worker is alive, now and then."""
        now_s = time.monotonic()
        if now_s < self._beats_at_s:
            return
        with suppress(OutOfMemoryError):  # a full Redis; the rest of a tick says so
            self._alive.beat(self._me, self._clock.now_us)
        self._beats_at_s = now_s + BEAT_S

    def leave(self) -> None:
        """Say that this worker has ended. A Redis that does not answer finds out by itself."""
        with suppress(RedisError):
            self._alive.leave(self._me.id)

    def _note_step(self, step_s: float) -> None:
        direction = "ahead" if step_s > 0 else "back"
        for account, worker in self._workers.items():
            if worker.health.note_step(step_s):
                log.warning(
                    "account %s: Redis's clock stepped %s by %.1f s",
                    account,
                    direction,
                    abs(step_s),
                )

    def repair_until(self, stopping: threading.Event) -> None:
        """Find what nothing points to, at the start and now and then, until it is to stop."""
        at_start = True
        while not stopping.is_set():
            with suppress(RedisError):  # no harm is done: they count as gone long since
                self._alive.forget_the_dead()
            for account in self._workers:
                try:
                    found = repair(self.client, Keys(account), at_start=at_start)
                except RedisError as error:
                    log.warning("account %s: no repair pass (%s)", account, type(error).__name__)
                    continue
                except Exception:
                    log.exception("account %s: no repair pass, by an unexpected error", account)
                    continue
                if found is not None and (found.mailboxes or found.jobs):
                    log.error("account %s: repaired: %s that nothing pointed to", account, found)
            at_start = False
            stopping.wait(EVERY_S)
