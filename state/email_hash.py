"""What stands for an email in logs and events, and the key that it takes."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

import redis

from ..jobs.emails import email_hash
from .shards import client_of, shortly

KEY = "courier:log-key"
"""Of all accounts: an email has one hash in all logs. Who can read Redis reads the emails there,
so the key adds nothing to what they know; who gets the logs alone does not have it."""
UNKNOWN = "unknown"
READ_AGAIN_S = 60.0
"""Where Redis was emptied, workers that run get the new key within this time."""
AFTER_A_FAULT_S = 10.0
"""Where Redis failed, it is asked again after this time, by one thread. Of a cluster, the shard
with the key may be down, and the accounts of others must not wait for it at each email."""
_FIRST_S = 5.0


class EmailHash:
    """Hashes emails with a key that is kept in Redis. May be shared by threads.

    Args:
        client: gives a connection with `decode_responses`; called when the key is first needed.
    """

    def __init__(self, client: Callable[[], redis.Redis]) -> None:
        self._client = client
        self._key: bytes | None = None
        self._read_s = float("-inf")
        self._again_s = 0.0
        self._reading = threading.Lock()

    def of(self, email: str) -> str:
        """The email's hash; "unknown" while Redis fails and the key was not read before."""
        first = self._read_s == float("-inf")
        if self._is_due() and self._reading.acquire(timeout=_FIRST_S if first else 0):
            try:
                if self._is_due():  # else another thread has read it meanwhile
                    self._read()
            finally:
                self._reading.release()
        return UNKNOWN if self._key is None else email_hash(email, self._key)

    def _is_due(self) -> bool:
        return time.monotonic() > self._read_s + self._again_s

    def _read(self) -> None:
        try:
            with shortly(self._client()):
                self._key, self._again_s = self.key(), READ_AGAIN_S
        except redis.RedisError:
            self._again_s = AFTER_A_FAULT_S
        self._read_s = time.monotonic()

    def key(self) -> bytes:
        """The key, made here if there is none yet.

        Raises:
            redis.RedisError: Redis fails.
        """
        client = client_of(self._client(), KEY)
        found = client.get(KEY)
        if found is None:
            client.set(KEY, secrets.token_hex(32), nx=True)
            found = client.get(KEY)  # perhaps another worker's
        return str(found).encode()
