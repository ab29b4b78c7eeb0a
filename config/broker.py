"""Kombu's Redis transport, on connections of ours. Set as `broker_transport`."""

from __future__ import annotations

import select
import time
from functools import cached_property
from typing import Any

import kombu
import redis
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis

from . import connections
from .redis_errors import WrongServerError
from .settings import Settings

SILENCE_S = 5.0
"""After so long without an answer to a pop that waits a second, a connection counts as lost."""


class BrokerConnection(kombu.Connection):
    """Kombu's connection. Its channels go the way to Redis that all our connections go.

    Args:
        settings: of the courier.
        args, options: as Kombu takes them.
    """

    def __init__(self, *args: Any, settings: Settings, **options: Any) -> None:
        super().__init__(*args, **options)
        self._settings = settings

    @cached_property
    def way(self) -> connections.Way:
        """To Redis."""
        return connections.way_to(self._settings)

    def clone(self, **options: Any) -> BrokerConnection:
        """Another one like this."""
        info = dict(self._info(resolve=False))
        return BrokerConnection(**{**info, "settings": self._settings, **options})

    def as_uri(self, include_password: bool = False, *_args: Any, **_options: Any) -> str:
        """Redis's address: Kombu's own text names the Python class of the transport."""
        address = self._settings.redis
        return address.url().reveal() if include_password else address.shown()


class Channel(kombu_redis.Channel):
    """Kombu's channel."""

    # Closing, Kombu puts back what was not acknowledged; when it closes since Redis is away, that
    # attempt can end the worker. The inbox and the leases put back what matters.
    do_restore = False
    _in_poll: Any
    _asked_s = 0.0

    def _brpop_start(self, *args: Any, **options: Any) -> None:
        self._asked_s = time.monotonic()
        super()._brpop_start(*args, **options)  # type: ignore[misc]  # the stubs lack it

    def check_silence(self) -> None:
        """See that a blocking pop, which waits a second at Redis, is answered at all.

        Before Kombu 5.7, nobody else does, and a worker on a dropped connection takes no message.

        Raises:
            redis.TimeoutError: it is not.
        """
        sock = self._in_poll and self._in_poll._sock
        if not sock or time.monotonic() < self._asked_s + SILENCE_S:
            return
        waiting = select.poll()
        waiting.register(sock, select.POLLIN)
        if not waiting.poll(0):  # else the answer is there, and this process was busy
            raise redis.TimeoutError("no answer to a blocking pop")

    def maybe_refresh_binding_expiry(self) -> None:
        """Once a second, for the queue of the remote control."""
        try:
            super().maybe_refresh_binding_expiry()  # type: ignore[misc]  # the stubs lack it
        except redis.ResponseError as error:  # within a transaction's answer
            # As an error of the connection it is no traceback in the log.
            raise WrongServerError(str(error)) from error

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        client: Any = self.connection.client
        # Kombu's pools wrap a connection in one of their own.
        broker = client._pool.connection if hasattr(client, "_pool") else client
        way = broker.way
        # Kombu derives a class of its own from it, which tells its event loop of a lost connection.
        self.connection_class = self.connection_class_ssl = way.connection_class
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        place = ("host", "port", "username", "password", "db", "path")
        others = {
            name: value
            for name, value in params.items()
            if name not in place and not name.startswith("ssl_")
        }
        return {**others, **way.options, "mistrustful": True}


class Transport(kombu_redis.Transport):
    """As `redis://`."""

    Channel = Channel
    # Kombu raises it for a connection that was lost while it sent, and leaves it off its own list.
    connection_errors = (*kombu_redis.Transport.connection_errors, OperationalError)
