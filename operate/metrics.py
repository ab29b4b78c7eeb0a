"""Metrics for Prometheus: what was counted, and how everything stands, looked up when it is scraped.

All numbers come from Redis, so they count over all workers and restarts, and whoever gives them
agrees with everybody else: `courier metrics`, and Flower's /metrics.

A label has one of a few values, which stand in this code or in the settings. No job decides one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from ..config import Settings
from ..config.connections import connect_briefly
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs.outcome import REASONS, STATUSES, Reason, Status
from ..state.account import AccountStatus
from ..state.counts import BOUNDS_S, Histogram
from ..state.health import RedisHealth
from .picture import Picture, look
from .problems import Code

PREFIX = "attribute_courier"
FRESH_S = 1.0
"""A picture is used again for so long: several who scrape cost Redis no more than one."""

LANES = ("live", "bulk")
ATTEMPTS = ("2xx", "3xx", "4xx", "429", "5xx", "timeout", "connection", "own_side")
"""Classes of answers. `4xx` is without 429, which says something else."""
MAY_BE: dict[Status, tuple[Reason, ...]] = {
    "delivered": ("",),
    "superseded": ("",),
    "unchanged": ("",),
    "canceled": ("asked", "forgotten"),
    "unmatched": ("no_customer",),
    "unconfirmed": ("not_shown", "no_proof"),
    "invalid": ("schema", "future", "type"),
    "refused": ("content", "too_large"),
    "failed": ("server", "timeout", "connection", "not_chartmogul"),
}
"""Why a job may end so."""
PAUSING = ("401", "402", "403", "404", "407", "own_side")
"""What may pause an account, as far as an alert tells it apart."""
OTHER = "other"
"""Stands for what this release does not know: another one may have counted it."""

_Labels = tuple[str, ...]
_Samples = Iterable[tuple[_Labels, float]]


class CourierCollector(Collector):
    """Gives the metrics of all accounts in the settings, for a registry of prometheus-client.

    When Redis does not answer, there is `attribute_courier_up` 0 and nothing else that could be
    out of date: an exporter's way to say that it runs, and what it looks at does not.

    Args:
        settings: which Redis, which accounts.
        tell: is called with a sentence when Redis stops answering, and when it answers again.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], object] = lambda _: None) -> None:
        self._settings = settings
        self._client = connect_briefly(settings)
        self._tell = tell
        self._lock = threading.Lock()
        self._found: list[Metric] = []
        self._found_s = float("-inf")
        self._fault: str | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: so to register it asks no Redis."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics now; Redis is waited for within the enqueue timeout for each command."""
        with self._lock:
            if time.monotonic() > self._found_s + FRESH_S:
                self._found = self._look()
                self._found_s = time.monotonic()
            yield from self._found

    def _look(self) -> list[Metric]:
        fault = None
        try:
            found = list(families(look(self._client, self._settings)))
        except RedisError as error:
            fault = describe_redis_error(self._settings, error)
            found = []
        if fault != self._fault:
            self._tell(fault or "Redis answers again.")
            self._fault = fault
        up = _gauge("up", "Whether Redis answered: 1, or 0.", [((), fault is None)])
        return [_build_info(), up, *found]


def registry(
    settings: Settings, tell: Callable[[str], object] = lambda _: None
) -> CollectorRegistry:
    """A registry with the courier's metrics alone: none of this process."""
    found = CollectorRegistry()
    found.register(CourierCollector(settings, tell))
    return found


def metrics_text(settings: Settings) -> bytes:
    """The metrics now, in Prometheus's text format."""
    return generate_latest(registry(settings))


def families(picture: Picture) -> Iterator[Metric]:
    """The metrics that a picture says."""
    accounts = picture.accounts
    yield from _counted(accounts)
    yield from _waiting(accounts)
    yield from _standing(accounts)
    yield _problems(picture)
    yield from _redis(picture.redis)


