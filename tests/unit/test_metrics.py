"""What Prometheus reads: the metrics of a picture, the collector, and the exporter."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from attribute_courier.cli import main
from attribute_courier.config import Secret, load_settings
from attribute_courier.jobs.outcome import STATUSES
from attribute_courier.operate.exporter import Exporter
from attribute_courier.operate.metrics import (
    FRESH_S,
    REASONS,
    CourierCollector,
    families,
    metrics_text,
    registry,
)
from attribute_courier.operate.picture import Picture
from attribute_courier.operate.problems import problems
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.account import AccountStatus, Lane, Pause
from attribute_courier.state.counts import BOUNDS_S, Counts, Histogram
from attribute_courier.state.health import RedisHealth

from ..account_state import Account
from ..prometheus import promtool
from .test_docs import table
from .test_problems import CIRCUIT, NOW, REDIS, WELL

PREFIX = "attribute_courier_"
TELLING = replace(REDIS, evicted_keys=0)
"""A Redis that tells everything."""


def picture(*accounts: AccountStatus, redis: RedisHealth = REDIS) -> Picture:
    return Picture(accounts=accounts, redis=redis, problems=tuple(problems(accounts, redis)))


def text_of(found: Picture) -> bytes:
    """The metrics of a picture, as they are served."""

    class Given(Collector):
        def collect(self) -> Any:
            return families(found)

    return generate_latest(Given())  # type: ignore[arg-type]


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: bytes) -> Samples:
    """Name without the prefix, and labels without the account → value."""
    return {
        (
            sample.name.removeprefix(PREFIX),
            frozenset((k, v) for k, v in sample.labels.items() if k != "account" and v),
        ): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def value(text: bytes, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


BUSY = replace(
    WELL,
    account="eu",
    inbox_live=Lane(due=3, oldest_s=4.5),
    live=Lane(due=7, oldest_s=2),
    bulk=Lane(due=100, oldest_s=60),
    failing=Lane(due=1, oldest_s=9),
    later=5,
    in_flight=20,
    rate=30,
    held_for_s=1.5,
    circuit=CIRCUIT,
    failing_in_a_row=12,
    last_delivered_at=NOW,
    clock_steps=2,
    repairs=4,
    counts=Counts(
        at=NOW,
        jobs={
            ("live", "delivered", ""): 41,
            ("bulk", "delivered", ""): 1,
            ("live", "refused", "content"): 3,
            ("live", "new", "newer"): 2,
            ("live", "new", "newest"): 5,
            ("live", "refused", "ada@example.com"): 6,
        },
        attempts={"2xx": 42, "429": 5, "teapot": 1, "coffee": 2},
        latency=Histogram(counts=(0, 2, *(0,) * (len(BOUNDS_S) - 2), 1), sum_s=90000.5),
        delay={"live": Histogram(counts=(1, *(0,) * len(BOUNDS_S)), sum_s=0.005)},
    ),
)


class TestAPicture:
    def test_what_was_counted(self) -> None:
        text = text_of(picture(BUSY))
        assert value(text, "jobs_total", lane="live", status="delivered") == 41
        assert value(text, "jobs_total", lane="live", status="refused", reason="content") == 3
        assert value(text, "attempts_total", code="429") == 5
        assert value(text, "clock_steps_total") == 2
        assert value(text, "repairs_total") == 4

    def test_what_may_come_is_there_with_0_so_that_a_rate_sees_the_first(self) -> None:
        text = text_of(picture(WELL))
        assert value(text, "attempts_total", code="timeout") == 0
        assert value(text, "jobs_total", lane="bulk", status="failed", reason="server") == 0
        assert value(text, "delivery_delay_seconds_count", lane="bulk") == 0
        assert value(text, "clock_steps_total") == 0

    def test_histograms_add_up_as_prometheus_counts_them(self) -> None:
        text = text_of(picture(BUSY))
        name = "request_duration_seconds"
        assert value(text, f"{name}_bucket", le="0.01") == 0
        assert value(text, f"{name}_bucket", le="0.025") == 2
        assert value(text, f"{name}_bucket", le="86400.0") == 2
        assert value(text, f"{name}_bucket", le="+Inf") == 3
        assert value(text, f"{name}_count") == 3
        assert value(text, f"{name}_sum") == 90000.5
        assert value(text, "delivery_delay_seconds_sum", lane="live") == 0.005

    def test_what_waits_and_how_the_account_stands(self) -> None:
        text = text_of(picture(BUSY))
        expected = {
            ("inbox_jobs", "live"): 3,
            ("due_emails", "live"): 7,
            ("due_emails", "bulk"): 100,
            ("due_emails", "failing"): 1,
            ("oldest_age_seconds", "live"): 4.5,
            ("oldest_age_seconds", "bulk"): 60,
            ("oldest_age_seconds", "failing"): 9,
        }
        for (name, lane), wanted in expected.items():
            assert value(text, name, lane=lane) == wanted, (name, lane)
        standing = {
            "later_emails": 5,
            "in_flight_requests": 20,
            "pace_requests_per_second": 30,
            "pace_limit_requests_per_second": 39.2,
            "held_seconds": 1.5,
            "circuit_open": 1,
            "consecutive_failures": 12,
            "workers": 1,
            "last_delivery_timestamp_seconds": NOW.timestamp(),
        }
        for name, wanted in standing.items():
            assert value(text, name) == wanted, name

    @pytest.mark.parametrize(
        ("pause", "paused"),
        [
            (None, {("account", ""): 0, ("operator", ""): 0}),
            (("account", "401"), {("account", "401"): 1, ("operator", ""): 0}),
            (("account", "own_side"), {("account", "own_side"): 1, ("operator", ""): 0}),
            (("account", "ada@example.com"), {("account", ""): 1, ("operator", ""): 0}),
            (("operator", ""), {("account", ""): 0, ("operator", ""): 1}),
        ],
    )
    def test_who_paused_and_what_came_back(
        self, pause: tuple[Any, str] | None, paused: dict[tuple[str, str], float]
    ) -> None:
        since = {"reason": "HTTP 401", "since": NOW, "next_probe_at": None}
        found = pause and Pause(by=pause[0], code=pause[1], **since)
        text = text_of(picture(replace(WELL, pause=found)))
        told = {
            (dict(labels)["by"], dict(labels).get("code", "")): each
            for (name, labels), each in samples(text).items()
            if name == "paused"
        }
        assert told == paused

    def test_the_problems_are_those_that_everybody_shows(self) -> None:
        text = text_of(picture(replace(WELL, workers=()), redis=replace(REDIS, save_failed=True)))
        wrong = {
            dict(labels)["problem"]
            for (name, labels), each in samples(text).items()
            if name == "problem" and each
        }
        assert wrong == {"no_worker", "redis_save_failed"}
        assert b'problem{account="default",problem="no_worker"} 1' in text
        assert b'problem{account="",problem="redis_save_failed"} 1' in text

    def test_redis(self) -> None:
        redis = replace(REDIS, maxmemory_bytes=100, policy="allkeys-lru", evicted_keys=7)
        text = text_of(picture(redis=redis))
        assert value(text, "redis_evicts") == 1
        assert value(text, "redis_persists") == 1
        assert value(text, "redis_save_failed") == 0
        assert value(text, "redis_memory_used_bytes") == 10
        assert value(text, "redis_memory_max_bytes") == 100
        assert value(text, "redis_evicted_keys_total") == 7
        assert value(text, "redis_info", version="8", maxmemory_policy="allkeys-lru") == 1

    def test_what_redis_does_not_tell_is_left_out(self) -> None:
        names = {name for name, _ in samples(text_of(picture(redis=RedisHealth())))}
        assert "redis_persists" not in names
        assert "redis_memory_used_bytes" not in names
        assert "redis_evicted_keys_total" not in names

    def test_labels_have_known_values_whatever_was_counted(self) -> None:
        """What another release counted, or something else wrote, makes no series of its own."""
        text = text_of(picture(BUSY))
        other = {"lane": "live", "reason": "other"}
        assert value(text, "jobs_total", status="other", **other) == 7
        assert value(text, "jobs_total", status="refused", **other) == 6
        assert value(text, "attempts_total", code="other") == 3
        assert b"example.com" not in text

    def test_every_outcome_has_its_reasons(self) -> None:
        assert set(STATUSES) - {"pending"} <= REASONS.keys()


def test_the_metrics_keep_to_the_conventions() -> None:
    """As promtool, Prometheus's own tool, checks them."""
    assert promtool("check", "metrics", stdin=text_of(picture(BUSY, WELL, redis=TELLING))) == ""


