"""Messages by a broker that is no Redis: by Kombu, which is imported only here.

Kombu and what it uses may block for longer than a caller has: for a name, a handshake, a full
socket. So a thread sends, and a caller waits for it as long as it likes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from ..config import Settings
from ..config.broker_errors import describe_broker_error
from .broker import Message, NotNow

log = logging.getLogger(__name__)

WAIT_S = 0.5
"""The longest that a caller waits for a message to leave. It is sent after that, too."""
REST_S = 5.0
"""A broker that failed is not tried again for so long."""
CLOSE_S = 1.0


class KombuBroker:
    """One connection and one thread, which are opened for the first message."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sender: _Sender | None = None
        self._pid = os.getpid()
        self._inherited: list[_Sender | None] = []

    def send(self, message: Message, *, deadline_s: float) -> None:
        if self._pid != os.getpid():
            # The thread did not come along, and the lock may be held by one that did not either.
            # The connection is the parent's: kept, since to close it here would end it there.
            self._inherited.append(self._sender)
            self._lock, self._sender, self._pid = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._sender is None:
                self._sender = _Sender(self._settings)
            sender = self._sender
        sender.send(message, deadline_s)

    def close(self) -> None:
        if self._pid != os.getpid():
            return
        with self._lock:
            sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()


class _Sending:
    """A message on its way."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.ended = threading.Event()
        self.sent = False


class _Sender:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: SimpleQueue[_Sending | None] = SimpleQueue()
        self._rests_until_s = 0.0
        self._began_s: float | None = None
        """Since when the thread is busy with one message."""
        self._connection: Any = None
        self._amqp = False
        self._thread = threading.Thread(target=self._run, name="courier-messages", daemon=True)
        self._thread.start()

    def send(self, message: Message, deadline_s: float) -> None:
        now_s, began_s = time.monotonic(), self._began_s
        if now_s < self._rests_until_s or (began_s is not None and now_s > began_s + WAIT_S):
            raise NotNow
        sending = _Sending(message)
        self._queue.put(sending)
        sending.ended.wait(max(0.0, min(WAIT_S, deadline_s - now_s)))
        if not sending.sent:
            raise NotNow

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (sending := self._queue.get()) is not None:
            self._began_s = time.monotonic()
            try:
                if self._began_s >= self._rests_until_s:
                    self._send(sending.message)
                    sending.sent = True
            except Exception as error:  # of any transport
                self._rests_until_s = time.monotonic() + REST_S
                log.warning(
                    "no message sent to the workers, which find the jobs without one: %s",
                    describe_broker_error(self._settings, error),
                )
            finally:
                self._began_s = None
                sending.ended.set()
        self._drop_connection()

    def _send(self, message: Message) -> None:
        fresh = self._connection is None
        try:
            self._publish(message)
        except Exception:
            self._drop_connection()
            if fresh:
                raise
            self._publish(message)  # the broker was restarted since the last one

    def _publish(self, message: Message) -> None:
        from kombu import Connection, Exchange, Producer

        from ..config.transport import transport_of

        if self._connection is None:
            transport = transport_of(self._settings)
            self._amqp = transport.amqp
            self._connection = Connection(transport.url, **transport.of_connection())
        exchange = Exchange(message.exchange, type="topic" if message.exchange else "direct")
        Producer(self._connection.default_channel).publish(
            message.body,
            routing_key=message.routing_key,
            exchange=exchange,
            declare=[exchange] if message.exchange else [],
            serializer="json",
            headers=message.headers,
            correlation_id=message.message_id,
            delivery_mode=2 if message.lasting else 1,
            retry=False,
        )

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it was lost
                # Without a word to a broker that may be away. Where that is not possible, `collect`
                # would set a timeout for all new sockets of the process for a moment.
                (connection.collect if self._amqp else connection.release)()