def _counted(accounts: Sequence[AccountStatus]) -> Iterator[Metric]:
    yield _counter(
        "jobs",
        "Jobs that were settled, by lane, outcome and, where they did not end well, reason.",
        (
            ((each.account, *labels), count)
            for each in accounts
            for labels, count in _jobs(each).items()
        ),
        ("account", "lane", "status", "reason"),
    )
    yield _counter(
        "attempts",
        "Requests to ChartMogul, by what came back: the status's class (4xx without 429), 429, "
        "timeout, connection, or own_side for a proxy or certificate of this side.",
        (
            ((each.account, code), count)
            for each in accounts
            for code, count in _attempts(each).items()
        ),
        ("account", "code"),
    )
    latency = HistogramMetricFamily(
        f"{PREFIX}_request_duration",
        "Time from a request's last byte sent to the last byte of its answer.",
        labels=("account",),
        unit="seconds",
    )
    delay = HistogramMetricFamily(
        f"{PREFIX}_delivery_delay",
        "Time from enqueueing to the answer that showed the values, of delivered jobs.",
        labels=("account", "lane"),
        unit="seconds",
    )
    for each in accounts:
        latency.add_metric((each.account,), *_buckets(each.counts.latency))
        for lane in LANES:
            found = each.counts.delay.get(lane, Histogram())
            delay.add_metric((each.account, lane), *_buckets(found))
    yield latency
    yield delay
    yield _counter(
        "clock_steps",
        "Steps of Redis's clock that workers saw.",
        (((each.account,), each.clock_steps) for each in accounts),
        ("account",),
    )
    yield _counter(
        "repairs",
        "Mailboxes and jobs that nothing pointed to, and that a repair pass put back.",
        (((each.account,), each.repairs) for each in accounts),
        ("account",),
    )


def _waiting(accounts: Sequence[AccountStatus]) -> Iterator[Metric]:
    yield _gauge(
        "inbox_jobs",
        "Jobs that no worker has accepted yet.",
        (
            ((each.account, lane), found.due)
            for each in accounts
            for lane, found in zip(LANES, (each.inbox_live, each.inbox_bulk), strict=True)
        ),
        ("account", "lane"),
    )
    due_lanes = (*LANES, "failing")
    yield _gauge(
        "due_emails",
        "Emails that may be delivered now; lane failing: ChartMogul failed on them the last time.",
        (
            ((each.account, lane), found.due)
            for each in accounts
            for lane, found in zip(due_lanes, (each.live, each.bulk, each.failing), strict=True)
        ),
        ("account", "lane"),
    )
    yield _gauge(
        "later_emails",
        "Emails that are to be tried again later.",
        (((each.account,), each.later) for each in accounts),
        ("account",),
    )
    yield _gauge(
        "oldest_age",
        "How long the first job or email of a lane has been waiting; 0 if none waits.",
        (
            ((each.account, lane), age_s)
            for each in accounts
            for lane, age_s in zip(
                due_lanes,
                (each.oldest_s("live"), each.oldest_s("bulk"), each.failing.oldest_s),
                strict=True,
            )
        ),
        ("account", "lane"),
        "seconds",
    )


def _standing(accounts: Sequence[AccountStatus]) -> Iterator[Metric]:
    one: list[tuple[str, str, str, Callable[[AccountStatus], float | None]]] = [
        (
            "in_flight_requests",
            "Emails that workers are delivering.",
            "",
            lambda each: each.in_flight,
        ),
        (
            "pace_requests_per_second",
            "Requests a second that may leave now: less than the limit after answers of 429.",
            "",
            lambda each: each.rate,
        ),
        (
            "pace_limit_requests_per_second",
            "Requests a second that may leave at most (COURIER_RATE_LIMIT).",
            "",
            lambda each: each.rate_limit,
        ),
        (
            "circuit_open",
            "Whether many emails failed in a row, so that only probes leave: 1, or 0.",
            "",
            lambda each: each.circuit is not None,
        ),
        (
            "consecutive_failures",
            "Emails on which ChartMogul failed, one after the other, with no success between.",
            "",
            lambda each: each.failing_in_a_row,
        ),
        ("held", "How long ChartMogul still asks to wait.", "seconds", lambda each: each.held_for_s),
        (
            "workers",
            "Workers that are alive and serve the account.",
            "",
            lambda each: len(each.workers),
        ),
        (
            "last_delivery_timestamp",
            "When the last job was delivered, by Redis's clock; none before the first.",
            "seconds",
            lambda each: each.last_delivered_at and each.last_delivered_at.timestamp(),
        ),
    ]
    for name, text, unit, read in one:
        found = [((each.account,), read(each)) for each in accounts]
        known = [(labels, value) for labels, value in found if value is not None]
        yield _gauge(name, text, known, ("account",), unit)
    yield _gauge(
        "paused",
        "Whether nothing is delivered: 1, or 0; by account, for a fault of the account or of the "
        "way to ChartMogul, with what came back; or by operator.",
        (sample for each in accounts for sample in _paused(each)),
        ("account", "by", "code"),
    )


