"""Sending messages to a broker that nobody has to wait for.

Kombu and what it uses may block for longer than a caller has: for a name, a handshake, a full
socket. So a thread sends, by a connection of its own, and a caller waits for it as long as it
likes. A message that is not sent costs no job: each worker looks about once a second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

M = TypeVar("M")

WAIT_S = 0.5
"""The longest that a caller waits for a message to leave. It is sent after that, too."""
REST_S = 5.0
"""A broker that failed is not tried again for so long."""
SAY_EVERY_S = 60.0
CLOSE_S = 1.0


class Publisher(Generic[M]):
    """Sends messages from one thread of each process, which its first message starts.

    May be shared by threads, and made before a fork.

    Args:
        connect: makes a connection of Kombu's, which is the thread's own.
        publish: sends a message by a connection.
        describe: what an error of either says to people, without a password.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        publish: Callable[[Any, M], object],
        describe: Callable[[Exception], str],
    ) -> None:
        self.connect, self.publish, self.describe = connect, publish, describe
        self._lines: dict[int, _Line[M]] = {}
        """Process → its thread. Those of parents are kept: to close their connections here would
        end them there."""

    def send(self, message: M, *, wait_s: float) -> bool:
        """Send a message, unless the broker failed lately, or has kept the thread for long.

        Args:
            wait_s: how long to wait until it was sent; never longer than `WAIT_S`.

        Returns:
            Whether it was sent by then.
        """
        line = self._lines.get(os.getpid())
        if line is None:
            line = self._lines.setdefault(os.getpid(), _Line(self))
        return line.send(message, wait_s)

    def close(self) -> None:
        """Close this process's connection. A new one is opened when needed."""
        line = self._lines.pop(os.getpid(), None)
        if line is not None:
            line.close()


class _Sending(Generic[M]):
    """A message on its way."""

    def __init__(self, message: M) -> None:
        self.message = message
        self.ended = threading.Event()
        self.sent = False


class _Line(Generic[M]):
    """The thread of one process, and what it is to send."""

    def __init__(self, publisher: Publisher[M]) -> None:
        self._publisher = publisher
        self._queue: SimpleQueue[_Sending[M] | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._began_s: float | None = None
        """Since when the thread is busy with one message."""
        self._rests_until_s = 0.0
        self._silent_until_s = 0.0

    def send(self, message: M, wait_s: float) -> bool:
        now_s, began_s = time.monotonic(), self._began_s
        if now_s < self._rests_until_s or (began_s is not None and now_s > began_s + WAIT_S):
            return False
        self._start()
        sending = _Sending(message)
        self._queue.put(sending)
        if wait_s > 0:
            sending.ended.wait(min(WAIT_S, wait_s))
        return sending.sent

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="courier-messages", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (sending := self._queue.get()) is not None:
            self._began_s = time.monotonic()
            try:
                if self._began_s >= self._rests_until_s:
                    self._send(sending.message)
                    sending.sent = True
            except Exception as error:  # of any transport
                self._failed(error)
            finally:
                self._began_s = None
                sending.ended.set()
        self._drop_connection()

    def _send(self, message: M) -> None:
        fresh = self._connection is None
        try:
            self._once(message)
        except Exception:
            self._drop_connection()
            if fresh:
                raise
            self._once(message)  # the broker was restarted since the last one

    def _once(self, message: M) -> None:
        if self._connection is None:
            self._connection = self._publisher.connect()
        self._publisher.publish(self._connection, message)

    def _failed(self, error: Exception) -> None:
        now_s = time.monotonic()
        self._rests_until_s = now_s + REST_S
        if now_s >= self._silent_until_s:
            self._silent_until_s = now_s + SAY_EVERY_S
            log.warning(
                "no message sent to the workers, which find the jobs without one: %s",
                self._publisher.describe(error),
            )

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it was lost
                # Without a word to a broker that may be away. Where that is not possible, `collect`
                # would set a timeout for all new sockets of the process for a moment.
                amqp = connection.transport.driver_type == "amqp"
                (connection.collect if amqp else connection.release)()
