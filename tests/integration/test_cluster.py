"""The state on a real Redis Cluster: three shards, with accounts on each; messages over one Redis.

`COURIER_TESTS_FAILOVERS=10` makes so many failovers, moves and crashes; one of each unless set.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from sqlalchemy import MetaData, create_engine
from sqlalchemy.orm import Session

from attribute_courier.cli.main import main
from attribute_courier.config import Settings, load_settings
from attribute_courier.config.connections import connect_briefly, connect_patiently
from attribute_courier.config.redis_errors import RedisError, describe_redis_error
from attribute_courier.config.rights import needed_rights
from attribute_courier.jobs.errors import IdempotencyConflict, NotEnqueued, NotReachable
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.operate.flower.reading import Reader
from attribute_courier.operate.metrics import metrics_text
from attribute_courier.producers import Producer, Receipt
from attribute_courier.producers.sqlalchemy import add_attributes_in_outbox, outbox_table
from attribute_courier.sandbox import DEFAULT_API_KEY, EmbeddedRedis, SandboxProcess
from attribute_courier.state.inbox import Entry, Inbox
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Claim
from attribute_courier.state.outcomes import Outcomes

from ..cli_runner import CliRunner
from ..conftest import Courier
from ..flower import running_flower
from ..hook_receiver import SECRET, HookReceiver
from ..proxy import Proxy
from ..redis_cluster import PASSWORD, Cluster, running
from ..waiting import wait_until

TIMES = int(os.environ.get("COURIER_TESTS_FAILOVERS", "1"))
TLS = Path(__file__).parents[1] / "tls"
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
        self._failed = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until(lambda: len(self._courier.posts()) > 20, what="work is under way")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._failed = kind is not None
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        n = 0
        while not self._over.wait(0.01):
            account = self._accounts[n % len(self._accounts)]
            email = f"{account}-{n % 4}@load.example"
            self.newest[email] = n
            while len(self.receipts) == n and not self._failed:
                with suppress(NotEnqueued):
                    self.receipts.append(
                        self._courier.producer.add_attributes(
                            email, {"n": n}, account=account, idempotency_key=str(n)
                        )
                    )
            n += 1

    def requests(self, account: str) -> int:
        """How many were sent for an account."""
        return sum(each["email"].startswith(f"{account}-") for each in self._courier.posts())

    def goes_on(self, account: str) -> None:
        """A job that is asked for from now on is delivered soon."""
        before = len(self.receipts)

        def is_delivered() -> bool:
            mine = [each for each in self.receipts[before:] if each.account == account]
            with suppress(NotReachable):
                return any((found := each.outcome()) and found.settled for each in mine[:3])
            return False

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


def as_user(cluster: Cluster, name: str, rights: str) -> str:
    """The cluster's URL for a user that may do no more than this."""
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", name, "reset", "on", f">of-{name}", *rights.split())
    return cluster.url.replace("//:", f"//{name}:", 1).replace(f":{PASSWORD}@", f":of-{name}@")


