"""Metrics for Prometheus: what was counted, and how everything stands, looked up at each scrape.

All numbers come from Redis. So they count over all workers and restarts, and whoever gives them
says the same: `courier metrics`, and Flower's /metrics.

A label has one of a few values, which stand in this code or in the settings. No job decides one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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

from ..config import Settings
from ..config.connections import connect_briefly, until
from ..config.redis_errors import RedisError, describe_redis_error
from ..state.account import AccountStatus
from ..state.counts import BOUNDS_S, Histogram
from ..state.health import RedisHealth
from .picture import Picture, look
from .problems import Code

PREFIX = "attribute_courier_"
FRESH_S = 1.0
"""A picture is used again for so long: several who scrape cost Redis no more than one."""
PATIENCE_S = 4.0
"""Redis is waited for so long. Prometheus gives up after 10 s, and others may wait for the same."""

LANES = ("live", "bulk")
REASONS: Mapping[str, tuple[str, ...]] = {
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
"""How a job may end, and why."""
ATTEMPTS = ("2xx", "3xx", "4xx", "429", "5xx", "timeout", "connection", "own_side")
PAUSES = ("401", "402", "403", "404", "407", "own_side")
"""What came back when an account was paused, as far as an alert tells it apart."""
OTHER = "other"
"""Stands for what is not known here: another release may have counted it."""

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float]]


class CourierCollector(Collector):
    """Gives the metrics of all accounts in the settings, for a registry of prometheus-client.

    When Redis does not answer, `attribute_courier_up` is 0, and what could be out of date is left
    out. The scrape itself succeeds: so a fault of Redis and one of the exporter can be told apart.

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
        """Nothing: so a registry does not ask Redis when this is registered."""
        return ()

    def collect(self) -> list[Metric]:
        """The metrics now."""
        with self._lock:
            if time.monotonic() > self._found_s + FRESH_S:
                self._found = self._look()
                self._found_s = time.monotonic()
            return self._found

    def _look(self) -> list[Metric]:
        fault = None
        found: list[Metric] = []
        try:
            with until(time.monotonic() + PATIENCE_S):
                found += families(look(self._client, self._settings))
        except RedisError as error:
            fault = describe_redis_error(self._settings, error)
        if fault != self._fault:
            self._tell(fault or "Redis answers again")
            self._fault = fault
        up = _gauge("up", "Whether Redis answered.", [((), fault is None)])
        build = InfoMetricFamily(f"{PREFIX}build", "The release that gives these metrics.")
        build.add_metric((), {"version": version("attribute-courier")})
        return [up, build, *found]


def registry(
    settings: Settings, tell: Callable[[str], object] = lambda _: None
) -> CollectorRegistry:
    """A registry with the courier's metrics alone: nothing of this process."""
    found = CollectorRegistry()
    found.register(CourierCollector(settings, tell))
    return found


def metrics_source(settings: Settings) -> Callable[[], bytes]:
    """A function that gives the metrics in Prometheus's text format, each time it is called.

    It may be called in any thread, and waits for Redis. For Flower's /metrics.
    """
    return partial(generate_latest, registry(settings))


def metrics_text(settings: Settings) -> bytes:
    """The metrics now, in Prometheus's text format."""
    return metrics_source(settings)()


def families(picture: Picture) -> Iterator[Metric]:
    """The metrics of what a picture shows."""
    for each in OF_AN_ACCOUNT:
        family = each.kind(
            PREFIX + each.name, each.text, labels=("account", *each.labels), unit=each.unit
        )
        for account in picture.accounts:
            for labels, value in each.read(account):
                family.add_metric((account.account, *labels), float(value))
        yield family
    yield from _histograms(picture.accounts)
    yield _problems(picture)
    yield from _redis(picture.redis)


@dataclass(frozen=True, kw_only=True)
class OfAnAccount:
    """A metric that each account has."""

    name: str
    text: str
    read: Callable[[AccountStatus], Samples]
    labels: Labels = ()
    """Their names, but for `account`."""
    unit: str = ""
    kind: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily


def _one(read: Callable[[AccountStatus], float | None]) -> Callable[[AccountStatus], Samples]:
    """A sample without further labels; none where there is nothing to say."""

    def samples(account: AccountStatus) -> Samples:
        value = read(account)
        return [] if value is None else [((), value)]

    return samples


