"""Garbage in the broker's queues and in the inbox: the worker lives on, and so do the good jobs."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import redis

from attribute_courier.config.celery import (
    ACCEPT_QUEUE,
    ACCEPT_TASK,
    DELIVER_QUEUE,
    DELIVER_TASK,
    KEY_PREFIX,
)
from attribute_courier.jobs.ids import new_job_id

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"
CONCURRENCY = 4
QUEUES = [KEY_PREFIX + ACCEPT_QUEUE, KEY_PREFIX + DELIVER_QUEUE]


def envelope(
    args: Any = ("default", ["x"]), task: Any = ACCEPT_TASK, **headers: Any
) -> dict[str, Any]:
    """A message as Celery writes it, except for what a test makes wrong."""
    body = [list(args) if isinstance(args, tuple) else args, {}, {"callbacks": None}]
    task_id = str(uuid.uuid4())
    return {
        "body": encoded(body),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": task, "id": task_id, "argsrepr": "garbage", **headers},
        "properties": {
            "body_encoding": "base64",
            "correlation_id": task_id,
            "delivery_info": {"exchange": "", "routing_key": ACCEPT_QUEUE},
            "delivery_mode": 2,
            "delivery_tag": task_id,
            "priority": 0,
        },
    }


def encoded(body: Any) -> str:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return base64.b64encode(text).decode()


def properties(**changed: Any) -> dict[str, Any]:
    return {**envelope()["properties"], **changed}


NO_MESSAGES: list[bytes] = [
    b"garbage",
    b"",
    b"\xff\xfe\x00\x01",
    b"NaN",
    b"[" * 100_000,
    *(json.dumps(each).encode() for each in (5, None, "text", [], {}, {"body": "x"})),
]
NO_ENVELOPES: list[Any] = [
    {**envelope(), "properties": None},
    {**envelope(), "properties": "text"},
    {**envelope(), "properties": {}},
    {**envelope(), "properties": properties(delivery_tag=[1])},
    {**envelope(), "properties": properties(delivery_info={"exchange": 5, "routing_key": [1]})},
    {**envelope(), "properties": properties(body_encoding="klingon")},
    {**envelope(), "headers": None},
    {**envelope(), "headers": {}},
    {**envelope(), "headers": [1]},
    {**envelope(), "headers": "text"},
    {**envelope(), "content-type": None},
    {**envelope(), "content-type": "application/x-python-serialize"},
    {**envelope(), "content-type": "application/unheard-of"},
    {**envelope(), "content-encoding": "klingon"},
    envelope(compression="gzip"),
    envelope(compression="unheard-of"),
]
NO_BODIES: list[Any] = [
    {**envelope(), "body": 5},
    {**envelope(), "body": "%%%"},
    {**envelope(), "body": encoded(b"\xff\xfe garbage")},
    {**envelope(), "body": encoded(None)},
    {**envelope(), "body": encoded({"a": 1})},
    {**envelope(), "body": encoded([1])},
    {**envelope(), "body": encoded(["ab", {}, {}])},
    {**envelope(), "body": encoded([["default", ["x"]], [1], {}])},
    {**envelope(), "body": encoded([["default", ["x"]], {}, [1]])},
]
NO_TASKS: list[Any] = [
    envelope(task="no.such.task"),
    envelope(task=None),
    envelope(task=["x"]),
    envelope(id=None),
    envelope(id=[1]),
    envelope(eta="garbage"),
    envelope(expires="garbage"),
    envelope(timelimit="garbage"),
]
NO_ARGUMENTS: list[Any] = [
    envelope(()),
    envelope((1, 2, 3)),
    envelope((1, 2)),
    envelope(("default", [1, None, {"a": 1}])),
    envelope(("default", "text")),
    envelope(("default", [])),
    envelope(("default", ["\ud800"])),
    envelope((["default"], ["x"])),
    envelope(("no-such-account", ["x"])),
    envelope(("default", 1, 2), task=DELIVER_TASK),
    envelope(("default", None, [1]), task=DELIVER_TASK),
    envelope(("no-such-account", "x", "y"), task=DELIVER_TASK),
    envelope((), task=DELIVER_TASK),
]
HUGE: list[Any] = [
    envelope(("default", ["x" * 5_000_000])),
    envelope(("default", ["x"] * 200_000)),
]


def test_garbage_in_the_brokers_queues_harms_nothing(courier: Courier) -> None:
    courier.start_worker(COURIER_CONCURRENCY=str(CONCURRENCY))
    worker = courier.workers[0]
    before = courier.producer.add_attributes(ADA, {"n": 0})
    assert courier.wait(before)[0].status == "delivered"

    for n, kind in enumerate(
        [NO_MESSAGES, NO_ENVELOPES, NO_BODIES, NO_TASKS, NO_ARGUMENTS, HUGE], start=1
    ):
        # More of each kind than the worker has threads: none may keep one of them busy.
        garbage = [each if isinstance(each, bytes) else json.dumps(each) for each in kind]
        garbage *= 1 + (CONCURRENCY // len(garbage))
        for queue in QUEUES:
            courier.client.lpush(queue, *garbage)
        good = courier.producer.add_attributes(ADA, {"n": n})
        assert courier.wait(good)[0].status == "delivered", courier.log()
        assert worker.running
    wait_until(lambda: not courier.client.exists(*QUEUES))

    # Nothing comes back, and nothing goes on.
    assert "consumer: Connection to broker lost" not in courier.log()
    said = courier.log().count("dropped an entry")
    last = courier.producer.add_attributes(ADA, {"n": 99})
    assert courier.wait(last)[0].status == "delivered"
    assert courier.log().count("dropped an entry") == said
    assert len(courier.posts()) == 8
    assert courier.client.hlen(courier.keys.inbox) == 0
    worker.stop(grace_s=20)
    assert worker.popen.returncode == 0
    assert not courier.client.exists(*QUEUES)


def document(**changed: Any) -> bytes:
    job = {
        "v": 1,
        "email": "grace@example.com",
        "attributes": [{"type": "Integer", "key": "age", "value": 8}],
        "occurred_at": "2026-03-01T09:30:00Z",
    }
    return json.dumps(job | changed).encode()


BAD_DOCUMENTS: list[bytes] = [
    b"garbage",
    b"",
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b"x" * 2_000_000,
    b'{"v": NaN}',
    b'{"v": 1, "v": 1}',
    *(json.dumps(each).encode() for each in (None, 5, "text", [], {})),
    document(v="1"),
    document(email=None),
    document(email="\ud800@example.com"),
    document(email="a\x00b@example.com"),
    document(attributes={}),
    document(attributes=[{"type": "Integer", "key": "age", "value": "eight"}]),
    document(attributes=[{"type": "String", "key": "a\nb", "value": "x"}]),
    document(occurred_at="2099-01-01T00:00:00Z"),
    document(occurred_at=1),
    document(lane="fast"),
    document(colour="red"),
]
BAD_IDS: list[bytes] = [
    b"../../x",
    b"a\r\nb",
    b"\x00",
    b" ",
    b"",
    b"\xff\xfe",
    b"x}:outcome:y",
    b"i" * 1_000_000,
    b"019ABCDE-0000-7000-8000-000000000000",
]


def test_garbage_in_the_inbox_is_recorded_and_does_not_come_back(courier: Courier) -> None:
    before = courier.producer.add_attributes(ADA, {"n": 1})
    entries = {new_job_id().encode(): each for each in BAD_DOCUMENTS}
    entries |= dict.fromkeys(BAD_IDS, document())
    inbox, live = courier.keys.inbox, courier.keys.of("inbox:live")
    with redis.Redis.from_url(courier.server.url) as raw:
        for n, (job_id, text) in enumerate(entries.items()):
            raw.hset(inbox, job_id, text)
            if n % 4:  # and some without the time that the wire format asks for
                raw.zadd(live, {job_id: 1})
        raw.zadd(live, {"a time without an entry": 1})
        entries[b"a time without an entry"] = b""
        courier.start_worker()
        after = courier.producer.add_attributes(ADA, {"m": 2})
        outcomes = courier.wait(before, after)
        assert [outcome.status for outcome in outcomes] == ["delivered", "delivered"]

        wait_until(lambda: not raw.exists(inbox, live), timeout_s=40, what="the inbox is empty")
        prefix = f"{courier.keys.prefix}outcome:".encode()
        for job_id, text in entries.items():
            found = json.loads(raw.get(prefix + job_id) or "{}")  # type: ignore[arg-type]
            assert found.get("s") == "invalid", (job_id[:40], text[:80])
            assert found["m"], "with every reason"
            assert raw.ttl(prefix + job_id) > 0

    # One outcome each and one line each: nothing was done twice.
    assert courier.health().status().last_hour["invalid"] == len(entries)
    assert courier.log().count(": invalid: ") == len(entries)
    assert max(map(len, courier.log().splitlines())) < 1_000
    assert len(courier.posts()) == len(courier.posts(ADA)) <= 2
    assert courier.workers[0].running
    assert "Traceback" not in courier.log()

    # Whoever asks sees them, those among them that say whose they are under the email, too.
    with courier.producer.reading() as asked:
        assert len(asked.recent(statuses=["invalid"])) == len(entries)
        assert {each.status for each in asked.of_email("grace@example.com")} == {"invalid"}


def test_a_job_in_a_later_wire_format_is_left_for_a_newer_worker(courier: Courier) -> None:
    job_id = new_job_id()
    courier.client.hset(courier.keys.inbox, job_id, document(v=2))
    courier.client.zadd(courier.keys.of("inbox:live"), {job_id: 1})
    courier.start_worker()
    wait_until(lambda: f"job {job_id}: in a newer wire format" in courier.log())
    assert courier.wait(courier.producer.add_attributes(ADA, {"n": 1}))[0].status == "delivered"
    assert courier.client.hkeys(courier.keys.inbox) == [job_id]
    outcome = courier.outcomes.get(job_id)
    assert outcome is not None
    assert outcome.status == "pending"
