"""The state on a real Redis Cluster: three shards, with accounts on each; messages over one Redis.

`COURIER_TESTS_FAILOVERS=10` makes so many failovers, moves and crashes; one of each unless set.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from attribute_courier.cli.main import main
from attribute_courier.config import load_settings
from attribute_courier.config.connections import connect_patiently
from attribute_courier.jobs.errors import IdempotencyConflict, NotEnqueued
from attribute_courier.operate.metrics import metrics_text
from attribute_courier.producers import Producer, Receipt
from attribute_courier.sandbox import DEFAULT_API_KEY, EmbeddedRedis, SandboxProcess

from ..cli_runner import CliRunner
from ..conftest import Courier
from ..redis_cluster import Cluster, running
from ..waiting import wait_until

TIMES = int(os.environ.get("COURIER_TESTS_FAILOVERS", "1"))
BACK_S = 15
"""After a promotion, deliveries are back within this time."""


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster"), replicas=1) as found:
        yield found


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """Three primaries, each with a replica; empty."""
    _cluster.mend()
    _cluster.flush()
    return _cluster


@pytest.fixture
def accounts(cluster: Cluster) -> list[str]:
    """One on each shard."""
    return [next(cluster.accounts(shard)) for shard in range(3)]


@pytest.fixture
def courier(
    cluster: Cluster,
    accounts: list[str],
    server: EmbeddedRedis,
    stand_in: SandboxProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Courier]:
    """The whole courier: its state on the cluster, its messages over `server`."""
    environ = {
        "COURIER_REDIS_URL": cluster.url,
        "COURIER_BROKER_URL": server.url,
        "COURIER_ACCOUNTS": ",".join(accounts),
        "CHARTMOGUL_API_URL": stand_in.url,
        "COURIER_TIMEOUT": "2s",
        "COURIER_UNMATCHED_DELAYS": "500ms",
        "COURIER_UNCONFIRMED_DELAYS": "500ms",
        "TMPDIR": str(tmp_path / "tmp"),
    } | {f"CHARTMOGUL_API_KEY_{each.upper()}": DEFAULT_API_KEY for each in accounts}
    (tmp_path / "tmp").mkdir()
    (tmp_path / "logs").mkdir()
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    whole = Courier(
        server=server,
        stand_in=stand_in,
        environ=environ,
        producer=Producer(settings),
        client=connect_patiently(settings),
        logs=tmp_path / "logs",
        account=accounts[0],
    )
    yield whole
    for worker in whole.workers:
        worker.kill()
    whole.producer.close()
    whole.client.close()


class Load:
    """Jobs of all accounts, one after the other, until the block of a `with` ends.

    A job that is not taken is asked for again before the next, as an application would that must
    not lose it. So the newest value of each email is the last one.
    """

    def __init__(self, courier: Courier, accounts: Sequence[str]) -> None:
        self._courier = courier
        self._accounts = accounts
        self.receipts: list[Receipt] = []
        self.newest: dict[str, int] = {}
        """Email → the value that must stand at the end."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: len(self._courier.posts()) > 20, what="work is under way")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._over.wait(0.01):
            account = self._accounts[n % len(self._accounts)]
            email = f"{account}-{n % 4}@load.example"
            while True:
                try:
                    receipt = self._courier.producer.add_attributes(
                        email, {"n": n}, account=account, idempotency_key=str(n)
                    )
                except NotEnqueued:
                    continue
                break
            self.receipts.append(receipt)
            self.newest[email] = n
            n += 1

    def goes_on(self, account: str) -> None:
        """A job that is asked for from now on is delivered soon."""
        before = len(self.receipts)

        def is_delivered() -> bool:
            mine = [each for each in self.receipts[before:] if each.account == account]
            return any((found := each.outcome()) and found.settled for each in mine[:3])

        wait_until(is_delivered, timeout_s=BACK_S, what=f"account {account} is delivered again")

    def is_well_delivered(self) -> None:
        """Nothing is lost, the newest value stands, and no older one came after a newer one."""
        outcomes = self._courier.wait(*self.receipts, timeout_s=60)
        assert {each.status for each in outcomes} <= {"delivered", "superseded"}
        for email, n in self.newest.items():
            assert self._courier.custom(email) == {"n": n}
            sent = [post["custom"][0]["value"] for post in self._courier.posts(email)]
            assert sent == sorted(sent)
        assert self._courier.stand_in.stats()["overlaps"] == 0
        assert all(worker.running for worker in self._courier.workers)
        assert "Traceback" not in self._courier.log()


def courier_says(*arguments: str) -> str:
    """What a command writes."""
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def test_accounts_on_three_shards(courier: Courier, accounts: list[str]) -> None:
    """What every page of the documentation promises, for an account on each shard."""
    worker = courier.start_worker()
    for account in accounts:
        add = partial(courier.producer.add_attributes, account=account)
        ada = f"{account}@load.example"
        receipt = add(ada, {"plan": "pro", "seats": 3}, idempotency_key="order-7")
        assert receipt.wait(30).status == "delivered"
        assert add(ada, {"plan": "pro", "seats": 3}, idempotency_key="order-7").duplicate
        with pytest.raises(IdempotencyConflict):
            add(ada, {"plan": "max"}, idempotency_key="order-7")
        older = add(ada, {"plan": "free"}, occurred_at=datetime.now(UTC) - timedelta(hours=1))
        assert older.wait(30).status == "superseded"
        assert courier.custom(ada) == {"plan": "pro", "seats": 3}
        result = courier.producer.celery.AsyncResult(receipt.job_id)
        assert result.get(timeout=30).job_id == receipt.job_id
        assert add("nobody@example.com", {"n": 1}).wait(30).status == "unmatched"
    for account in accounts:
        courier_says("pause", "--account", account)
    later = [
        courier.producer.add_attributes(f"{account}@load.example", {"n": 1}, account=account)
        for account in accounts
    ]
    for receipt in later:
        assert courier.producer.cancel(receipt.job_id, account=receipt.account).canceled
    status = json.loads(courier_says("status", "--format", "json"))
    assert [each["account"] for each in status["accounts"]] == accounts
    assert {each["pause"]["by"] for each in status["accounts"]} == {"operator"}
    assert len({each["node"] for each in status["redis_nodes"]}) == 3
    for account in accounts:
        courier_says("resume", "--account", account)
        said = courier_says("outcomes", "--account", account, "--format", "csv")
        assert said.count("delivered") == 1
        assert said.count("canceled") == 1
        assert "1 job replayed" in courier_says(
            "replay", "--account", account, "--status", "unmatched"
        )
    forgotten = courier.producer.forget(f"{accounts[1]}@load.example")
    assert [each.outcomes > 0 for each in forgotten] == [False, True, False]
    doctor = courier_says("doctor")
    assert "error" not in doctor, doctor
    metrics = metrics_text(load_settings()).decode()
    for account in accounts:
        assert f'attribute_courier_workers{{account="{account}"}} 1.0' in metrics
    worker.stop(20)
    assert worker.popen.returncode == 0
    assert "Traceback" not in courier.log()
