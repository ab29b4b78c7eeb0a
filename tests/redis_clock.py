"""Redis's clock in the hands of a test: scripts read it from a key, so no test waits for a time."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import Any

import pytest
import redis

from attribute_courier.jobs.job import time_of
from attribute_courier.state import scripts
from attribute_courier.state.keys import Keys

KEY = "courier:test:clock"
_READS_TIME = "redis.call('TIME')"
_READS_KEY = f"{{ 0, redis.call('GET', '{KEY}') }}"


class RedisClock:
    """What Redis's clock shows. It stands still until the test moves it.

    It begins with this machine's own time, to which some rules compare it.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self.us = time.time_ns() // 1000
        self._set()
        self._look = scripts.Script(client, Keys("default").prefix, "look")

    @property
    def now(self) -> datetime:
        return time_of(self.us)

    def step(self, seconds: float) -> None:
        """Put the clock ahead, or back. No time passes."""
        self.us += math.ceil(seconds * 1e6)
        self._set()

    def time_passes(self, seconds: float) -> None:
        """Let time pass, while a worker looks at the account about twice a second."""
        left_us = math.ceil(seconds * 1e6)
        while left_us > 0:
            passed_us = min(left_us, 500_000)
            left_us -= passed_us
            self.us += passed_us
            self._set()
            self._look(rate_limit=1, max_parallel=1, within_us=1)

    def _set(self) -> None:
        self._client.set(KEY, self.us)


def on_test_time(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, str] | None = None
) -> RedisClock:
    """Let the scripts that are loaded from now on read a clock of the test.

    Args:
        broken: a text in the scripts and what to put in its place, to see that a test notices.
    """
    read = scripts.source
    original = getattr(read, "original", read)

    def source(name: str) -> str:
        text = original(name).replace(_READS_TIME, _READS_KEY)
        return text.replace(*broken) if broken else text

    source.original = original  # type: ignore[attr-defined]
    monkeypatch.setattr(scripts, "source", source)
    return RedisClock(client)
