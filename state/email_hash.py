"""What stands for an email in logs and events, and the key that it takes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import redis

from ..jobs.emails import email_hash
from .shards import client_of

KEY = "courier:log-key"
"""Of all accounts: an email has one hash in all logs. Who can read Redis reads the emails there,
so the key adds nothing to what they know; who gets the logs alone does not have it."""
UNKNOWN = "unknown"
READ_AGAIN_S = 60.0
"""Where Redis was emptied, workers that run get the new key within this time."""


class EmailHash:
    """Hashes emails with a key that is kept in Redis. May be shared by threads.

    Args:
        client: gives a connection with `decode_responses`; called when the key is first needed.
    """

    def __init__(self, client: Callable[[], redis.Redis]) -> None:
        self._client = client
        self._key: bytes | None = None
        self._read_s = 0.0

    def of(self, email: str) -> str:
        """The email's hash; "unknown" while Redis fails and the key was not read before."""
        if self._key is None or time.monotonic() > self._read_s + READ_AGAIN_S:
            try:
                self._key = self.key()
            except redis.RedisError:
                if self._key is None:
                    return UNKNOWN
            self._read_s = time.monotonic()
        return email_hash(email, self._key)

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
