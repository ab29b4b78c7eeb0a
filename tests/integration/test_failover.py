"""Redis fails over, restarts, is full or refuses: worker and producers go on once it is well.

Meanwhile they say what it answers, in words and once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from attribute_courier.config import Secret, load_settings
from attribute_courier.config.rights import PRODUCER_RIGHTS, worker_rights
from attribute_courier.jobs.errors import NotEnqueued
from attribute_courier.producers import Producer, Receipt
from attribute_courier.sandbox import EmbeddedRedis

from ..conftest import Courier
from ..proxy import Proxy
from ..waiting import wait_until

SOON_S = 10
"""The promise is 5 s; the machine may be busy."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """One of its own for each test."""
    with EmbeddedRedis(tmp_path / "redis") as found:
        yield found


@pytest.fixture
def proxy(server: EmbeddedRedis) -> Iterator[Proxy]:
    with Proxy(server.url) as found:
        yield found


def producer_at(url: str) -> Producer:
    return Producer(replace(load_settings(), redis_url=Secret(url)))


class Trouble:
    """A courier at work, for whom Redis is then ill."""

    def __init__(self, courier: Courier, url: str | None = None) -> None:
        self.courier = courier
        self.url = url or courier.server.url
        self.producer = producer_at(self.url)
        self.worker = courier.start_worker(COURIER_REDIS_URL=self.url)
        self.receipts: list[Receipt] = []
        self.ask()
        self.courier.wait(*self.receipts)

    def ask(self) -> None:
        n = len(self.receipts)
        self.receipts.append(self.producer.add_attributes(f"{n}@load.example", {"n": n}))

    def is_said(self, *words: str) -> None:
        """The worker says it, in words and once."""
        text = words[0]
        wait_until(lambda: text in self.courier.log(), what=f"the worker says {text!r}")
        for word in words:
            assert word in self.courier.log()
        said = self.courier.log()
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 2, what="time for saying it again")
        log = self.courier.log()
        assert log.count(text) <= 1 + said.count(text)
        assert "Traceback" not in log
        assert "Unrecoverable" not in log

    def is_refused(self, *words: str) -> None:
        with pytest.raises(NotEnqueued) as caught:
            self.ask()
        for word in words:
            assert word in str(caught.value)

    def goes_on(self) -> None:
        """Redis is well: the same worker and producer work again, and all is delivered."""
        wait_until(self._is_taken, timeout_s=SOON_S, what="the producer goes on")
        outcomes = self.courier.wait(*self.receipts, timeout_s=SOON_S)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert self.worker.running
        assert "Traceback" not in self.courier.log()
        wait_until(
            lambda: self.courier.log().count("well again") == 1, what="that it is over is said"
        )

    def _is_taken(self) -> bool:
        try:
            self.ask()
        except NotEnqueued:
            return False
        return True


def test_a_primary_that_is_demoted_and_comes_back(courier: Courier) -> None:
    trouble = Trouble(courier)
    courier.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    trouble.is_refused("is a replica, which takes no writes", "READONLY")
    trouble.is_said("is a replica, which takes no writes", "READONLY")
    courier.client.execute_command("REPLICAOF", "NO", "ONE")
    trouble.goes_on()


def test_a_replica_that_has_lost_its_primary(courier: Courier) -> None:
    trouble = Trouble(courier)
    courier.client.config_set("replica-serve-stale-data", "no")
    courier.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    trouble.is_refused("MASTERDOWN")
    trouble.is_said("is a replica without its primary", "MASTERDOWN")
    courier.client.execute_command("REPLICAOF", "NO", "ONE")
    trouble.goes_on()


@pytest.mark.long
def test_another_primary_behind_the_address_while_the_old_one_keeps_its_connections(
    courier: Courier, proxy: Proxy, tmp_path: Path
) -> None:
    """As after a failover by DNS or a virtual address."""
    trouble = Trouble(courier, proxy.url)
    with EmbeddedRedis(tmp_path / "other", password=courier.server.password) as other:
        new = redis.Redis.from_url(other.url, decode_responses=True)
        host, _, port = (
            courier.server.url.rpartition("@")[2].removeprefix("redis://").partition(":")
        )
        new.config_set("masterauth", courier.server.password)
        new.execute_command("REPLICAOF", host, port.partition("/")[0])
        wait_until(lambda: new.info("replication")["master_link_status"] == "up", what="a replica")
        trouble.ask()
        courier.wait(*trouble.receipts)
        wait_until(
            lambda: (
                new.info("replication")["slave_repl_offset"]
                == courier.client.info("replication")["master_repl_offset"]
            )
        )
        new.execute_command("REPLICAOF", "NO", "ONE")
        proxy.lead_to(other.url)
        courier.client.execute_command("REPLICAOF", "127.0.0.1", "1")
        trouble.ask()  # at once: the next call connects anew
        # A read may still be answered by the old one, for ten seconds.
        outcomes = courier.wait(*trouble.receipts, timeout_s=20)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert trouble.worker.running
        assert "Traceback" not in courier.log()
        new.close()


@pytest.mark.long
def test_a_primary_that_is_killed_and_away_for_long(courier: Courier) -> None:
    """Celery's own pauses would have grown to eight seconds by then, and to thirty in a minute."""
    trouble = Trouble(courier)
    courier.client.wait(0, 0)
    wait_until(lambda: courier.client.info("persistence")["aof_pending_bio_fsync"] == 0)
    courier.server.kill()
    trouble.is_refused("does not answer", "COURIER_REDIS_URL")
    trouble.is_said("does not answer")
    begin = time.monotonic()
    away_s = float(os.environ.get("AWAY_S", "16"))
    wait_until(lambda: time.monotonic() - begin > away_s, timeout_s=away_s + 1)
    courier.server.start()
    trouble.goes_on()


