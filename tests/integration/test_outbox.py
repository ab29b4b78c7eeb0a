"""Jobs in an application's transactions, and the outbox: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from attribute_courier import InvalidJob
from attribute_courier.config import SettingsError
from attribute_courier.config.redis_errors import RedisError
from attribute_courier.config.secret import Secret
from attribute_courier.jobs.outbox import OutboxRow
from attribute_courier.producers.sqlalchemy import (
    add_attributes_in_outbox,
    add_attributes_on_commit,
    outbox_table,
)
from attribute_courier.sandbox import LeashedProcess
from attribute_courier.state.counts import Counters
from attribute_courier.state.inbox import Inbox
from attribute_courier.worker.relay import Relay

from ..conftest import Courier
from ..databases import postgresql
from ..waiting import wait_until

ADA, BOB = "ada@example.com", "two@example.com"
KILLS = int(os.environ.get("COURIER_TESTS_KILLS", "3"))


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'app.db'}"
    url: str = request.getfixturevalue("_postgresql")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


def savepoints_of(engine: Engine) -> None:
    """SQLite's driver begins transactions late; SQLAlchemy's documentation says how to mend it."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def _(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _(connection: object) -> None:
        connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    savepoints_of(engine)
    metadata = MetaData()
    outbox_table(metadata)
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def relay(courier: Courier, url: str) -> Iterator[Relay]:
    inbox = Inbox(courier.client, courier.keys, retention_s=1000)
    relay = Relay(Secret(url), {"default": inbox}, wake=lambda account: None)
    yield relay
    relay.close()


def rows(engine: Engine) -> list[OutboxRow]:
    with engine.connect() as connection:
        found = connection.execute(select(outbox_table(MetaData())))
        return [OutboxRow(**row) for row in found.mappings()]


def waiting(courier: Courier) -> int:
    return courier.outcomes.waiting()