def _jobs(account: AccountStatus) -> Samples:
    """What may come is there before it has, with 0: so a rate sees the first one, too."""
    found: dict[Labels, float] = {
        (lane, status, reason): 0
        for lane in LANES
        for status, reasons in REASONS.items()
        for reason in reasons
    }
    every_reason = {reason for reasons in REASONS.values() for reason in reasons}
    for (lane, status, reason), count in account.counts.jobs.items():
        labels = _known(lane, LANES), _known(status, REASONS), _known(reason, every_reason)
        found[labels] = found.get(labels, 0) + count
    return found.items()


def _attempts(account: AccountStatus) -> Samples:
    found: dict[Labels, float] = {(code,): 0 for code in ATTEMPTS}
    for code, count in account.counts.attempts.items():
        labels = (_known(code, ATTEMPTS),)
        found[labels] = found.get(labels, 0) + count
    return found.items()


def _known(label: str, known: Iterable[str]) -> str:
    return label if label in known else OTHER


def _paused(account: AccountStatus) -> Samples:
    for by in ("account", "operator"):
        pause = account.pause if account.pause and account.pause.by == by else None
        code = pause.code if pause and pause.code in PAUSES else ""
        yield (by, code), pause is not None


def _last_delivery_s(account: AccountStatus) -> float | None:
    at = account.last_delivered_at
    return at.timestamp() if at else None


OF_AN_ACCOUNT = (
    OfAnAccount(
        name="jobs",
        text="Jobs that were settled, by lane, outcome and, where they did not end well, reason.",
        labels=("lane", "status", "reason"),
        read=_jobs,
        kind=CounterMetricFamily,
    ),
    OfAnAccount(
        name="attempts",
        text="Requests to ChartMogul, by what came back: the class of the status (4xx without "
        "429), 429, timeout, connection, or own_side for a proxy or certificate of this side.",
        labels=("code",),
        read=_attempts,
        kind=CounterMetricFamily,
    ),
    OfAnAccount(
        name="clock_steps",
        text="Steps of Redis's clock that workers saw.",
        read=_one(lambda each: each.clock_steps),
        kind=CounterMetricFamily,
    ),
    OfAnAccount(
        name="repairs",
        text="Mailboxes and jobs that nothing pointed to, and that a repair pass put back.",
        read=_one(lambda each: each.repairs),
        kind=CounterMetricFamily,
    ),
    OfAnAccount(
        name="inbox_jobs",
        text="Jobs that no worker has accepted yet.",
        labels=("lane",),
        read=lambda each: [
            (("live",), each.inbox_live.due),
            (("bulk",), each.inbox_bulk.due),
        ],
    ),
    OfAnAccount(
        name="due_emails",
        text="Emails that may be delivered now; failing: ChartMogul failed on them the last time.",
        labels=("lane",),
        read=lambda each: [
            (("live",), each.live.due),
            (("bulk",), each.bulk.due),
            (("failing",), each.failing.due),
        ],
    ),
    OfAnAccount(
        name="later_emails",
        text="Emails that are to be tried again later.",
        read=_one(lambda each: each.later),
    ),
    OfAnAccount(
        name="oldest_age",
        text="How long the first job or email of a lane has been waiting; 0 if none waits.",
        labels=("lane",),
        unit="seconds",
        read=lambda each: [
            (("live",), each.oldest_s("live")),
            (("bulk",), each.oldest_s("bulk")),
            (("failing",), each.failing.oldest_s),
        ],
    ),
    OfAnAccount(
        name="in_flight_requests",
        text="Emails that workers are delivering.",
        read=_one(lambda each: each.in_flight),
    ),
    OfAnAccount(
        name="pace_requests_per_second",
        text="Requests that may leave now: less than the limit after answers of 429.",
        read=_one(lambda each: each.rate),
    ),
    OfAnAccount(
        name="pace_limit_requests_per_second",
        text="Requests that may leave at most (COURIER_RATE_LIMIT).",
        read=_one(lambda each: each.rate_limit),
    ),
    OfAnAccount(
        name="held",
        text="How long ChartMogul still asks to wait.",
        unit="seconds",
        read=_one(lambda each: each.held_for_s),
    ),
    OfAnAccount(
        name="paused",
        text="Whether nothing is delivered: by account, for a fault of the account or of the way "
        "to ChartMogul, with what came back; by operator, until somebody resumes it.",
        labels=("by", "code"),
        read=_paused,
    ),
    OfAnAccount(
        name="circuit_open",
        text="Whether many emails failed in a row, so that only probes leave.",
        read=_one(lambda each: each.circuit is not None),
    ),
    OfAnAccount(
        name="consecutive_failures",
        text="Emails on which ChartMogul failed, one after the other, with no success between.",
        read=_one(lambda each: each.failing_in_a_row),
    ),
    OfAnAccount(
        name="workers",
        text="Workers that are alive and serve the account.",
        read=_one(lambda each: len(each.workers)),
    ),
    OfAnAccount(
        name="last_delivery_timestamp",
        text="When the last job was delivered, by Redis's clock; left out before the first.",
        unit="seconds",
        read=_one(_last_delivery_s),
    ),
)


