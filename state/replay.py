"""Sending jobs again that ended without being delivered."""

from __future__ import annotations

import redis

from .keys import Keys
from .scripts import transition


class Replay:
    """One account's replays.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._prefix = keys.prefix
        self._script = transition(client, "replay")

    def job(self, job_id: str) -> bool:
        """Put a job back into the inbox, as it was asked for.

        False when it did not end failed, unmatched, unconfirmed or refused, or is known no more.
        """
        return bool(self._script(keys=[self._prefix], args=[job_id]))