def test_the_page_lists_every_metric_with_its_type_and_labels(server: EmbeddedRedis) -> None:
    settings = replace(load_settings(), redis_url=Secret(server.url))
    exported: dict[str, tuple[str, set[str]]] = {}
    for text in (metrics_text(settings), text_of(picture(BUSY, redis=TELLING))):
        for family in text_string_to_metric_families(text.decode()):
            suffix = "_total" if family.type == "counter" else ""
            labels = {name for each in family.samples for name in each.labels} - {"le"}
            exported[family.name.removeprefix(PREFIX) + suffix] = (family.type, labels)
    listed = {
        row[0].strip("`"): (row[1], set(filter(None, row[2].split(", "))))
        for row in table("monitoring.md", "metric")
    }
    assert listed == exported


# --- the collector -----------------------------------------------------------------------------


@pytest.fixture
def server_of_its_own(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as found:
        yield found


def test_without_redis_the_scrape_succeeds_and_says_so_once(
    server_of_its_own: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attribute_courier.operate.metrics.FRESH_S", -1.0)
    settings = replace(load_settings(), redis_url=Secret(server_of_its_own.url))
    said: list[str] = []
    found = registry(settings, said.append)

    def names() -> dict[str, float]:
        return {name: each for (name, _), each in samples(generate_latest(found)).items()}

    assert names()["up"] == 1
    assert said == []
    server_of_its_own.kill()
    assert names() == {"up": 0, "build_info": 1}
    assert names()["up"] == 0
    [fault] = said
    assert "does not answer" in fault
    assert server_of_its_own.password not in fault
    server_of_its_own.start()
    assert names()["workers"] == 0
    assert said[1:] == ["Redis answers again"]


def test_a_redis_that_is_silent_is_waited_for_a_few_seconds(
    server_of_its_own: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attribute_courier.operate.metrics.PATIENCE_S", 0.3)
    settings = replace(load_settings(), redis_url=Secret(server_of_its_own.url))
    found = registry(settings)
    assert value(generate_latest(found), "up") == 1
    wait_s = FRESH_S + time.monotonic()
    server_of_its_own.pause()
    try:
        while time.monotonic() <= wait_s:
            time.sleep(0.05)
        began_s = time.monotonic()
        assert value(generate_latest(found), "up") == 0
        assert time.monotonic() - began_s < 1.5, "it alone would be waited for longer"
    finally:
        server_of_its_own.resume()


def test_several_who_scrape_at_once_cost_redis_one_look(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def look(*_: object) -> Picture:
        looks.append(1)
        return picture(WELL)

    monkeypatch.setattr("attribute_courier.operate.metrics.look", look)
    found = CourierCollector(load_settings())
    threads = [threading.Thread(target=found.collect) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(looks) == 1


def test_registering_it_asks_nobody() -> None:
    """So Flower starts without Redis, too."""
    settings = replace(load_settings(), redis_url=Secret("redis://127.0.0.1:1/0"))
    said: list[str] = []
    registry(settings, said.append)
    assert said == []


# --- HTTP --------------------------------------------------------------------------------------


@contextmanager
def serving(redis_url: str, host: str = "127.0.0.1") -> Iterator[str]:
    settings = replace(load_settings(), redis_url=Secret(redis_url))
    with Exporter(settings, host, 0, tell=lambda _: None) as exporter:
        thread = threading.Thread(target=exporter.serve)
        thread.start()
        try:
            yield exporter.url
        finally:
            exporter.stop()
            thread.join()


def get(url: str, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=20)


def test_the_exporter_serves_metrics_and_little_else(server: EmbeddedRedis) -> None:
    with serving(server.url) as url:
        answer = get(url)
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert value(answer.content, "up") == 1
        site = url.removesuffix("/metrics")
        assert get(f"{site}/healthz").text == "ok\n"
        assert '<a href="/metrics">' in get(site).text
        for path in ("/metrics/", "/metricsx", "/etc/passwd"):
            assert get(site + path).status_code == 404, path
        with requests.Session() as session:
            session.trust_env = False
            assert session.post(url, data="x", timeout=20).status_code == 405


def test_whoever_asks_for_open_metrics_gets_units_too(server: EmbeddedRedis) -> None:
    with serving(server.url) as url:
        answer = get(url, Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert f"# UNIT {PREFIX}oldest_age_seconds seconds\n" in answer.text
    assert f"# UNIT {PREFIX}redis_memory_used_bytes bytes\n" in answer.text
    assert answer.text.endswith("# EOF\n")


def test_healthz_and_metrics_answer_when_redis_does_not() -> None:
    with serving("redis://127.0.0.1:1/0") as url:
        answer = get(url)
        assert answer.status_code == 200
        assert value(answer.content, "up") == 0
        assert get(url.replace("/metrics", "/healthz")).status_code == 200


def test_a_client_that_is_silent_is_left_and_no_traceback(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attribute_courier.operate.exporter._Handler.timeout", 0.1)
    with serving(server.url) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            assert silent.recv(1) == b"", "the connection is closed"
        assert get(url).status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_it_also_listens_on_ipv6(server: EmbeddedRedis) -> None:
    try:
        with serving(server.url, "::1") as url:
            assert url.startswith("http://[::1]:")
            assert get(url).status_code == 200
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_a_port_that_is_taken_is_a_clear_error(server: EmbeddedRedis) -> None:
    with serving(server.url) as url:
        port = url.rpartition(":")[2].partition("/")[0]
        ended = CliRunner().invoke(main, ["metrics", "--port", port])
    assert ended.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.output