class TestOnCommit:
    def test_nothing_is_sent_before_the_commit_nor_after_a_rollback(
        self, courier: Courier, engine: Engine
    ) -> None:
        with Session(engine) as session:
            receipt = add_attributes_on_commit(
                session, ADA, {"plan": "pro"}, producer=courier.producer
            )
            assert waiting(courier) == 0
            session.rollback()
            session.commit()
            assert waiting(courier) == 0
            add_attributes_on_commit(session, ADA, {"plan": "pro"}, producer=courier.producer)
            session.commit()
            session.commit()
            assert waiting(courier) == 1
        assert receipt.outcome() is None

    def test_what_belongs_to_a_savepoint_goes_with_it(
        self, courier: Courier, engine: Engine
    ) -> None:
        def add(n: int) -> None:
            add_attributes_on_commit(session, f"{n}@example.com", {"n": n}, producer=producer)

        producer = courier.producer
        with Session(engine) as session:
            add(0)
            with session.begin_nested():
                add(1)
                inner = session.begin_nested()
                add(2)
                inner.rollback()
                add(3)
            outer = session.begin_nested()
            with session.begin_nested():
                add(4)
            outer.rollback()
            assert waiting(courier) == 0
            session.commit()
        found = [courier.outcomes.of_email(f"{n}@example.com") for n in range(5)]
        courier.accept()
        found = [courier.outcomes.of_email(f"{n}@example.com") for n in range(5)]
        assert [len(each) for each in found] == [1, 1, 0, 1, 0]

    def test_nothing_is_sent_of_a_transaction_that_a_close_ended(
        self, courier: Courier, engine: Engine
    ) -> None:
        with Session(engine) as session:
            add_attributes_on_commit(session, ADA, {"plan": "pro"}, producer=courier.producer)
            session.close()
            session.execute(text("SELECT 1"))
            session.commit()
        assert waiting(courier) == 0

    def test_what_is_not_valid_is_said_at_once(self, courier: Courier, engine: Engine) -> None:
        with Session(engine) as session:
            with pytest.raises(InvalidJob):
                add_attributes_on_commit(session, "no email", {"n": 1}, producer=courier.producer)
            with pytest.raises(InvalidJob):
                add_attributes_in_outbox(session, ADA, {}, producer=courier.producer)
            session.commit()
        assert waiting(courier) == 0

    def test_a_redis_that_does_not_answer_does_not_fail_what_was_committed(
        self, courier: Courier, engine: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Session(engine) as session:
            receipt = add_attributes_on_commit(
                session, ADA, {"plan": "pro"}, producer=courier.producer
            )
            courier.server.pause()
            try:
                session.commit()
            finally:
                courier.server.resume()
        assert f"job {receipt.job_id}: lost after the commit" in caplog.text
        assert ADA not in caplog.text

    def test_with_an_async_session(self, courier: Courier, url: str, engine: Engine) -> None:
        async def use() -> None:
            async_engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
            async with AsyncSession(async_engine) as session:
                for end in (session.rollback, session.commit):
                    add_attributes_on_commit(
                        session, ADA, {"plan": "pro"}, producer=courier.producer
                    )
                    await session.run_sync(
                        add_attributes_in_outbox, BOB, {"n": 1}, producer=courier.producer
                    )
                    await end()
            await async_engine.dispose()

        asyncio.run(use())
        assert waiting(courier) == 1
        assert len(rows(engine)) == 1

    def test_with_a_scoped_session(self, courier: Courier, url: str, engine: Engine) -> None:
        """As Flask-SQLAlchemy's `db.session` is one."""
        session = scoped_session(sessionmaker(engine))
        for end in (session.rollback, session.commit):
            add_attributes_on_commit(session, ADA, {"plan": "pro"}, producer=courier.producer)
            add_attributes_in_outbox(session, BOB, {"n": 1}, producer=courier.producer)
            end()
        session.remove()

        async def use() -> None:
            async_engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
            scoped = async_scoped_session(
                async_sessionmaker(async_engine), scopefunc=asyncio.current_task
            )
            for end in (scoped.rollback, scoped.commit):
                add_attributes_on_commit(scoped, ADA, {"plan": "pro"}, producer=courier.producer)
                await end()
            await scoped.remove()
            await async_engine.dispose()

        asyncio.run(use())
        assert waiting(courier) == 2
        assert len(rows(engine)) == 1

    def test_what_is_no_session_is_said(self, courier: Courier, engine: Engine) -> None:
        with engine.connect() as connection, pytest.raises(TypeError, match="not Connection"):
            add_attributes_on_commit(connection, ADA, {"n": 1}, producer=courier.producer)  # type: ignore[arg-type]


class TestOutbox:
    def test_a_row_is_there_if_its_transaction_was_committed(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        with Session(engine) as session:
            add_attributes_in_outbox(session, ADA, {"plan": "free"}, producer=courier.producer)
            session.rollback()
            kept = add_attributes_in_outbox(
                session, ADA, {"plan": "pro"}, producer=courier.producer
            )
            session.commit()
        assert [row.job_id for row in rows(engine)] == [kept.job_id]
        assert relay.status().rows == 1
        assert relay.relay() == 1
        assert rows(engine) == []
        courier.start_worker()
        assert kept.wait(30).status == "delivered"
        assert courier.custom(ADA)["plan"] == "pro"

    def test_redis_down_costs_no_job_and_no_request(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        courier.server.pause()
        try:
            with Session(engine) as session:
                receipt = add_attributes_in_outbox(
                    session, ADA, {"plan": "pro"}, producer=courier.producer
                )
                session.commit()
        finally:
            courier.server.resume()
        assert relay.relay() == 1
        courier.accept()
        outcome = receipt.outcome()
        assert outcome is not None
        assert outcome.status == "pending"

    def test_a_relay_that_died_before_its_commit_makes_no_second_job(
        self, courier: Courier, engine: Engine, relay: Relay, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Session(engine) as session:
            add_attributes_in_outbox(session, ADA, {"plan": "pro"}, producer=courier.producer)
            session.commit()
        put = Inbox.put

        def dies(self: Inbox, *args: object, **options: object) -> None:
            put(self, *args, **options)  # type: ignore[arg-type]
            raise RedisError("gone before its answer came")

        monkeypatch.setattr(Inbox, "put", dies)
        with pytest.raises(RedisError):
            relay.relay()
        monkeypatch.undo()
        assert (len(rows(engine)), waiting(courier)) == (1, 1)
        assert relay.relay() == 1
        assert (len(rows(engine)), waiting(courier)) == (0, 1)

    def test_a_row_that_is_relayed_late_overwrites_nothing_newer(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        with Session(engine) as session:
            late = add_attributes_in_outbox(
                session, ADA, {"plan": "free"}, producer=courier.producer
            )
            session.commit()
        newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
        courier.start_worker()
        assert newer.wait(30).status == "delivered"
        relay.relay()
        assert late.wait(30).status == "superseded"
        assert courier.custom(ADA)["plan"] == "pro"

    def test_a_row_whose_transaction_is_committed_late_is_not_skipped(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        if engine.dialect.name == "sqlite":
            pytest.skip("SQLite has one writer at a time")
        with Session(engine) as first, Session(engine) as second:
            add_attributes_in_outbox(first, ADA, {"n": 1}, producer=courier.producer)
            add_attributes_in_outbox(second, BOB, {"n": 1}, producer=courier.producer)
            second.commit()
            assert relay.relay() == 1
            first.commit()
        assert relay.relay() == 1
        assert waiting(courier) == 2

    def test_of_two_rows_the_one_written_last_is_the_newer_whichever_is_relayed_first(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        with Session(engine) as session:
            receipts = [
                add_attributes_in_outbox(session, ADA, {"n": n}, producer=courier.producer)
                for n in range(50)
            ]
            session.commit()
        found = rows(engine)
        assert [row.job_id for row in found] == [receipt.job_id for receipt in receipts]
        relay._put(found[25:])
        courier.start_worker()
        assert receipts[-1].wait(30).status == "delivered"
        relay._put(found[:25])
        assert {outcome.status for outcome in courier.wait(*receipts[:25])} == {"superseded"}
        assert courier.custom(ADA)["n"] == 49

    def test_rows_of_other_accounts_stay(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        with Session(engine) as session:
            add_attributes_in_outbox(session, ADA, {"n": 1}, producer=courier.producer)
            session.execute(text("UPDATE attribute_courier_outbox SET account = 'other'"))
            add_attributes_in_outbox(session, BOB, {"n": 1}, producer=courier.producer)
            session.commit()
        assert relay.relay() == 1
        assert relay.relay() == 0
        assert [row.account for row in rows(engine)] == ["other"]

    def test_a_document_of_somebody_else_ends_as_invalid_and_stops_no_other(
        self, courier: Courier, engine: Engine, relay: Relay
    ) -> None:
        with Session(engine) as session:
            deep = "[" * 100_000
            for document in ("not JSON", "[]", '{"v": 1}', '{"email": "\\ud800"}', deep):
                bad = add_attributes_in_outbox(session, ADA, {"n": 1}, producer=courier.producer)
                session.execute(
                    text("UPDATE attribute_courier_outbox SET document = :d WHERE job_id = :j"),
                    {"d": document, "j": bad.job_id},
                )
            good = add_attributes_in_outbox(session, BOB, {"n": 1}, producer=courier.producer)
            session.commit()
        assert relay.relay() == 6
        courier.start_worker()
        assert good.wait(30).status == "delivered"
        assert bad.wait(30).status == "invalid"


def test_a_worker_relays_and_says_once_that_its_database_is_away(
    courier: Courier, tmp_path: Path
) -> None:
    path = tmp_path / "app.db"
    engine = create_engine(f"sqlite:///{path}")
    courier.start_worker(COURIER_OUTBOX_URL=f"sqlite:///{path}")
    metadata = MetaData()
    outbox_table(metadata)
    metadata.create_all(engine)
    with Session(engine) as session:
        receipt = add_attributes_in_outbox(session, ADA, {"n": 1}, producer=courier.producer)
        session.commit()
    engine.dispose()
    assert receipt.wait(30).status == "delivered"
    assert courier.log().count("outbox: nothing is relayed for now") == 1
    assert "Traceback" not in courier.log()


@pytest.mark.parametrize(
    "url", ["postgresql+nodriver://ada:s3cret@127.0.0.1/x", "nonsense://ada:s3cret@x"]
)
def test_a_url_that_cannot_be_used_is_said_in_words(url: str) -> None:
    with pytest.raises(SettingsError, match="COURIER_OUTBOX_URL") as raised:
        Relay(Secret(url), {}, wake=lambda account: None)
    assert "s3cret" not in str(raised.value)


def test_a_table_that_is_missing_is_said_once_and_tried_again(
    courier: Courier, relay: Relay, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE attribute_courier_outbox"))
    with pytest.raises(SQLAlchemyError):
        relay.relay()
    stopping = threading.Event()
    thread = threading.Thread(target=relay.run, args=[stopping])
    thread.start()
    try:
        wait_until(lambda: "nothing is relayed for now" in caplog.text)
        relay.create_table()
        with Session(engine) as session:
            add_attributes_in_outbox(session, ADA, {"n": 1}, producer=courier.producer)
            session.commit()
        wait_until(lambda: waiting(courier) == 1)
        wait_until(lambda: "relaying again" in caplog.text)
    finally:
        stopping.set()
        thread.join(10)
    assert caplog.text.count("nothing is relayed for now") == 1
    assert "run `courier outbox create`, or your migrations" in caplog.text


class TestCommands:
    def run(self, courier: Courier, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "attribute_courier.cli", "outbox", *arguments],
            env={**os.environ, **courier.environ, "COURIER_OUTBOX_URL": url},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def test_create_status_and_relay(self, courier: Courier, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'app.db'}"
        missing = self.run(courier, url, "status")
        assert (missing.returncode, "no such table" in missing.stderr) == (3, True)
        assert "run `courier outbox create`" in missing.stderr
        assert self.run(courier, url, "create").returncode == 0
        engine = create_engine(url)
        with Session(engine) as session:
            add_attributes_in_outbox(session, ADA, {"n": 1}, producer=courier.producer)
            session.commit()
        engine.dispose()
        assert self.run(courier, url, "status").stdout.startswith("1 job waiting, the first for ")
        assert self.run(courier, url, "relay", "--once").stdout == "1 job relayed\n"
        assert waiting(courier) == 1

    def test_without_a_database(self, courier: Courier) -> None:
        found = self.run(courier, "", "status")
        assert (found.returncode, "COURIER_OUTBOX_URL" in found.stderr) == (2, True)


class TestDjango:
    """A Django project, in a process of its own."""

    def run(self, courier: Courier, database: Path, action: str) -> str:
        found = subprocess.run(
            [sys.executable, Path(__file__).with_name("django_host.py"), action],
            env={**os.environ, **courier.environ, "APP_DB": str(database)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        return found.stdout

    def test_jobs_belong_to_their_transactions(self, courier: Courier, tmp_path: Path) -> None:
        self.run(courier, tmp_path / "app.db", "on_commit")
        courier.accept()
        found = [courier.outcomes.of_email(f"{n}@load.example") for n in range(4)]
        assert [len(each) for each in found] == [1, 0, 0, 1]

    def test_the_outbox(self, courier: Courier, tmp_path: Path) -> None:
        database = tmp_path / "app.db"
        self.run(courier, database, "migrate")
        job_id = self.run(courier, database, "outbox").strip()
        assert waiting(courier) == 0
        courier.start_worker(COURIER_OUTBOX_URL=f"sqlite:///{database}")
        wait_until(lambda: courier.outcomes.get(job_id) is not None)
        outcome = courier.outcomes.wait(job_id, 30)
        assert outcome is not None
        assert outcome.status == "delivered"
        assert courier.custom(ADA)["plan"] == "pro"


@pytest.mark.long
def test_kills_lose_no_job_and_put_none_out_of_order(courier: Courier, url: str) -> None:
    """The application, relays, workers and Redis are killed again and again.

    COURIER_TESTS_KILLS says how often; a hundred take some minutes.
    """
    if url.startswith("sqlite:"):
        url += "?timeout=30"  # for whoever waits to write while others do
    engine = create_engine(url)
    metadata = MetaData()
    outbox_table(metadata)
    Table("truth", metadata, Column("email", Text), Column("n", Integer))
    metadata.create_all(engine)
    environ = {**os.environ, **courier.environ}
    relaying = {"COURIER_OUTBOX_URL": url}
    random = Random(3)

    def highest() -> int:
        with engine.connect() as connection:
            return connection.execute(text("SELECT coalesce(max(n), 0) FROM truth")).scalar_one()

    for kill in range(KILLS):
        before = highest()
        writer = LeashedProcess(
            [sys.executable, str(Path(__file__).with_name("outbox_writer.py")), url,
             str(before + 1)],
            env=environ,
        )  # fmt: skip
        worker = courier.start_worker(**relaying)
        wait_until(lambda n=before: highest() > n + 10, timeout_s=60)  # type: ignore[misc]
        if kill % 3 == 0:
            courier.server.kill()
        time.sleep(random.uniform(0, 0.3))
        (writer, worker)[kill % 2].kill()
        if kill % 3 == 0:
            courier.server.start()
        time.sleep(random.uniform(0, 0.3))
        writer.kill()
        worker.kill()
    courier.start_worker(**relaying)
    wait_until(lambda: not rows(engine), timeout_s=60, what="the outbox is empty")
    with engine.connect() as connection:
        newest = text("SELECT email, max(n) AS n FROM truth GROUP BY email")
        truth = {row.email: row.n for row in connection.execute(newest)}
        written = connection.execute(text("SELECT count(*) FROM truth")).scalar_one()
    wait_until(
        lambda: {email: courier.custom(email).get("n") for email in truth} == truth,
        timeout_s=60,
        what="the last values are there",
    )
    sent: dict[str, int] = {}
    for post in courier.posts():
        [n] = [attribute["value"] for attribute in post["custom"]]
        assert n >= sent.get(post["email"], 0), "an older value followed a newer one"
        sent[post["email"]] = n
    counters = Counters(courier.client, courier.keys)
    wait_until(lambda: sum(counters.now().by_status().values()) == written, what="all are settled")
    assert counters.now().by_status().keys() <= {"delivered", "superseded"}
    engine.dispose()
