"""How a producer sends messages that Celery understands: written by hand.

Celery's own way of sending reads the environment of the application (`CELERY_BROKER_URL` and
others), shares its connection pools with it, and hangs each message as a child under the
application's current task. None of this may happen, and all of it costs time while the application
waits.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
from uuid import uuid4

from ..config import Settings
from ..config.connections import Client, connect_briefly, until
from ..config.messages import KEY_PREFIX


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message, whatever carries it."""

    body: object
    """As JSON takes it."""
    headers: dict[str, Any]
    routing_key: str
    exchange: str = ""
    """ "" sends it to the queue with the name `routing_key`."""
    message_id: str
    lasting: bool = True
    """Whether a broker writes it to its disk."""


class NotNow(Exception):  # noqa: N818
    """Raised for a message that was not sent (yet), and needs no word: it was said already."""


class Broker(Protocol):
    """May be shared by threads, and made before a fork."""

    def send(self, message: Message, *, deadline_s: float) -> None:
        """Send a message until `deadline_s`, by `time.monotonic()`. Raises whatever goes wrong."""

    def close(self) -> None:
        """Close the connections that were opened here. New ones are opened when needed."""


class RedisBroker:
    """A Redis: the one that holds the state, or another one.

    Args:
        client: of the Redis that holds the state, to send by where it is the broker, too; a new
            one unless given.
    """

    def __init__(self, settings: Settings, client: Client | None = None) -> None:
        self._settings = settings.of_broker() if settings.own_broker else settings
        self._given = None if settings.own_broker else client

    @cached_property
    def _client(self) -> Client:
        return self._given or connect_briefly(self._settings)

    def send(self, message: Message, *, deadline_s: float) -> None:
        text = as_redis_holds_it(message)
        with until(deadline_s):
            if message.exchange:
                db = self._settings.redis.db
                channel = f"{KEY_PREFIX}/{db}.{message.exchange}/{message.routing_key}"
                self._client.publish(channel, text)
            else:
                self._client.lpush(KEY_PREFIX + message.routing_key, text)

    def close(self) -> None:
        client = self.__dict__.pop("_client", None)
        if client is not None and client is not self._given:
            client.close()


def as_redis_holds_it(message: Message) -> str:
    """A message as Kombu lays it into a list of Redis, or publishes it.

    Source: Kombu's virtual transports (properties, base64 for the body).
    """
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(message.body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": message.headers,
            "properties": {
                "correlation_id": message.message_id,
                "delivery_mode": 2 if message.lasting else 1,
                "delivery_info": {
                    "exchange": message.exchange,
                    "routing_key": message.routing_key,
                },
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )
