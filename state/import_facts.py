"""What a file import asks of Redis before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import redis

from ..jobs.job import time_of
from .keys import Keys


def types_used(client: redis.Redis, keys: Keys, names: Sequence[str]) -> dict[str, str]:
    """Of each attribute key that was sent from here before, the type that was used first."""
    types: Any = client.hmget(keys.types, list(names)) if names else []
    return {name: type_ for name, type_ in zip(names, types, strict=True) if type_ is not None}


def redis_time(client: redis.Redis) -> datetime:
    """What Redis's clock says; jobs without a time of their own are ordered by it."""
    seconds, microseconds = client.time()
    return time_of(int(seconds) * 1_000_000 + int(microseconds))
