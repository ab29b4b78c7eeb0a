"""What was counted since an account began, over all workers and restarts: jobs, attempts, times."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import redis

from ..jobs.job import time_of
from .keys import Keys
from .scripts import Script

BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400)
"""Upper bounds of the histograms' buckets, as `lua/_counts.lua` has them in microseconds."""
MINUTES = 60
MINUTE_US = 60_000_000
SHORTEST_S = 5.0
"""A shorter time tells no rate."""

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How long something took."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    """For each of `BOUNDS_S` how many took no longer, and longer than the one before; then the
    rest."""
    sum_s: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def since(self, earlier: Histogram) -> Histogram:
        """What was added since an earlier moment."""
        return Histogram(
            counts=tuple(
                max(0, now - before)
                for now, before in zip(self.counts, earlier.counts, strict=True)
            ),
            sum_s=max(0.0, self.sum_s - earlier.sum_s),
        )


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much was counted until a moment."""

    at: datetime
    """By Redis's clock."""
    jobs: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """Lane, status and reason → jobs that were settled so. A replayed job counts again."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Class (`2xx`, `429`, `timeout`, …) → requests that were answered, or not."""
    latency: Histogram = field(default_factory=Histogram)
    """Of requests, from the write to the end of the answer."""
    delay: Mapping[str, Histogram] = field(default_factory=dict)
    """Lane → from enqueueing to the answer, of delivered jobs."""

    @property
    def delivered(self) -> int:
        return sum(count for (_, status, _), count in self.jobs.items() if status == "delivered")

    def by_status(self) -> dict[str, int]:
        """Status → jobs."""
        found: Counter[str] = Counter()
        for (_, status, _), count in self.jobs.items():
            found[status] += count
        return dict(found)

    def by_reason(self) -> dict[tuple[str, str], int]:
        """Status and reason → jobs, of those that did not end well."""
        found: Counter[tuple[str, str]] = Counter()
        for (_, status, reason), count in self.jobs.items():
            if reason:
                found[status, reason] += count
        return dict(found)

    def since(self, earlier: Counts) -> Counts:
        """What was counted since an earlier moment."""
        return Counts(
            at=self.at,
            jobs=_difference(self.jobs, earlier.jobs),
            attempts=_difference(self.attempts, earlier.attempts),
            latency=self.latency.since(earlier.latency),
            delay={
                lane: histogram.since(earlier.delay.get(lane, Histogram()))
                for lane, histogram in self.delay.items()
            },
        )


class Counters:
    """Reads what was counted for an account. Methods raise `redis.RedisError` when Redis fails.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._script = Script(client, keys.prefix, "counts")

    def now(self) -> Counts:
        """What was counted until now."""
        return self._read(0)[-1]

    def last_hour(self) -> list[Counts]:
        """What was counted until the beginning of each minute of the last hour, and until now.

        Oldest first; `since` the one before tells what a minute brought.
        """
        return self._read(MINUTES)

    def _read(self, minutes: int) -> list[Counts]:
        answer = json.loads(self._script(minutes=minutes))
        now_us = int(answer["redis_us"])
        current, *copies = (_fields(flat) for flat in answer["hashes"])
        found = [counts_of(time_of(now_us), current)]
        for n, copy in enumerate(copies):
            # Where nothing was counted in a minute, there is no copy: it began as the next one did.
            current = copy or current
            started_us = (now_us // MINUTE_US - n) * MINUTE_US
            found.append(counts_of(time_of(started_us), current))
        return found[::-1]


def _fields(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}


def counts_of(at: datetime, fields: Mapping[str, str]) -> Counts:
    """The counts that the fields of the hash `counts`, or of a copy, say."""
    jobs: dict[tuple[str, str, str], int] = {}
    attempts: dict[str, int] = {}
    times: dict[str, dict[str, int]] = {}
    for name, content in fields.items():
        match name.split(":"):
            case ["jobs", lane, status, reason]:
                jobs[lane, status, reason] = int(content)
            case ["attempts", class_]:
                attempts[class_] = int(content)
            case ["latency", part]:
                times.setdefault("latency", {})[part] = int(content)
            case ["delay", lane, part]:
                times.setdefault(lane, {})[part] = int(content)
    histograms = {name: _histogram(parts) for name, parts in times.items()}
    return Counts(
        at=at,
        jobs=jobs,
        attempts=attempts,
        latency=histograms.pop("latency", Histogram()),
        delay=histograms,
    )


def delivered_per_s(now_us: int, fields: Mapping[str, str]) -> float:
    """Jobs that were delivered a second, lately, as the hash `counts` says.

    While some are, over the last 10 to 20 seconds. After that it falls, as their time passes.
    """
    at, _, delivered = fields.get("before", "").partition(" ")
    if not delivered:
        return 0.0
    passed_s = (now_us - int(at)) / 1e6
    return (int(fields["delivered"]) - int(delivered)) / max(passed_s, SHORTEST_S)


def _histogram(parts: Mapping[str, int]) -> Histogram:
    return Histogram(
        counts=tuple(parts.get(str(n + 1), 0) for n in range(len(BOUNDS_S) + 1)),
        sum_s=parts.get("us", 0) / 1e6,
    )


def _difference(now: Mapping[K, int], before: Mapping[K, int]) -> dict[K, int]:
    found = {name: count - before.get(name, 0) for name, count in now.items()}
    return {name: count for name, count in found.items() if count > 0}
