"""Whose turn it is in a worker that also runs an application's own tasks.

Stints come one after the other for as long as there is something to deliver. So that they leave
room, only so many of our tasks are in the worker's pool at once. A message that comes while they
are waits here for its turn, one for each account: so accounts take turns. Each message is
acknowledged when it comes: so ours take no place of what a worker may have reserved, and do not
pile up in the broker's queue behind one another. Should the worker end meanwhile, nothing is lost:
a message holds no job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker import state as celery_state
from celery.worker.strategy import default

from ..config.messages import ACCEPT_TASK, DELIVER_TASK
from .attached import attached_host

log = logging.getLogger(__name__)

LOOK_S = 0.05
"""How often it is looked whether there is room again, while a message waits."""
IDLE_LOOKS = 3
"""So many looks in a row that find no task of the application: it has none that waits."""

Handler = Callable[..., Any]


def strategy(task: Any, app: Any, consumer: Any) -> Handler:
    """What a consumer does with messages of one of our tasks: Celery's `Task.Strategy`."""
    turns: Turns | None = getattr(consumer, "attribute_courier_turns", None)
    if turns is None:
        turns = consumer.attribute_courier_turns = Turns(attached_host(app).worker, consumer)
    return turns.of(task.name, default(task, app, consumer))


class Turns:
    """The turns of our tasks in one worker.

    Args:
        hosted: the courier in this worker: whether it delivers, and how many tasks may run.
        consumer: Celery's.
    """

    def __init__(self, hosted: Any, consumer: Any) -> None:
        self._hosted = hosted
        self._consumer = consumer
        self._held: OrderedDict[str, tuple[str, Callable[[], Any]]] = OrderedDict()
        self._lock = threading.RLock()
        self._looks = False
        self._last_s: float | None = None
        """When a task of ours was last seen in the pool."""
        self._idle_looks = 0
        self._started = 0
        """How many tasks the worker had started at the last look."""

    def of(self, name: str, handle: Handler) -> Handler:
        """What handles the messages of one of our tasks, in its turn.

        Args:
            name: the task's.
            handle: puts a message's task into the pool.
        """
        with self._lock:  # perhaps the consumer has connected again: its timers are gone
            self._held.clear()
            self._looks = False

        def receive(message: Any, body: Any, ack: Any, _reject: Any, callbacks: Any) -> None:
            self._hosted.answered()
            ack(log, self._consumer.connection_errors)
            if not self._hosted.delivers:
                return
            run = partial(handle, message, body, _nothing, _nothing, callbacks)
            with self._lock:
                if not self._held and self._has_room():
                    self._run(run)
                    return
                account = _account_of(message)
                held = self._held.get(account)
                if held is None or held[0] == DELIVER_TASK:  # to accept is also to deliver
                    self._held[account] = (name, run)
                self._go_on()

        return receive

    def _has_room(self) -> bool:
        pool = self._consumer.pool
        ours, _ = self._in_the_pool()
        return bool(ours < self._hosted.room(pool)) and self._has_rested(self._hosted.rest_s(pool))

    def _has_rested(self, rest_s: float) -> bool:
        """Whether our tasks have rested, where the pool has one process or thread.

        The application's tasks get the time between two of ours: until there are none, or as long
        as ours take.
        """
        if not rest_s or self._last_s is None or self._idle_looks >= IDLE_LOOKS:
            return True
        return time.monotonic() > self._last_s + rest_s

    def _in_the_pool(self) -> tuple[int, int]:
        """How many tasks the pool has, running or waiting: ours, and the application's."""
        while True:
            try:
                names = [request.name for request in list(celery_state.reserved_requests)]
            except RuntimeError:  # another thread has changed it
                continue
            ours = sum(name in (ACCEPT_TASK, DELIVER_TASK) for name in names)
            return ours, len(names) - ours

    def _run(self, run: Callable[[], Any]) -> None:
        self._idle_looks = 0
        run()
        self._last_s = time.monotonic()  # in the pool `solo`, it has run

    def _go_on(self) -> None:
        with self._lock:
            while self._held and self._has_room():
                _, (_, run) = self._held.popitem(last=False)
                if self._hosted.delivers:
                    self._run(run)
            if self._held and not self._looks:
                self._looks = True
                self._consumer.timer.call_after(LOOK_S, self._look)

    def _look(self) -> None:
        with self._lock:
            self._looks = False
            ours, theirs = self._in_the_pool()
            started, self._started = self._started, celery_state.all_total_count[0]
            if ours:
                self._last_s = time.monotonic()
            idle = not ours and not theirs and started == self._started
            self._idle_looks = self._idle_looks + 1 if idle else 0
            self._go_on()


def _account_of(message: Any) -> str:
    """The account that a message names; "" if that cannot be read, as its task will say."""
    try:
        body = message.payload
        [account] = body["args"] if isinstance(body, dict) else body[0]
    except Exception:  # of any decoder, in any form
        return ""
    return str(account)


def _nothing(*_: Any, **__: Any) -> None:
    """The message is acknowledged."""
