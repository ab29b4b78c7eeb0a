"""Whose turn it is in a worker that also runs an application's own tasks.

Stints come one after the other for as long as there is something to deliver. So that they leave
room, only so many of our tasks are in the worker's pool at once. A message that comes while they
are is acknowledged, and waits here for its turn, one for each account: so no messages of ours fill
what a worker may have reserved, and accounts take turns. Should the worker end meanwhile, nothing
is lost: a message holds no job.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from celery.worker import state as celery_state
from celery.worker.strategy import default

from ..config.messages import ACCEPT_TASK, DELIVER_TASK
from .attached import attached_host

log = logging.getLogger(__name__)

LOOK_S = 0.05
"""How often it is looked whether there is room again, while a message waits."""

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

    def of(self, name: str, handle: Handler) -> Handler:
        """What handles the messages of one of our tasks, in its turn.

        Args:
            name: the task's.
            handle: puts a message's task into the pool.
        """
        with self._lock:  # perhaps the consumer has connected again: its timers are gone
            self._held.clear()
            self._looks = False

        def receive(
            message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any
        ) -> None:
            self._hosted.answered()
            if not self._hosted.delivers:
                ack(log, self._consumer.connection_errors)
                return
            with self._lock:
                if self._has_room() and not self._held:
                    handle(message, body, ack, reject, callbacks, **options)
                    return
                ack(log, self._consumer.connection_errors)
                account = _account_of(message)
                held = self._held.get(account)
                if held is None or held[0] == DELIVER_TASK:  # to accept is also to deliver
                    run = lambda: handle(  # noqa: E731
                        message, body, _nothing, _nothing, callbacks, **options
                    )
                    self._held[account] = (name, run)
                self._go_on()

        return receive

    def _has_room(self) -> bool:
        try:
            requests = list(celery_state.reserved_requests)
        except RuntimeError:  # another thread has changed it: look again soon
            return False
        ours = sum(request.name in (ACCEPT_TASK, DELIVER_TASK) for request in requests)
        return bool(ours < self._hosted.room(self._consumer.pool))

    def _go_on(self) -> None:
        with self._lock:
            while self._held and self._has_room():
                _, (_, run) = self._held.popitem(last=False)
                if self._hosted.delivers:
                    run()
            if self._held and not self._looks:
                self._looks = True
                self._consumer.timer.call_after(LOOK_S, self._look)

    def _look(self) -> None:
        self._looks = False
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
