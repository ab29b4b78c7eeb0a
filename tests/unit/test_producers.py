"""Handing jobs over: every form of asking, what is written, and what happens without Redis."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from attribute_courier.config import Secret, load_settings
from attribute_courier.config.celery import ACCEPT_QUEUE, ACCEPT_TASK, KEY_PREFIX
from attribute_courier.jobs.ids import is_job_id
from attribute_courier.jobs.job import Lane
from attribute_courier.producers import (
    Attribute,
    AttributeType,
    IdempotencyConflict,
    InvalidJob,
    NotEnqueued,
    NotReachable,
    Producer,
    add_attributes,
    add_attributes_async,
    default_producer,
)
from attribute_courier.producers import producer as module
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.inbox import Inbox
from attribute_courier.state.keys import Keys, idempotency_hash

ADA = "ada@example.com"
KEYS = Keys("default")
TIMEOUT_S = 1.0
BOUND_S = 3 * TIMEOUT_S + 2
"""Generous, since other programs use the machine, too; without a bound it would be for ever."""


class Plan(Enum):
    PRO = "pro"


@pytest.fixture
def producer(server: EmbeddedRedis) -> Iterator[Producer]:
    found = Producer(settings_for(server.url))
    yield found
    found.close()


@pytest.fixture
def inbox(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def default(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Producer]:
    """The producer that the module's functions share, made from the environment."""
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    monkeypatch.setenv("COURIER_ENQUEUE_TIMEOUT", str(TIMEOUT_S))
    monkeypatch.setattr(module, "_default", None)
    found = default_producer()
    yield found
    found.close()


def settings_for(url: str) -> Any:
    return replace(load_settings(), redis_url=Secret(url), enqueue_timeout_s=TIMEOUT_S)


