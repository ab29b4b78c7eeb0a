"""A rate limiter that all workers share: a GCRA without a burst, in one script of Redis.

A request takes the next slot and waits for it. Nothing else is known of the account: not how many
requests are in flight, and not what its answers say about the pace.
"""

from __future__ import annotations

import asyncio
import threading
import time

import redis
import redis.asyncio

from .settings import INTERVAL_US

KEY = "benchmark:limiter"
# KEYS[1]: the next free slot; ARGV[1]: microseconds between two. Answers with microseconds to wait.
SCRIPT = """
local now = redis.call('TIME')
local now_us = now[1] * 1000000 + now[2]
local slot_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us)
redis.call('SET', KEYS[1], string.format('%.0f', slot_us + ARGV[1]), 'PX', 60000)
return slot_us - now_us
"""


class Limiter:
    """For threads, which share its connections."""

    def __init__(self, url: str) -> None:
        self._next = redis.Redis.from_url(url).register_script(SCRIPT)

    def wait(self) -> None:
        """Take the next slot, and sleep until it has come."""
        wait_us = self._next(keys=[KEY], args=[INTERVAL_US])
        if wait_us > 0:
            time.sleep(wait_us / 1e6)


class AsyncLimiter:
    """For an event loop."""

    def __init__(self, url: str) -> None:
        self._next = redis.asyncio.Redis.from_url(url).register_script(SCRIPT)

    async def wait(self) -> None:
        """Take the next slot, and sleep until it has come."""
        wait_us = await self._next(keys=[KEY], args=[INTERVAL_US])
        if wait_us > 0:
            await asyncio.sleep(wait_us / 1e6)


_lock = threading.Lock()
_limiter: Limiter | None = None


def limiter(url: str) -> Limiter:
    """The one of this process."""
    global _limiter
    with _lock:
        if _limiter is None:
            _limiter = Limiter(url)
        return _limiter