def test_accounts_on_three_shards(
    courier: Courier,
    cluster: Cluster,
    accounts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What every page of the documentation promises, for an account on each shard.

    By users with the least rights.
    """
    producer, worker = needed_rights(load_settings().redis)
    courier.environ["COURIER_REDIS_URL"] = as_user(cluster, "worker", worker)
    monkeypatch.setenv("COURIER_REDIS_URL", as_user(cluster, "producer", producer))
    courier.producer = Producer(load_settings())
    monkeypatch.setenv("COURIER_REDIS_URL", courier.environ["COURIER_REDIS_URL"])
    with HookReceiver() as receiver:
        hooks = {"COURIER_HOOK_URL": receiver.url, "COURIER_HOOK_SECRET": SECRET}
        process = courier.start_worker(**hooks)
        _delivers(courier, accounts)
        wait_until(
            lambda: {told.data.get("account") for told in receiver.asked} == set(accounts),
            what="the receiver is told of each account's jobs",
        )
    _is_operated(courier, accounts, tmp_path)
    process.stop(20)
    assert process.popen.returncode == 0
    assert "Traceback" not in courier.log()


def _delivers(courier: Courier, accounts: Sequence[str]) -> None:
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


def _is_operated(courier: Courier, accounts: Sequence[str], folder: Path) -> None:
    file = folder / "customers.csv"
    file.write_text("email,plan\nimported@load.example,max\n")
    for account in accounts:
        courier_says("import", str(file), "--account", account, "--wait")
        assert courier.custom("imported@load.example") == {"plan": "max"}
        courier.stand_in.reset()
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
        assert said.count("delivered") == 2
        assert said.count("canceled") == 1
        assert "1 job replayed" in courier_says(
            "replay", "--account", account, "--status", "unmatched"
        )
    forgotten = courier.producer.forget(f"{accounts[1]}@load.example")
    assert [each.outcomes > 0 for each in forgotten] == [False, True, False]
    doctor = courier_says("doctor", "--repair")
    assert "error" not in doctor, doctor
    assert doctor.count("a shard that is down stops its own accounts alone") == 3
    assert len(courier_says("hash", "ada@example.com").strip()) > 8
    metrics = metrics_text(load_settings()).decode()
    for account in accounts:
        assert f'attribute_courier_workers{{account="{account}"}} 1.0' in metrics


def test_a_worker_that_died_with_emails_in_hand(courier: Courier, accounts: list[str]) -> None:
    """Another one takes its emails over when the leases end."""
    receipts = []
    for account in accounts:
        courier.account = account
        add = partial(courier.producer.add_attributes, account=account)
        receipts.append(add(f"{account}@load.example", {"n": 1}))
        courier.accept()
        assert isinstance(courier.mailboxes(lease_s=2).claim("dead"), Claim)
    courier.start_worker()
    assert {each.status for each in courier.wait(*receipts)} == {"delivered"}
    assert len(courier.posts()) == 3


def test_a_coordinated_failover_under_load(
    courier: Courier, cluster: Cluster, accounts: list[str]
) -> None:
    """Nothing is lost, nothing stale comes after what is newer."""
    courier.start_worker()
    with Load(courier, accounts) as load:
        for account in accounts * TIMES:
            replica = cluster.replica(account)
            replica.ask("CLUSTER FAILOVER")
            wait_until(lambda r=replica: r.is_primary, what="the promotion")  # type: ignore[misc]
            load.goes_on(account)
    load.is_well_delivered()


def test_a_primary_that_is_killed_under_load(
    courier: Courier, cluster: Cluster, accounts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With COURIER_WAIT_REPLICAS=1, what was acknowledged is on the replica."""
    monkeypatch.setenv("COURIER_WAIT_REPLICAS", "1")
    courier.producer = Producer(load_settings())
    account, email = accounts[0], f"{accounts[0]}@load.example"
    replica = cluster.replica(account)
    replica.pause()
    with pytest.raises(NotEnqueued, match="replica"):
        courier.producer.add_attributes(email, {"n": 0}, account=account)
    replica.resume()
    courier.start_worker()
    with Load(courier, accounts) as load:
        for n in range(TIMES):
            primary, replica = cluster.holder(account), cluster.replica(account)
            (primary.kill if n % 2 == 0 else primary.pause)()
            wait_until(lambda r=replica: r.is_primary, what="the promotion")  # type: ignore[misc]
            seen = load.requests(account)
            wait_until(lambda seen=seen: load.requests(account) > seen, timeout_s=BACK_S)  # type: ignore[misc]
            # A producer waits for it: it is the only replica.
            (primary.start if n % 2 == 0 else primary.resume)()
            load.goes_on(account)
            cluster.mend()
    load.is_well_delivered()


def test_a_slot_that_is_moved_under_load(
    courier: Courier, cluster: Cluster, accounts: list[str]
) -> None:
    """Key by key, while jobs come: the account waits, and loses nothing. Back in one step."""
    courier.start_worker()
    account, home = accounts[0], cluster.holder(accounts[0])
    with Load(courier, accounts) as load:
        for _ in range(TIMES):
            cluster.move(account, cluster.holder(accounts[1]), pause_s=0.02)
            load.goes_on(account)
            cluster.move_at_once(account, home)
            load.goes_on(account)
    load.is_well_delivered()


def test_a_shard_that_is_down_harms_its_own_accounts_alone(
    courier: Courier, cluster: Cluster, accounts: list[str], tmp_path: Path
) -> None:
    """The others deliver on; what is wrong is named; when it is back, nothing is lost."""
    database = create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    metadata = MetaData()
    outbox_table(metadata)
    metadata.create_all(database)
    courier.start_worker(COURIER_OUTBOX_URL=str(database.url))
    away, *well = accounts
    waiting = [
        courier.producer.add_attributes(f"{away}-{n}@load.example", {"n": n}, account=away)
        for n in range(3)
    ]
    courier.wait(*waiting)
    primary, replica = cluster.holder(away), cluster.replica(away)
    replica.kill()
    courier_says("pause", "--account", away)
    waiting.append(courier.producer.add_attributes(f"{away}@load.example", {"n": 9}, account=away))
    wait_until(
        lambda: primary.ask("INFO", "persistence")["aof_pending_bio_fsync"] == 0, what="it is kept"
    )
    primary.kill()
    courier.start_worker()  # although it cannot ask that shard
    for account in well * 2:
        email = f"{account}@load.example"
        receipt = courier.producer.add_attributes(email, {"n": 1}, account=account)
        assert receipt.wait(30).status == "delivered"
    with Session(database) as session, session.begin():
        written = [
            add_attributes_in_outbox(
                session,
                f"outbox-{each}@load.example",
                {"n": 2},
                account=each,
                producer=courier.producer,
            )
            for each in accounts
        ]
    waiting.append(written[0])
    assert {each.status for each in courier.wait(*written[1:])} == {"delivered"}
    # Its second try is found by a tick.
    receipt = courier.producer.add_attributes("nobody@example.com", {"n": 1}, account=well[1])
    assert receipt.wait(30).status == "unmatched"
    with pytest.raises(NotEnqueued, match=rf"node 127\.0\.0\.1:{primary.port}"):
        courier.producer.add_attributes(f"{away}@load.example", {"n": 1}, account=away)
    wait_until(
        lambda: f"node 127.0.0.1:{primary.port}, does not answer" in courier.log(),
        what="the worker names it",
    )
    status = json.loads(courier_says("status", "--format", "json"))
    assert [each["account"] for each in status["accounts"]] == well
    assert [(each["code"], each["account"]) for each in status["problems"]] == [
        ("shard_away", away)
    ]
    doctor = courier_says("doctor")
    assert f"127.0.0.1:{primary.port}" in doctor
    metrics = metrics_text(load_settings()).decode()
    assert f'attribute_courier_problem{{account="{away}",problem="shard_away"}} 1.0' in metrics
    assert f'attribute_courier_workers{{account="{well[0]}"}} 2.0' in metrics
    with running_flower(courier.environ, courier.logs) as flower:
        page = flower.get("/accounts").text
        assert f"127.0.0.1:{primary.port}" in page
        assert well[1] in page
    courier_says("pause", "--account", well[0])
    held = courier.producer.add_attributes("held@load.example", {"n": 1}, account=well[0])
    reader = Reader(load_settings())

    def is_canceled() -> bool:
        with suppress(NotReachable):  # it has little time, and this machine may be slow
            return reader.cancel(held.job_id) is None
        return False

    wait_until(is_canceled, what="Flower cancels a job behind the account whose shard is down")
    reader.threads.shutdown()
    courier_says("resume", "--account", well[0])
    primary.start()
    replica.start()
    resume = ["resume", "--account", away]
    wait_until(lambda: CliRunner().invoke(main, resume).exit_code == 0, what="it is back")
    assert {each.status for each in courier.wait(*waiting, timeout_s=60)} == {"delivered"}
    wait_until(lambda: "well again" in courier.log(), what="that it is over is said")
    assert "Traceback" not in courier.log()


def test_by_tls(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    with running(tmp_path, primaries=1) as cluster:
        [node] = cluster.primaries
        with Proxy(f"redis://127.0.0.1:{node.port}", tls=context) as proxy:
            port = proxy.url.rpartition(":")[2].partition("/")[0]
            node.ask("CONFIG SET", "cluster-announce-port", port)
            settings = Settings(
                redis_url=f"rediss+cluster://:{PASSWORD}@127.0.0.1:{port}",
                broker_url="redis://127.0.0.1:1",
                redis_ca_file=TLS / "ca.pem",
            )
            with connect_briefly(settings) as client:
                for account in ("a", "b"):
                    inbox = Inbox(client, Keys(account), retention_s=1000)
                    inbox.put("live", [Entry(job_id=new_job_id(), wire="{}")])
                    assert inbox.waiting() == 1
            stranger = replace(settings, redis_ca_file=None)
            with connect_briefly(stranger) as client, pytest.raises(RedisError) as caught:
                Outcomes(client, Keys("a")).now()
            assert "cannot be talked to by TLS" in describe_redis_error(stranger, caught.value)