def document_of(inbox: redis.Redis, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(inbox.hget(KEYS.inbox, job_id) or "null")
    return found


def messages(inbox: redis.Redis) -> list[tuple[str, dict[str, Any], list[Any]]]:
    """The messages for workers: all of their text, and the headers and arguments in it."""
    found = []
    for text in inbox.lrange(KEY_PREFIX + ACCEPT_QUEUE, 0, -1):
        message = json.loads(text)
        body = base64.b64decode(message["body"]).decode()
        arguments, named, _ = json.loads(body)
        assert not named
        found.append((text + body, message["headers"], arguments))
    return found


def take(inbox: redis.Redis) -> list[Any]:
    """What a worker takes from the inbox now."""
    return Inbox(inbox, KEYS, retention_s=60).take(limit=10, within_s=60, bulk_share=0.1)


def listed(inbox: redis.Redis, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document_of(inbox, job_id)["attributes"]
    return found


class TestTheFormsOfAsking:
    def test_a_mapping_of_plain_values(self, producer: Producer, inbox: redis.Redis) -> None:
        receipt = producer.add_attributes(
            ADA,
            {
                "channel": "Facebook",
                "age": 8,
                "score": Decimal("12.50"),
                "trial": True,
                "plan": Plan.PRO,
                "at": datetime(2016, 1, 31, 1, tzinfo=timezone(timedelta(hours=1))),
                "on": date(2016, 1, 31),
            },
        )
        assert listed(inbox, receipt.job_id) == [
            {"type": "String", "key": "channel", "value": "Facebook"},
            {"type": "Integer", "key": "age", "value": 8},
            {"type": "Decimal", "key": "score", "value": 12.5},
            {"type": "Boolean", "key": "trial", "value": True},
            {"type": "String", "key": "plan", "value": "pro"},
            {"type": "Timestamp", "key": "at", "value": "2016-01-31T00:00:00Z"},
            {"type": "Timestamp", "key": "on", "value": "2016-01-31T00:00:00Z"},
        ]

    def test_an_attribute_where_the_type_is_not_pythons_own(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        age = Attribute.of("Integer", "8", key="anything")
        receipt = producer.add_attributes(ADA, {"age": age, "plan": "pro"})
        assert listed(inbox, receipt.job_id) == [
            {"type": "Integer", "key": "age", "value": 8},
            {"type": "String", "key": "plan", "value": "pro"},
        ]

    def test_the_list_of_chartmoguls_reference(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        example = [
            {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"},
            {"type": "Integer", "key": "age", "value": 8},
        ]
        receipt = producer.add_attributes(ADA, example)
        assert listed(inbox, receipt.job_id) == example

    def test_a_list_of_attributes(self, producer: Producer, inbox: redis.Redis) -> None:
        trial = Attribute.of(AttributeType.Boolean, "t", key="trial")
        receipt = producer.add_attributes(ADA, [trial])
        assert listed(inbox, receipt.job_id) == [{"type": "Boolean", "key": "trial", "value": True}]

    def test_a_source_is_for_the_attributes_that_have_none(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        receipt = producer.add_attributes(
            ADA,
            [
                {"type": "String", "key": "a", "value": "x"},
                {"type": "String", "key": "b", "value": "x", "source": "import"},
            ],
            source="survey",
        )
        sources = [attribute["source"] for attribute in listed(inbox, receipt.job_id)]
        assert sources == ["survey", "import"]

    def test_the_email_is_trimmed_and_sent_as_given(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        receipt = producer.add_attributes(" Ada.L@EXAMPLE.Com ", {"plan": "pro"})
        assert document_of(inbox, receipt.job_id)["email"] == "Ada.L@EXAMPLE.Com"


class TestWhenItOccurred:
    def test_is_left_to_redis_unless_told(self, producer: Producer, inbox: redis.Redis) -> None:
        """No two machines' clocks agree, and Redis's alone fixes an order."""
        receipts = [producer.add_attributes(ADA, {"n": n}) for n in range(3)]
        assert all("occurred_at" not in document_of(inbox, each.job_id) for each in receipts)
        assert [each.job_id for each in take(inbox)] == [each.job_id for each in receipts]

    def test_a_time_of_another_zone(self, producer: Producer, inbox: redis.Redis) -> None:
        when = datetime(2026, 3, 1, 10, 30, tzinfo=timezone(timedelta(hours=1)))
        receipt = producer.add_attributes(ADA, {"plan": "pro"}, occurred_at=when)
        assert document_of(inbox, receipt.job_id)["occurred_at"] == "2026-03-01T09:30:00.000000Z"

    def test_some_minutes_ahead_are_a_clock_that_is_wrong(self, producer: Producer) -> None:
        ahead = datetime.now(UTC) + timedelta(minutes=4)
        assert producer.add_attributes(ADA, {"plan": "pro"}, occurred_at=ahead).job_id

    def test_further_ahead_is_refused(self, producer: Producer, inbox: redis.Redis) -> None:
        ahead = datetime.now(UTC) + timedelta(minutes=6)
        with pytest.raises(InvalidJob, match=r"occurred_at: .*5 minutes in the future"):
            producer.add_attributes(ADA, {"plan": "pro"}, occurred_at=ahead)
        assert inbox.keys() == []

    def test_a_time_without_a_zone_is_refused(self, producer: Producer) -> None:
        with pytest.raises(InvalidJob, match="occurred_at: must name its zone"):
            producer.add_attributes(ADA, {"plan": "pro"}, occurred_at=datetime(2026, 3, 1))


class TestWhatIsNotAccepted:
    def test_everything_that_is_wrong_is_listed_at_once(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        with pytest.raises(InvalidJob) as caught:
            producer.add_attributes(
                "ada",
                [
                    {"type": "Integer", "key": "age", "value": "eight"},
                    {"type": "Number", "key": "a b", "value": 1, "colour": "red"},
                ],
                occurred_at=datetime(2026, 3, 1),
                lane="fast",  # type: ignore[arg-type]
                idempotency_key="",
            )
        assert [error.path for error in caught.value.errors] == [
            "email",
            "attributes[0].value",
            "attributes[1].colour",
            "attributes[1].key",
            "attributes[1].type",
            "occurred_at",
            "lane",
            "idempotency_key",
        ]
        assert inbox.keys() == [], "nothing was written"

    def test_also_beside_a_value_whose_type_cannot_be_told(self, producer: Producer) -> None:
        with pytest.raises(InvalidJob) as caught:
            producer.add_attributes("ada", {"plan": object(), "nps": None}, idempotency_key="")
        paths = [error.path for error in caught.value.errors]
        assert paths == ["email", "attributes[0].value", "attributes[1].value", "idempotency_key"]

    @pytest.mark.parametrize("attributes", [{}, [], None, "age=8", 8, [None]])
    def test_what_is_no_attributes_at_all(self, producer: Producer, attributes: Any) -> None:
        with pytest.raises(InvalidJob, match="attributes"):
            producer.add_attributes(ADA, attributes)

    def test_an_account_that_is_not_configured(self, producer: Producer) -> None:
        with pytest.raises(InvalidJob, match=r"account: .*COURIER_ACCOUNTS.*default"):
            producer.add_attributes(ADA, {"plan": "pro"}, account="eu")
        with pytest.raises(InvalidJob, match="account"):
            producer.outcome("x", account="eu")

    def test_neither_the_email_nor_a_value_is_in_the_error(self, producer: Producer) -> None:
        with pytest.raises(InvalidJob) as caught:
            producer.add_attributes("grace.hopper", {"plan": "", "age": float("nan")}, source="s3")
        assert "grace" not in f"{caught.value} {caught.value!r}"
        assert "nan" not in str(caught.value).replace("NaN", "")


class TestWhatIsWritten:
    def test_the_document_lies_in_the_inbox(self, producer: Producer, inbox: redis.Redis) -> None:
        receipt = producer.add_attributes(
            ADA, {"plan": "pro"}, lane="bulk", idempotency_key="signup-7"
        )
        assert is_job_id(receipt.job_id)
        assert document_of(inbox, receipt.job_id) == {
            "v": 1,
            "email": ADA,
            "attributes": [{"type": "String", "key": "plan", "value": "pro"}],
            "lane": "bulk",
            "idempotency_key": "signup-7",
        }
        arrived_us = inbox.zscore(KEYS.of("inbox", "bulk"), receipt.job_id)
        assert arrived_us == pytest.approx(time.time() * 1e6, abs=60e6)

    def test_only_what_changed_is_asked_for_in_the_document(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro"}, only_changed=True)
        assert document_of(inbox, receipt.job_id)["only_changed"] is True
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        assert "only_changed" not in document_of(inbox, receipt.job_id)

    def test_the_message_names_the_account_only(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        producer.add_attributes(
            "grace.hopper@example.com", {"channel": "Facebook", "code": "s3cr3t-value"}
        )
        [(text, headers, arguments)] = messages(inbox)
        assert headers["task"] == ACCEPT_TASK
        assert arguments == ["default"]
        assert headers["argsrepr"] == "what is in the inbox"
        for private in ("grace", "hopper", "example.com", "Facebook", "s3cr3t", "channel"):
            assert private not in text

    @pytest.mark.parametrize("lane", ["live", "bulk"])
    def test_a_worker_that_was_told_is_not_told_again(
        self, producer: Producer, inbox: redis.Redis, lane: Lane
    ) -> None:
        for n in range(3):
            producer.add_attributes(ADA, {"n": n}, lane=lane)
        assert len(messages(inbox)) == 1
        assert take(inbox), "a worker has taken what is there"
        producer.add_attributes(ADA, {"n": 3}, lane=lane)
        assert len(messages(inbox)) == 2

    def test_a_worker_is_told_of_a_live_job_while_bulk_jobs_wait(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        producer.add_attributes(ADA, {"plan": "pro"}, lane="bulk")
        producer.add_attributes(ADA, {"plan": "free"})
        assert len(messages(inbox)) == 2

    def test_nothing_else_is_written(self, producer: Producer, inbox: redis.Redis) -> None:
        producer.add_attributes(ADA, {"plan": "pro"})
        written = set(inbox.keys())
        assert {name for name in written if name.startswith("courier:{")} == {
            KEYS.inbox,
            KEYS.of("inbox", "live"),
            KEYS.of("arrivals"),
        }
        assert all(name.startswith("courier:") for name in written)

    def test_a_known_idempotency_key_writes_nothing(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        first = producer.add_attributes(ADA, {"plan": "pro"}, idempotency_key="signup-7")
        again = producer.add_attributes(
            " Ada@EXAMPLE.com", {"plan": "pro"}, lane="bulk", idempotency_key="signup-7"
        )
        other = producer.add_attributes(ADA, {"plan": "free"}, idempotency_key="signup-8")
        assert (first.duplicate, again.duplicate, other.duplicate) == (False, True, False)
        assert again.job_id == first.job_id != other.job_id
        assert inbox.hlen(KEYS.inbox) == 2
        # The key itself may say who it is for, so it is not in the names of keys.
        assert not [name for name in inbox.keys() if "signup" in name]  # noqa: SIM118
        assert inbox.ttl(KEYS.of("idem", idempotency_hash("signup-7"))) > 0

    @pytest.mark.parametrize(
        "other",
        [
            {"email": "bob@example.com"},
            {"attributes": {"plan": "free"}},
            {"attributes": {"plan": "pro", "seats": 1}},
            {"source": "crm"},
            {"only_changed": True},
            {"occurred_at": datetime(2026, 3, 1, tzinfo=UTC)},
        ],
    )
    def test_a_known_idempotency_key_with_other_content_is_a_conflict(
        self, producer: Producer, inbox: redis.Redis, other: dict[str, Any]
    ) -> None:
        """Stripe's rule: to answer with the first job would drop the second one in silence."""
        asked: dict[str, Any] = {"email": ADA, "attributes": {"plan": "pro"}}
        first = producer.add_attributes(**asked, idempotency_key="signup-7")
        with pytest.raises(IdempotencyConflict) as caught:
            producer.add_attributes(**asked | other, idempotency_key="signup-7")
        assert caught.value.job_id == first.job_id
        assert first.job_id in str(caught.value)
        assert "signup" not in str(caught.value)
        assert inbox.hlen(KEYS.inbox) == 1
        assert producer.add_attributes(**asked, idempotency_key="signup-7").duplicate


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A server that accepts and never answers."""
    with listening(lambda _connection: None) as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def listening(serve: Any) -> Iterator[int]:
    connections = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                connections.append(connection)
                serve(connection)

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for connection in connections:
            connection.close()


@contextlib.contextmanager
def within_the_bound() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < BOUND_S


@contextlib.contextmanager
def closing(url: str) -> Iterator[Producer]:
    producer = Producer(settings_for(url))
    try:
        yield producer
    finally:
        producer.close()


class TestWithoutRedis:
    """A clear error in bounded time, never a hang."""

    def test_nothing_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with closing(f"redis://:s3cr3t@127.0.0.1:{port}/0") as producer, within_the_bound():
            with pytest.raises(NotEnqueued, match=f"127.0.0.1:{port}.*COURIER_REDIS_URL") as caught:
                producer.add_attributes(ADA, {"plan": "pro"})
            assert "s3cr3t" not in str(caught.value)
            with pytest.raises(NotReachable):
                producer.outcome("019abcde-0000-7000-8000-000000000000")

    def test_it_accepts_and_never_answers(self) -> None:
        with black_hole() as url, closing(url) as producer:
            with within_the_bound(), pytest.raises(NotEnqueued):
                producer.add_attributes(ADA, {"plan": "pro"})
            with within_the_bound(), pytest.raises(NotReachable):
                producer.outcomes(ADA)

    def test_it_stops_answering_on_open_connections(self, server: EmbeddedRedis) -> None:
        with closing(server.url) as producer:
            producer.add_attributes(ADA, {"plan": "pro"})
            server.pause()
            try:
                with within_the_bound(), pytest.raises(NotEnqueued):
                    producer.add_attributes(ADA, {"plan": "free"})
            finally:
                server.resume()
            assert producer.add_attributes(ADA, {"plan": "free"}).job_id, "and it recovers"

    def test_a_connection_that_was_cut_meanwhile_is_replaced(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        producer.add_attributes(ADA, {"plan": "pro"})
        inbox.client_kill_filter(_type="normal", skipme=True)
        producer.add_attributes(ADA, {"plan": "free"})
        assert inbox.hlen(KEYS.inbox) == 2


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    target.close()


@contextlib.contextmanager
def far_away(url: str, delays_s: Iterator[float]) -> Iterator[str]:
    """A way to a server on which each answer takes a while longer."""
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port or 0)

    def pass_on(connection: socket.socket) -> None:
        upstream = socket.create_connection(place)
        threading.Thread(target=_copy, args=(connection, upstream), daemon=True).start()
        threading.Thread(target=answer, args=(upstream, connection), daemon=True).start()

    def answer(upstream: socket.socket, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(65_536):
                time.sleep(next(delays_s))
                connection.sendall(data)
        upstream.close()

    with listening(pass_on) as own:
        yield f"redis://:{parts.password}@127.0.0.1:{own}/0"


QUEUE = KEY_PREFIX + ACCEPT_QUEUE


class TestTheTimeForTheWhole:
    """COURIER_ENQUEUE_TIMEOUT is for all round trips together: connection, script, wake-up.

    The times are long, since other programs use the machine, too: without the bound for the whole,
    each call would take a second more than here.
    """

    TIMEOUT_S = 3.0
    BOUND_S = 3.5

    def producer_at(self, url: str) -> contextlib.closing[Producer]:
        settings = replace(settings_for(url), enqueue_timeout_s=self.TIMEOUT_S)
        return contextlib.closing(Producer(settings))

    def test_a_call_ends_in_it_however_many_round_trips_it_takes(
        self, server: EmbeddedRedis, inbox: redis.Redis
    ) -> None:
        inbox.script_flush()  # so that a second one sends the script, which is tried twice
        delays_s = itertools.chain([1.4], itertools.repeat(60.0))
        with far_away(server.url, delays_s) as url, self.producer_at(url) as producer:
            start = time.monotonic()
            with pytest.raises(NotEnqueued):
                producer.add_attributes(ADA, {"plan": "pro"})
            assert time.monotonic() - start < self.BOUND_S

    def test_a_job_that_was_taken_is_not_reported_as_lost_when_the_time_is_up(
        self, server: EmbeddedRedis, inbox: redis.Redis
    ) -> None:
        with closing(server.url) as producer:
            producer.add_attributes(ADA, {"n": 1}, lane="bulk")  # Redis has the script now
        inbox.delete(QUEUE)
        inbox.set(QUEUE, "no list, so the wake-up takes a round trip of its own")
        # The password, the script, the wake-up.
        delays_s = itertools.chain([0.0, 0.9], itertools.repeat(60.0))
        with far_away(server.url, delays_s) as url, self.producer_at(url) as producer:
            start = time.monotonic()
            receipt = producer.add_attributes(ADA, {"n": 2})
            assert time.monotonic() - start < self.BOUND_S
        assert inbox.hexists(KEYS.inbox, receipt.job_id)


class TestTheAsyncTwin:
    def test_it_hands_the_job_over(self, default: Producer, inbox: redis.Redis) -> None:
        receipt = asyncio.run(
            add_attributes_async(
                ADA, {"plan": "pro"}, source="survey", lane="bulk", idempotency_key="signup-7"
            )
        )
        document = document_of(inbox, receipt.job_id)
        assert (document["lane"], document["idempotency_key"]) == ("bulk", "signup-7")
        assert document["attributes"][0]["source"] == "survey"

    def test_other_coroutines_go_on_while_it_waits(
        self, default: Producer, server: EmbeddedRedis
    ) -> None:
        turns = 0

        async def ask() -> None:
            nonlocal turns
            asked = asyncio.create_task(add_attributes_async(ADA, {"plan": "pro"}))
            while not asked.done():
                await asyncio.sleep(0.01)
                turns += 1
            await asked

        server.pause()
        try:
            with within_the_bound(), pytest.raises(NotEnqueued):
                asyncio.run(ask())
        finally:
            server.resume()
        assert turns >= 5


def test_the_modules_functions_share_one_producer(default: Producer, inbox: redis.Redis) -> None:
    receipt = add_attributes(ADA, {"plan": "pro"})
    assert default_producer() is default
    assert inbox.hexists(KEYS.inbox, receipt.job_id)


def test_threads_may_share_a_producer(producer: Producer, inbox: redis.Redis) -> None:
    with ThreadPoolExecutor(8) as threads:
        receipts = list(
            threads.map(lambda n: producer.add_attributes(ADA, {"n": n}), range(80), timeout=60)
        )
    job_ids = {receipt.job_id for receipt in receipts}
    assert len(job_ids) == 80
    assert set(inbox.hkeys(KEYS.inbox)) == job_ids


_FORK = """
import os, sys
from attribute_courier.producers import add_attributes
add_attributes("ada@example.com", {"by": "before the fork"})
child = os.fork()
for _ in range(5):
    add_attributes("ada@example.com", {"by": "parent" if child else "child"})
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_producer_made_before_a_fork_works_in_both_processes(
    server: EmbeddedRedis, inbox: redis.Redis
) -> None:
    environ = {**os.environ, "COURIER_REDIS_URL": server.url}
    subprocess.run([sys.executable, "-c", _FORK], env=environ, check=True, timeout=60)
    by = [json.loads(text)["attributes"][0]["value"] for text in inbox.hvals(KEYS.inbox)]
    assert sorted(by) == ["before the fork", *["child"] * 5, *["parent"] * 5]


def test_a_closed_producer_opens_new_connections(producer: Producer, inbox: redis.Redis) -> None:
    producer.add_attributes(ADA, {"plan": "pro"})
    producer.close()
    producer.close()
    producer.add_attributes(ADA, {"plan": "free"}, lane="bulk")
    assert inbox.llen(KEY_PREFIX + ACCEPT_QUEUE) == 2


@pytest.mark.parametrize(
    ("asked", "checked"), [("", ssl.CERT_REQUIRED), ("?ssl_cert_reqs=none", 0)]
)
def test_over_tls_the_brokers_certificate_is_checked_unless_told_otherwise(
    asked: str, checked: int
) -> None:
    """Kombu checks none by default, and would send the password to whoever answers."""
    with closing(f"rediss://:s3cr3t@redis.example:6379/0{asked}") as producer:
        connection = producer.celery.connection_for_write()
        assert connection.ssl["ssl_cert_reqs"] == checked
