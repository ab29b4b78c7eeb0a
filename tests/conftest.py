"""Fixtures: a scrubbed environment, real servers, real workers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fakeredis
import hypothesis
import pytest
import redis

from attribute_courier.cli.stage import start_worker
from attribute_courier.config import configure, load_settings
from attribute_courier.jobs.outcome import Outcome
from attribute_courier.jobs.schema import load_wire
from attribute_courier.producers import Producer, Receipt
from attribute_courier.sandbox import (
    DEFAULT_API_KEY,
    EmbeddedRedis,
    LeashedProcess,
    SandboxConfig,
    SandboxProcess,
    SandboxProcessError,
)
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.inbox import Inbox
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Limits, Mailboxes
from attribute_courier.state.outcomes import Outcomes

from .waiting import wait_until

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _scrubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("COURIER_", "CHARTMOGUL_", "FLOWER_", "CELERY_")):
            monkeypatch.delenv(name)
    yield
    configure(None)


@pytest.fixture(autouse=True)
def _logging() -> None:
    """Loggers as they are at first: Celery and Flower, in the tests' process, set them."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "attribute_courier":
            logger = logging.getLogger(name)
            logger.disabled, logger.propagate = False, True
            logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(_server: EmbeddedRedis) -> EmbeddedRedis:
    """The embedded server, empty."""
    with redis.Redis.from_url(_server.url) as client:
        client.flushall()
    return _server


@pytest.fixture(params=["fakeredis", "embedded"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """An empty Redis: the fake one, and the real one, since each finds what the other misses."""
    if request.param == "fakeredis":
        found: redis.Redis = fakeredis.FakeRedis(decode_responses=True)
    else:
        url = request.getfixturevalue("server").url
        found = redis.Redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape")
    yield found
    found.close()


@pytest.fixture(scope="session")
def _stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    log = tmp_path_factory.mktemp("sandbox") / "sandbox.log"
    with SandboxProcess(SandboxConfig(auto_customers="*@load.example"), log=log) as process:
        yield process


@pytest.fixture
def stand_in(_stand_in: SandboxProcess) -> SandboxProcess:
    """The ChartMogul stand-in with its first state and settings, also after a test killed it."""
    try:
        _stand_in.reset()
    except SandboxProcessError:
        _stand_in.start()
    return _stand_in


@dataclass
class Courier:
    """The courier as a whole: real Redis, real stand-in, a producer, and workers on demand."""

    server: EmbeddedRedis
    stand_in: SandboxProcess
    environ: dict[str, str]
    producer: Producer
    client: redis.Redis
    logs: Path
    account: str = "default"
    workers: list[LeashedProcess] = field(default_factory=list)

    @property
    def keys(self) -> Keys:
        return Keys(self.account)

    @property
    def outcomes(self) -> Outcomes:
        return Outcomes(self.client, self.keys)

    def health(self, account: str | None = None) -> AccountHealth:
        """How an account stands, and what holds it back."""
        return AccountHealth(self.client, Keys(account or self.account), rate_limit=39.2)

    def mailboxes(self, *, lease_s: float = 60) -> Mailboxes:
        """What a worker would claim from and settle in, without a worker."""
        limits = Limits(rate_limit=10_000, max_parallel=20, lease_s=lease_s)
        return Mailboxes(self.client, self.keys, limits=limits, retention_s=1000)

    def accept(self) -> None:
        """Move all that is in the inbox to the mailboxes, without a worker: nobody is told."""
        inbox, mailboxes = Inbox(self.client, self.keys, retention_s=1000), self.mailboxes()
        while taken := inbox.take(limit=200, within_s=60, bulk_share=0.1):
            jobs = [(each, load_wire(each.job_id, each.wire)) for each in taken]
            assert {staged.result for staged in mailboxes.stage(jobs)} <= {"staged", "superseded"}

    def drop_messages(self, queue: str) -> int:
        """Lose the messages of a queue of the broker's. Returns how many there were."""
        app = self.producer.celery
        with app.connection_for_write() as connection:
            return int(app.amqp.queues[queue](connection.default_channel).purge())

    def start_worker(self, **environ: str) -> LeashedProcess:
        """A real worker, ready to work."""
        before = self._ready()
        worker = start_worker(
            {**self.environ, **environ}, self.logs / f"worker-{len(self.workers)}.log"
        )
        self.workers.append(worker)
        wait_until(lambda: self._ready() > before or not worker.running, what="a worker is ready")
        assert worker.running, self.log()
        return worker

    def log(self) -> str:
        """All that the workers have said."""
        return "".join(path.read_text() for path in sorted(self.logs.glob("worker-*.log")))

    def _ready(self) -> int:
        return self.log().count(" ready.")

    def wait(self, *receipts: Receipt, timeout_s: float = 30) -> list[Outcome]:
        """Wait until all these jobs are at their end."""
        deadline = time.monotonic() + timeout_s
        return [receipt.wait(max(0.1, deadline - time.monotonic())) for receipt in receipts]

    def custom(self, email: str, customer: int = 0) -> dict[str, Any]:
        """The custom attributes that a customer has in the stand-in."""
        found: dict[str, Any] = self.stand_in.customers(email)[customer]["attributes"]["custom"]
        return found

    def posts(self, email: str | None = None) -> list[dict[str, Any]]:
        """The requests that the stand-in got, in order."""
        return [
            each
            for each in self.stand_in.requests()
            if each["method"] == "POST" and (email is None or each["email"] == email)
        ]


@pytest.fixture
def courier(
    server: EmbeddedRedis,
    stand_in: SandboxProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Courier]:
    """The whole courier; a test starts the workers it needs. Short times, so tests are quick."""
    environ = {
        "COURIER_REDIS_URL": server.url,
        "CHARTMOGUL_API_URL": stand_in.url,
        "CHARTMOGUL_API_KEY": DEFAULT_API_KEY,
        "COURIER_TIMEOUT": "2s",
        "COURIER_UNMATCHED_DELAYS": "500ms,500ms",
        "COURIER_UNCONFIRMED_DELAYS": "500ms",
        "COURIER_PROBE_DELAYS": "500ms",
        "TMPDIR": str(tmp_path / "tmp"),  # `courier health` sees this test's workers alone
    }
    (tmp_path / "tmp").mkdir()
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    logs = tmp_path / "logs"
    logs.mkdir()
    client = redis.Redis.from_url(server.url, decode_responses=True)
    whole = Courier(
        server=server,
        stand_in=stand_in,
        environ=environ,
        producer=Producer(load_settings()),
        client=client,
        logs=logs,
    )
    yield whole
    for worker in whole.workers:
        worker.kill()
    whole.producer.close()
    client.close()
