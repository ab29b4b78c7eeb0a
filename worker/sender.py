"""Sending our messages through an application's Celery app, which nobody has to wait for.

Celery and Kombu may try for as long as a broker is away. So messages are sent by a thread of their
own. While one is on its way, others that would say the same are one message.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from celery import Celery

from ..config.tracing import apart

log = logging.getLogger(__name__)

STUCK_S = 0.5
"""Nobody waits longer than this; nor at all while a message has been on its way for longer."""
SAY_EVERY_S = 60.0


class Sender:
    """Sends our messages through a Celery app. May be shared by threads, and made before a fork.

    Args:
        app: the application's.
        queue: where to; where the app sends such a task, unless given.
    """

    def __init__(self, app: Celery, queue: str | None) -> None:
        self._app = app
        self._options: dict[str, Any] = {} if queue is None else {"queue": queue}
        self._line: _Line | None = None

    def send(self, task: str, account: str, shown: str, *, wait_s: float = 0.0) -> bool:
        """Send a message. Raises nothing.

        An app with `task_always_eager` sends nothing: its jobs wait for a worker's tick.

        Args:
            task: its name.
            account: its argument.
            shown: what Flower shows in its place.
            wait_s: how long to wait until the message was sent.

        Returns:
            Whether it was sent by then.
        """
        try:
            if self._app.conf.task_always_eager:
                return False
            line = self._line
            if line is None or line.pid != os.getpid():  # a fork takes no thread along
                line = self._line = _Line(self._publish)
            return line.send((task, account, shown), wait_s)
        except Exception as error:  # the settings of the application's app are not ours
            log.warning("no message sent to the workers (%s)", type(error).__name__)
            return False

    def _publish(self, task: str, account: str, shown: str) -> None:
        with apart():
            self._app.send_task(
                task,
                [account],
                argsrepr=shown,
                kwargsrepr="",
                retry=False,
                serializer="json",
                ignore_result=True,
                **self._options,
            )


_Message = tuple[str, str, str]


class _Line:
    """The thread of one process, and what it is to send."""

    def __init__(self, publish: Any) -> None:
        self.pid = os.getpid()
        self._publish = publish
        self._waiting: OrderedDict[_Message, Future[bool]] = OrderedDict()
        self._changed = threading.Condition()
        self._since_s: float | None = None
        """Since when there is something to send, without anything that was sent."""
        self._said_s: float | None = None
        threading.Thread(target=self._run, name="courier-messages", daemon=True).start()

    def send(self, message: _Message, wait_s: float) -> bool:
        with self._changed:
            now_s = time.monotonic()
            if self._since_s is None:
                self._since_s = now_s
            wait_s = min(wait_s, self._since_s + STUCK_S - now_s)
            sent = self._waiting.get(message)
            if sent is None:
                sent = self._waiting[message] = Future()
                self._changed.notify()
        try:
            return wait_s > 0 and sent.result(wait_s)
        except FutureTimeoutError:
            return False

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                message, sent = self._waiting.popitem(last=False)
            try:
                self._publish(*message)
            except Exception as error:  # of any broker: each worker looks about once a second
                self._say(error)
                sent.set_result(False)
            else:
                sent.set_result(True)
            with self._changed:
                self._since_s = time.monotonic() if self._waiting else None

    def _say(self, error: Exception) -> None:
        now_s = time.monotonic()
        if self._said_s is None or now_s > self._said_s + SAY_EVERY_S:
            self._said_s = now_s
            log.warning(  # not the error's text: it may hold the broker's URL
                "no message sent to the workers, which find the jobs without one: the broker of "
                "the application's Celery app fails (%s)",
                type(error).__name__,
            )