def _problems(picture: Picture) -> Metric:
    """A problem of all accounts has no account: Prometheus takes an empty label as none."""
    names = [each.account for each in picture.accounts]
    found = {
        (account, code): 0.0
        for code in get_args(Code)
        for account in ([""] if code.startswith("redis_") else names)
    }
    found |= {(each.account or "", each.code): 1.0 for each in picture.problems}
    return _gauge(
        "problem",
        "Whether `courier status --check` would name this problem: 1, or 0.",
        found.items(),
        ("account", "problem"),
    )


def _redis(redis: RedisHealth) -> Iterator[Metric]:
    info = InfoMetricFamily(
        f"{PREFIX}_redis",
        "Redis's version, and what it does when its memory is full.",
    )
    info.add_metric(
        (),
        {"version": redis.version or "", "maxmemory_policy": redis.policy or "", "role": redis.role or ""},
    )
    yield info
    one: list[tuple[str, str, str, float | None]] = [
        ("evicts", "Whether Redis throws keys away when its memory is full: 1, or 0.", "", redis.evicts),
        ("persists", "Whether Redis's data outlives its process: 1, or 0.", "", redis.persists),
        (
            "save_failed",
            "Whether Redis's last attempt to write its data to disk failed: 1, or 0.",
            "",
            redis.save_failed,
        ),
        ("memory_used", "Memory that Redis uses.", "bytes", redis.used_bytes),
        (
            "memory_max",
            "Memory that Redis may use at most (maxmemory); 0 for no limit.",
            "bytes",
            redis.maxmemory_bytes,
        ),
    ]
    for name, text, unit, value in one:
        yield _gauge(f"redis_{name}", text, [] if value is None else [((), value)], (), unit)
    evicted = redis.evicted_keys
    yield _counter(
        "redis_evicted_keys",
        "Keys that Redis threw away since it started.",
        [] if evicted is None else [((), evicted)],
    )


def _build_info() -> Metric:
    info = InfoMetricFamily(f"{PREFIX}_build", "The release that gives these metrics.")
    info.add_metric((), {"version": version("attribute-courier")})
    return info


def _jobs(account: AccountStatus) -> dict[_Labels, float]:
    """By lane, status and reason. What may come is there before it has, with 0: a rate sees the
    first one, too."""
    found = {
        (lane, status, reason): 0.0
        for lane in LANES
        for status, reasons in MAY_BE.items()
        for reason in reasons
    }
    for (lane, status, reason), count in account.counts.jobs.items():
        labels = (
            lane if lane in LANES else OTHER,
            status if status in STATUSES else OTHER,
            reason if reason in REASONS else OTHER,
        )
        found[labels] = found.get(labels, 0) + count
    return found


def _attempts(account: AccountStatus) -> dict[str, float]:
    found = dict.fromkeys(ATTEMPTS, 0.0)
    for code, count in account.counts.attempts.items():
        known = code if code in ATTEMPTS else OTHER
        found[known] = found.get(known, 0) + count
    return found


def _paused(account: AccountStatus) -> Iterator[tuple[_Labels, float]]:
    pause = account.pause
    for by in ("account", "operator"):
        holds = pause is not None and pause.by == by
        code = pause.code if holds and pause.code in PAUSING else ""
        yield (account.account, by, code), holds


def _buckets(found: Histogram) -> tuple[list[tuple[str, float]], float]:
    """As Prometheus counts them: each with all that took less."""
    bounds = [*map(floatToGoString, BOUNDS_S), "+Inf"]
    return list(zip(bounds, map(float, accumulate(found.counts)), strict=True)), found.sum_s


def _gauge(
    name: str, text: str, samples: _Samples, labels: Sequence[str] = (), unit: str = ""
) -> Metric:
    return _filled(GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels, unit=unit), samples)


def _counter(name: str, text: str, samples: _Samples, labels: Sequence[str] = ()) -> Metric:
    return _filled(CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: _Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family