def _histograms(accounts: Iterable[AccountStatus]) -> Iterator[Metric]:
    latency = HistogramMetricFamily(
        f"{PREFIX}request_duration",
        "From a request to the end of its answer, or of the wait for it.",
        labels=("account",),
        unit="seconds",
    )
    delay = HistogramMetricFamily(
        f"{PREFIX}delivery_delay",
        "From enqueueing a job to the answer that showed its values.",
        labels=("account", "lane"),
        unit="seconds",
    )
    for each in accounts:
        latency.add_metric(
            (each.account,), _buckets(each.counts.latency), each.counts.latency.sum_s
        )
        for lane in LANES:
            found = each.counts.delay.get(lane, Histogram())
            delay.add_metric((each.account, lane), _buckets(found), found.sum_s)
    yield latency
    yield delay


def _buckets(found: Histogram) -> list[tuple[str, float]]:
    """As Prometheus counts them: each with all that took less."""
    bounds = [*(str(float(bound)) for bound in BOUNDS_S), "+Inf"]
    return list(zip(bounds, accumulate(found.counts), strict=True))


def _problems(picture: Picture) -> Metric:
    found: dict[Labels, float] = {
        (account.account, code): 0
        for account in picture.accounts
        for code in get_args(Code)
        if not code.startswith("redis_")
    }
    # An empty label is none: these concern all accounts.
    found |= {("", code): 0 for code in get_args(Code) if code.startswith("redis_")}
    found |= {(problem.account or "", problem.code): 1 for problem in picture.problems}
    text = "Whether the courier finds this problem."
    return _gauge("problem", text, found.items(), ("account", "problem"))


def _redis(redis: RedisHealth) -> Iterator[Metric]:
    """What Redis does not tell this user is left out."""
    known: list[tuple[str, str, str, float | None]] = [
        ("evicts", "", "Whether Redis throws keys away when it is full.", redis.evicts),
        ("persists", "", "Whether Redis's data outlives its process.", redis.persists),
        ("save_failed", "", "Whether Redis's last write to disk failed.", redis.save_failed),
        ("memory_used", "bytes", "Memory that Redis uses.", redis.used_bytes),
        ("memory_max", "bytes", "Redis's maxmemory; 0 for no limit.", redis.maxmemory_bytes),
    ]
    for name, unit, text, value in known:
        yield _gauge(f"redis_{name}", text, [] if value is None else [((), value)], (), unit)
    evicted = CounterMetricFamily(
        f"{PREFIX}redis_evicted_keys", "Keys that Redis threw away since it started.", labels=()
    )
    if redis.evicted_keys is not None:
        evicted.add_metric((), redis.evicted_keys)
    yield evicted
    info = InfoMetricFamily(f"{PREFIX}redis", "Redis, as far as it tells.")
    told = {
        "version": redis.version,
        "role": redis.role,
        "maxmemory_policy": redis.policy,
    }
    info.add_metric((), {name: text or "" for name, text in told.items()})
    yield info


def _gauge(name: str, text: str, samples: Samples, labels: Labels = (), unit: str = "") -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels, unit=unit)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family
