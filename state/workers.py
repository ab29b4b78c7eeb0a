"""Which workers are alive: each says so every few seconds, for each of its accounts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import redis

from ..jobs.job import time_of
from .keys import Keys
from .shards import client_of

BEAT_S = 3.0
"""How often a worker says that it is alive."""
ALIVE_S = 10.0
"""A worker that has said nothing for longer counts as gone. Either way by Redis's clock: where that
has stepped, the next beat sets it right."""
FORGOTTEN_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker process, as it describes itself."""

    id: str
    """Of this process alone, from its start to its end."""
    name: str
    """As Celery knows it: `courier@host`."""
    version: str
    """Of this package."""
    pool: str = "threads"
    concurrency: int = 0
    started_at: datetime
    seen_s: float = field(default=0.0, compare=False)
    """Seconds since its last beat."""


class Workers:
    """The workers of some accounts. All methods raise `redis.RedisError` when Redis fails.

    `workers` is a hash of each account: id of a worker → Redis's time of its last beat, in
    microseconds, and what is known of it, as JSON.

    Args:
        client: a connection with `decode_responses`.
        accounts: their names; on a cluster, of one only.
    """

    def __init__(self, client: redis.Redis, accounts: Iterable[str]) -> None:
        self._names = [Keys(account).of("workers") for account in accounts]
        self._client = client_of(client, self._names[0])

    def beat(self, worker: Worker, now_us: int) -> None:
        """Say that a worker is alive, at this time by Redis's clock.

        One command for each account, in one round trip.
        """
        known = {
            "name": worker.name,
            "version": worker.version,
            "pool": worker.pool,
            "concurrency": worker.concurrency,
            "started": worker.started_at.timestamp(),
        }
        content = f"{now_us} {json.dumps(known, separators=(',', ':'))}"
        pipeline = self._client.pipeline(transaction=False)
        for name in self._names:
            pipeline.hset(name, worker.id, content)
        pipeline.execute()

    def alive(self) -> list[Worker]:
        """Those that serve any of the accounts now, by name."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        for name in self._names:
            pipeline.hgetall(name)
        (seconds, microseconds), *beats = pipeline.execute()
        now_us = int(seconds) * 1_000_000 + int(microseconds)
        merged = {worker_id: beat for each in beats for worker_id, beat in each.items()}
        return list(alive(merged, now_us))

    def leave(self, worker_id: str) -> None:
        """Say that a worker has ended."""
        pipeline = self._client.pipeline(transaction=False)
        for name in self._names:
            pipeline.hdel(name, worker_id)
        pipeline.execute()

    def forget_the_dead(self) -> None:
        """Remove workers that have said nothing for an hour, and what cannot be read."""
        seconds, _ = self._client.time()
        for name in self._names:
            for worker_id, content in self._client.hgetall(name).items():
                seen_s = _seen_s(content, int(seconds) * 1_000_000)
                if seen_s is None or seen_s > FORGOTTEN_S:
                    self._client.hdel(name, worker_id)


def alive(beats: Mapping[str, str], now_us: int) -> Iterable[Worker]:
    """The workers that have beaten lately, as the hash `workers` has them, by name."""
    found = []
    for worker_id, content in beats.items():
        seen_s = _seen_s(content, now_us)
        if seen_s is None or seen_s > ALIVE_S:
            continue
        with suppress(ValueError, KeyError, TypeError):  # another release's, or damaged
            fields = json.loads(content.partition(" ")[2])
            found.append(
                Worker(
                    id=worker_id,
                    name=fields["name"],
                    version=fields["version"],
                    pool=fields["pool"],
                    concurrency=fields["concurrency"],
                    started_at=time_of(round(fields["started"] * 1e6)),
                    seen_s=seen_s,
                )
            )
    return sorted(found, key=lambda worker: (worker.name, worker.id))


def _seen_s(content: str, now_us: int) -> float | None:
    """Seconds since a worker's last beat; None if that cannot be read."""
    try:
        return abs(now_us - int(content.partition(" ")[0])) / 1e6
    except ValueError:
        return None
