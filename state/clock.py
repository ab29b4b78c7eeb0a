"""Redis's clock, beside this machine's own that never steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import redis

from ..jobs.job import time_of
from .keys import Keys
from .shards import by_shard, client_of

STEP_S = 0.5
"""A difference that is smaller is not told from a slow answer."""

_SIGNS_OF_WORK = (
    "inbox:live",
    "inbox:bulk",
    "inbox:taken",
    "due:live",
    "due:bulk",
    "due:failing",
    "later",
    "leases",
    "pause",
)


class ClockWatch:
    """Notices steps of Redis's clock."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._before: tuple[float, float] | None = None
        self.now_us = 0
        """What Redis's clock said the last time, in microseconds since 1970."""

    def step_s(self) -> float | None:
        """Seconds by which Redis's clock stepped since the last call; below 0: back. None if not.

        Raises:
            redis.RedisError: Redis fails.
        """
        asked_s = time.monotonic()
        seconds, microseconds = self._client.time()
        answered_s = time.monotonic()
        self.now_us = int(seconds) * 1_000_000 + int(microseconds)
        redis_s = self.now_us / 1e6
        own_s = (asked_s + answered_s) / 2
        before, self._before = self._before, (redis_s, own_s)
        if before is None:
            return None
        step_s = (redis_s - before[0]) - (own_s - before[1])
        return step_s if abs(step_s) > STEP_S + (answered_s - asked_s) else None


def redis_time(client: redis.Redis, keys: Keys) -> datetime:
    """What Redis's clock says now, in UTC; an account's jobs without a time are ordered by it.

    Raises:
        redis.RedisError: Redis fails.
    """
    seconds, microseconds = client_of(client, keys.prefix).time()
    return time_of(int(seconds) * 1_000_000 + int(microseconds))


def work_exists(client: redis.Redis, accounts: Sequence[str]) -> bool:
    """Whether any of these accounts holds anything that a worker may have to look after.

    One command, for idle workers; on a cluster, one for each account.

    Raises:
        redis.RedisError: Redis fails.
    """
    return any(
        shard.exists(*(Keys(account).of(name) for account in some for name in _SIGNS_OF_WORK))
        for shard, some in by_shard(client, accounts)
    )
