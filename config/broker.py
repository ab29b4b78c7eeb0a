"""Kombu's Redis transport, on connections of ours. Set as `broker_transport`."""

from __future__ import annotations

import select
import time
from typing import Any

import redis
from kombu.exceptions import OperationalError
from kombu.transport import redis as kombu_redis

from . import connections
from .redis_errors import WrongServerError, code_of

SILENCE_S = 5.0
"""After so long without an answer to a pop that waits a second, a connection counts as lost."""


class _Mistrustful:
    """Takes each error *answer* for a lost connection.

    Celery's worker ends with an error answer that it does not expect. After a lost connection it
    connects again, as often as it takes.
    """

    def is_wrong_server(self, error: redis.ResponseError) -> bool:
        # Kombu loads a script when Redis says that it does not know it.
        return code_of(error) != "NOSCRIPT"


class Connection(_Mistrustful, connections.Connection):
    """As `connections.Connection`."""


class TLSConnection(_Mistrustful, connections.TLSConnection):
    """The same, encrypted."""


class Channel(kombu_redis.Channel):
    """Kombu's channel."""

    connection_class = Connection
    connection_class_ssl = TLSConnection
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
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        return params | {"protocol": connections.PROTOCOL}


class Transport(kombu_redis.Transport):
    """As `redis://`."""

    Channel = Channel
    # Kombu raises it for a connection that was lost while it sent, and leaves it off its own list.
    connection_errors = (*kombu_redis.Transport.connection_errors, OperationalError)
