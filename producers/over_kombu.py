"""Messages by a broker that is no Redis: by Kombu, which is imported only here."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ..config import Settings
from ..config.broker_errors import describe_broker_error
from ..config.publisher import Publisher
from .broker import Message, NotNow


class KombuBroker:
    """One connection and one thread, which are opened for the first message."""

    def __init__(self, settings: Settings) -> None:
        self._publisher = Publisher(
            partial(_connect, settings), _publish, partial(describe_broker_error, settings)
        )

    def send(self, message: Message, *, deadline_s: float) -> None:
        if not self._publisher.send(message, wait_s=deadline_s - time.monotonic()):
            raise NotNow

    def close(self) -> None:
        self._publisher.close()


def _connect(settings: Settings) -> Any:
    from kombu import Connection

    from ..config.transport import transport_of

    transport = transport_of(settings)
    return Connection(transport.url, **transport.of_connection())


def _publish(connection: Any, message: Message) -> None:
    from kombu import Exchange, Producer

    exchange = Exchange(message.exchange, type="topic" if message.exchange else "direct")
    Producer(connection.default_channel).publish(
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