@pytest.mark.long
def test_a_full_redis_with_requests_in_flight(courier: Courier) -> None:
    trouble = Trouble(courier)
    courier.stand_in.configure(latency_s=1)
    for _ in range(10):
        trouble.ask()
    wait_until(lambda: len(courier.posts()) > 5, what="requests are in flight")
    courier.client.config_set("maxmemory", "1")
    trouble.is_refused("is out of memory", "maxmemory", "noeviction")
    trouble.is_said("is out of memory", "maxmemory")
    asked = len(courier.posts())
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() - begin > 3)
    assert len(courier.posts()) <= asked + 1, "no storm"
    courier.stand_in.configure(latency_s=0)
    courier.client.config_set("maxmemory", "0")
    # What was in flight is sent again once its leases have ended.
    outcomes = courier.wait(*trouble.receipts, timeout_s=20)
    assert {outcome.status for outcome in outcomes} == {"delivered"}
    trouble.goes_on()


@pytest.mark.long
def test_a_redis_that_loads_its_data(courier: Courier, proxy: Proxy) -> None:
    trouble = Trouble(courier, proxy.url)
    proxy.answer = b"-LOADING Redis is loading the dataset in memory\r\n"
    trouble.is_refused("is loading its data", "LOADING")
    trouble.is_said("is loading its data")
    proxy.answer = None
    trouble.goes_on()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"-NOAUTH Authentication required.\r\n", "asks for a password"),
        (b"-UNBLOCKED force unblock from blocking operation\r\n", "changes its role"),
        (b"-STRANGE that nobody knows\r\n", "answers with an error (STRANGE"),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                (b"-NOPERM this user has no permissions to run it\r\n", "refuses a command"),
                (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "takes no writes"),
                (b"-WRONGTYPE Operation against a key of the wrong kind\r\n", "WRONGTYPE"),
                (b"-ERR unknown command\r\n", "answers with an error (unknown command)"),
            )
        ),
    ],
)
def test_whatever_redis_answers(courier: Courier, proxy: Proxy, answer: bytes, says: str) -> None:
    trouble = Trouble(courier, proxy.url)
    proxy.answer = answer
    trouble.is_refused(says)
    trouble.is_said(says)
    proxy.answer = None
    trouble.goes_on()


def test_all_connections_are_killed(courier: Courier) -> None:
    trouble = Trouble(courier)
    for _ in range(5):
        courier.client.client_kill_filter(_type="normal", skipme=True)
        courier.client.client_kill_filter(_type="pubsub", skipme=True)
        trouble.ask()
    outcomes = courier.wait(*trouble.receipts, timeout_s=SOON_S)
    assert {outcome.status for outcome in outcomes} == {"delivered"}
    assert trouble.worker.running
    assert "Traceback" not in courier.log()


@pytest.mark.long
def test_all_connections_fall_silent(courier: Courier, proxy: Proxy) -> None:
    """Nobody closes them: only the worker's own watch can notice."""
    trouble = Trouble(courier, proxy.url)
    direct = producer_at(courier.server.url)
    for _ in range(2):
        proxy.fall_silent()
        trouble.receipts.append(direct.add_attributes("silent@load.example", {"n": 1}))
        outcomes = courier.wait(trouble.receipts[-1], timeout_s=25)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        wait_until(trouble._is_taken, timeout_s=SOON_S, what="the producer goes on")
    assert trouble.worker.running


class TestRights:
    """Of the ACL user in COURIER_REDIS_URL."""

    @pytest.fixture
    def url_of(self, courier: Courier) -> Callable[..., str]:
        def url(rights: str, user: str = "ada") -> str:
            courier.client.execute_command(
                "ACL", "SETUSER", user, "reset", "on", ">s3cr3t", *rights.split()
            )
            place = courier.server.url.removeprefix("redis://").rpartition("@")[2]
            return f"redis://{user}:s3cr3t@{place}"

        return url

    def test_those_that_are_named_are_enough(
        self, courier: Courier, url_of: Callable[..., str]
    ) -> None:
        courier.start_worker(COURIER_REDIS_URL=url_of(worker_rights()))
        producer = producer_at(url_of(PRODUCER_RIGHTS, "grace"))
        receipt = producer.add_attributes("0@load.example", {"n": 1}, idempotency_key="x")
        assert receipt.wait(20).status == "delivered"
        assert producer.outcomes("0@load.example")
        assert "NOPERM" not in courier.log()

    def test_a_worker_without_channels_says_what_it_lacks_and_goes_on_when_it_has_it(
        self, courier: Courier, url_of: Callable[..., str]
    ) -> None:
        rights = " ".join(each for each in worker_rights().split() if not each.startswith("&"))
        worker = courier.start_worker(COURIER_REDIS_URL=url_of(rights))
        wait_until(lambda: "NOPERM" in courier.log(), what="the worker says what it lacks")
        assert worker_rights() in courier.log()
        assert "channel" in courier.log()
        assert "s3cr3t" not in courier.log()
        url_of(worker_rights())
        receipt = courier.producer.add_attributes("0@load.example", {"n": 1})
        assert courier.wait(receipt)[0].status == "delivered"
        wait_until(lambda: "well again" in courier.log(), what="that it is over is said")
        assert worker.running
        assert courier.log().count("NOPERM") == 1

    def test_a_producer_is_told_what_it_lacks(
        self, courier: Courier, url_of: Callable[..., str]
    ) -> None:
        producer = producer_at(url_of(PRODUCER_RIGHTS.replace("+time", "-time")))
        with pytest.raises(NotEnqueued) as caught:
            producer.add_attributes("0@load.example", {"n": 1})
        assert PRODUCER_RIGHTS in str(caught.value)
        assert "does not answer" not in str(caught.value)
