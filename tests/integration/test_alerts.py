"""Each alert, raised by a real Prometheus that scrapes `courier metrics`, on what really is wrong.

Scrapes and evaluations are a second apart, so an alert is pending soon after its state is there.
How long it has to hold until it fires is for promtool, in tests/unit/test_monitoring.py.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from attribute_courier.config import load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import Fault, LeashedProcess

from ..clocks import SteppedRedis
from ..conftest import Courier
from ..prometheus import Prometheus, need
from ..waiting import wait_until

WITHIN_S = 15
"""The promise: so long after a state is there, its alert is pending, with the reason."""
WORKED = ("default", "revoked")
"""Accounts that a worker serves."""
UNSERVED = ("idle", "old", "unused", "stopped")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SteppedRedis]:
    """One of its own, which is harmed."""
    need("prometheus")
    with SteppedRedis(tmp_path / "redis") as found:
        yield found


class Watch:
    """A courier at work, an exporter and a Prometheus."""

    def __init__(self, courier: Courier, tmp_path: Path) -> None:
        self.courier = courier
        self.log = tmp_path / "metrics.log"
        argv = [sys.executable, "-m", "attribute_courier.cli", "metrics", "--port", "0"]
        environ = self.environ(*WORKED, *UNSERVED)
        with self.log.open("wb") as stream:
            self.exporter = LeashedProcess(
                argv, env={**os.environ, **environ}, stdout=stream, stderr=stream
            )
        pattern = r"Metrics at http://(127\.0\.0\.1:\d+)/metrics\n"
        found = wait_until(lambda: re.search(pattern, self.log.read_text()), what="the exporter")
        self.prometheus = Prometheus(tmp_path / "prometheus", found[1])

    def environ(self, *accounts: str) -> dict[str, str]:
        keys = {f"CHARTMOGUL_API_KEY_{name.upper()}": f"wrong-key-of-{name}" for name in accounts}
        del keys["CHARTMOGUL_API_KEY_DEFAULT"]
        return {**self.courier.environ, **keys, "COURIER_ACCOUNTS": ",".join(accounts)}

    def write(self, account: str, lane: str = "live", *, ago_s: float = 0) -> None:
        """A job from another language, as docs/wire-format.md says; its clock may be behind."""
        document = {"v": 1, "email": "ada@example.com", "attributes": {"n": 1}, "lane": lane}
        job_id, inbox = str(uuid.uuid4()), f"courier:{{{account}}}:inbox"
        arrival = round((time.time() - ago_s) * 1e6)
        self.courier.client.hset(inbox, job_id, json.dumps(document))
        self.courier.client.zadd(f"{inbox}:{lane}", {job_id: arrival})

    def raises(self, name: str, *words: str, account: str | None = None) -> None:
        """The alert is pending in time, and says why."""
        began_s = time.monotonic()

        def found() -> str | None:
            for alert in self.prometheus.alerts():
                labels, said = alert["labels"], alert["annotations"]
                if labels["alertname"] == f"AttributeCourier{name}" and (
                    account in (None, labels.get("account"))
                ):
                    return f"{said['summary']}: {said['description']}"
            return None

        text = wait_until(found, timeout_s=WITHIN_S, what=f"{name} of {account}")
        print(f"{name}: {time.monotonic() - began_s:.1f} s: {text}")  # noqa: T201
        for word in (account or "", *words):
            assert word in text, text

    def alerts(self, account: str) -> set[str]:
        return {
            each["labels"]["alertname"].removeprefix("AttributeCourier")
            for each in self.prometheus.alerts()
            if each["labels"].get("account", account) == account
        }


@pytest.mark.long
@pytest.mark.timeout(180)
def test_within_15_seconds_an_alert_says_what_is_wrong_and_why(
    courier: Courier, server: SteppedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(courier, tmp_path)
    for name, content in watch.environ(*WORKED).items():
        monkeypatch.setenv(name, content)
    producer = Producer(load_settings())
    try:
        with watch.prometheus:
            check_what_workers_mend(watch, producer)
            check_accounts(watch, producer)
            check_chartmogul_the_clock_and_redis(watch, producer, server)
    finally:
        producer.close()
        watch.exporter.kill()
    log = watch.log.read_text()
    assert log.count("does not answer") == 1, "said once"
    assert "Traceback" not in log
    assert server.password not in log


def check_what_workers_mend(watch: Watch, producer: Producer) -> None:
    # What a crash of another language's producer left: a job that nothing points to.
    document = '{"v": 1, "email": "ada@example.com", "attributes": {"stray": 1}}'
    watch.courier.client.hset(watch.courier.keys.inbox, str(uuid.uuid4()), document)
    watch.courier.start_worker(**watch.environ(*WORKED))
    watch.courier.wait(producer.add_attributes("ada@example.com", {"plan": "pro"}))
    watch.raises("Repaired", "nothing pointed to them", account="default")
    wait_until(lambda: watch.alerts("default") == {"Repaired"}, what="else all is well")


def check_accounts(watch: Watch, producer: Producer) -> None:
    redis, inbox = watch.courier.client, watch.courier.keys.inbox
    watch.write("idle")
    watch.write("old", ago_s=400)
    watch.write("old", "bulk", ago_s=400)
    redis.set("courier:{unused}:layout", "0")
    watch.courier.health("stopped").pause("for the test")
    producer.add_attributes("ada@example.com", {"plan": "pro"}, account="revoked")
    watch.courier.stand_in.configure(faults=[Fault(kind="status", status=429, count=2)])
    for number in range(3):
        producer.add_attributes(f"{number}@load.example", {"n": number})
    for number in range(22):
        redis.hset(inbox, job_id := str(uuid.uuid4()), '{"v": 1, "email": "no email"}')
        redis.zadd(f"{inbox}:live", {job_id: time.time() * 1e6 + number})
    watch.raises("NoWorker", "1 jobs and emails", "no worker is alive", account="idle")
    watch.raises("NothingDelivered", "none was delivered", account="idle")
    watch.raises("NoWorkerAtAll", "No worker is alive", account="unused")
    watch.raises("OtherLayout", "another form than this release reads", account="unused")
    watch.raises("BacklogOld", "The oldest of the lane live", "6m 4", account="old")
    watch.raises("BulkBacklogOld", "oldest bulk job", "6m 4", account="old")
    watch.raises("Paused", "ChartMogul refuses the account with HTTP 401", account="revoked")
    watch.raises("PausedByOperator", "Somebody ran `courier pause`", account="stopped")
    watch.raises("TooManyRequests", "are answered 429", account="default")
    watch.raises("FailureShare", "invalid (schema): 2", account="default")


def check_chartmogul_the_clock_and_redis(
    watch: Watch, producer: Producer, server: SteppedRedis
) -> None:
    watch.courier.stand_in.kill()
    for number in range(15):
        producer.add_attributes(f"down-{number}@load.example", {"n": number})
    watch.raises("ChartMogulFails", "failed one after the other", "connection: ", account="default")
    watch.raises("CircuitOpen", "ChartMogul fails", "connection: ", account="default")
    watch.raises("FailingAttempts", "fail at ChartMogul or on the way", account="default")

    redis = watch.courier.client
    redis.config_set("appendonly", "no")
    redis.config_set("maxmemory", round(redis.info("memory")["used_memory"] / 0.95))
    if server.can_step:  # where libfaketime is missing, the tests of clocks say so
        server.step_to(30)
        watch.raises("ClockStep", "The clock of Redis's machine jumped")
    watch.raises("RedisNotPersistent", "neither an append-only file nor snapshots")
    watch.raises("RedisNearlyFull", "of its maxmemory")
    redis.config_set("maxmemory", "1")
    watch.raises("RedisFull", "so it refuses what is to be written")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    watch.raises("RedisEvicts", "it throws jobs away without a word")
    watch.raises("RedisEvicted", "Redis threw away")
    server.kill()
    watch.raises("RedisUnreachable", "Redis does not answer")
    watch.exporter.kill()
    watch.raises("ExporterDown", "courier metrics")
