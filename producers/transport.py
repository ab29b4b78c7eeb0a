"""Kombu's Redis transport, with one client for all messages. Set as `broker_transport`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """Kombu makes a new client for each message, which is a quarter of what sending it costs."""

    _client: Any = None

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        if client is None:
            # The pool is another one after the connection was lost. (The stubs lack the method.)
            if self._client is None or self._client.connection_pool is not self.pool:
                self._client = self._create_client()  # type: ignore[attr-defined]
            client = self._client
        yield client


class Transport(redis.Transport):
    """As `redis://`, for programs that publish."""

    Channel = Channel
