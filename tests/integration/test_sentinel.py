"""The state's Redis under Sentinels, which fail it over while jobs come in and are delivered."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attribute_courier.config import load_settings
from attribute_courier.jobs.errors import NotEnqueued, NotReachable
from attribute_courier.producers import Producer, Receipt
from attribute_courier.sandbox import EmbeddedRedis

from ..conftest import Courier
from ..sentinels import SENTINEL_PASSWORD, Watched
from ..waiting import wait_until

ROUNDS = int(os.environ.get("COURIER_TESTS_FAILOVERS", "1"))
"""How often Redis fails over, each way."""
BACK_WITHIN_S = 15
EMAILS = 40


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(tmp_path / "watched") as found:
        yield found


@pytest.fixture
def server(watched: Watched) -> EmbeddedRedis:
    return watched.servers[0]


class Asking:
    """A producer that goes on: each email's value grows. It repeats what was not taken."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._stop = threading.Event()
        self.taken: dict[str, list[tuple[int, Receipt]]] = defaultdict(list)
        self.told: list[str] = []
        self.last_s = 0.0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._stop.wait(0.02):
            n += 1
            email = f"{n % EMAILS}@load.example"
            while not self._is_taken(email, n) and not self._stop.wait(0.1):
                pass

    def _is_taken(self, email: str, n: int) -> bool:
        try:
            receipt = self._producer.add_attributes(email, {"n": n}, idempotency_key=str(n))
        except NotEnqueued as error:
            self.told.append(str(error))
            return False
        self.taken[email].append((n, receipt))
        self.last_s = time.monotonic()
        return True

    def goes_on(self, courier: Courier) -> float:
        """Wait until jobs are taken and delivered again. Returns after how many seconds."""
        begin = time.monotonic()
        posts = len(courier.posts())
        wait_until(
            lambda: self.last_s > begin and len(courier.posts()) > posts,
            timeout_s=60,
            what="it goes on",
        )
        return time.monotonic() - begin


def delivered(producer: Producer) -> bool:
    """Whether a job is taken, and delivered soon."""
    try:
        receipt = producer.add_attributes("direct@load.example", {"n": 1})
        return receipt.wait(5).status in ("delivered", "superseded")
    except (NotEnqueued, NotReachable, TimeoutError):
        return False


@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_failovers_lose_no_job_and_put_no_older_value_over_a_newer_one(
    courier: Courier, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {
        "COURIER_REDIS_URL": watched.url,
        "COURIER_SENTINEL_PASSWORD": SENTINEL_PASSWORD,
        "COURIER_WAIT_REPLICAS": "1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    worker = courier.start_worker(**environ)
    producer = Producer(load_settings())
    with Asking(producer) as asking:
        asking.goes_on(courier)
        for _ in range(ROUNDS):
            old = watched.primary
            watched.fail_over()
            watched.wait_for_another_than(old)
            assert asking.goes_on(courier) < BACK_WITHIN_S
            watched.wait_for_replicas()

            old = watched.primary
            old.kill()
            watched.wait_for_another_than(old)
            begin_s = time.monotonic()
            # There is no replica left to wait for.
            hurried = Producer(replace(load_settings(), wait_replicas=0))
            wait_until(lambda: delivered(hurried), timeout_s=60, what="a job is delivered")  # noqa: B023
            assert time.monotonic() - begin_s < BACK_WITHIN_S
            hurried.close()
            watched.start_again(old)
            watched.wait_for_replicas()
            asking.goes_on(courier)
    assert asking.told, "a killed primary takes nothing"
    receipts = [receipt for taken in asking.taken.values() for _, receipt in taken]
    outcomes = courier.wait(*receipts, timeout_s=60)
    assert {outcome.status for outcome in outcomes} <= {"delivered", "superseded"}
    for email, taken in asking.taken.items():
        sent = [
            attribute["value"]
            for post in courier.posts(email)
            if post["applied"]
            for attribute in post["custom"]
        ]
        assert sent == sorted(sent), f"{email}: an older value after a newer one"
        assert courier.custom(email)["n"] >= max(n for n, _ in taken), f"{email}: a job is lost"
    assert worker.running
    assert "Traceback" not in courier.log()
    producer.close()
