"""What identifies a job: its id, and the digest of its content."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.ids import format_uuid, is_job_id, new_job_id
from attribute_courier.jobs.job import content_digest

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_new_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before_ms = time.time_ns() // 1_000_000
    text = new_job_id()
    after_ms = time.time_ns() // 1_000_000

    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert before_ms <= parsed.int >> 80 <= after_ms


def test_ids_rise_even_while_the_clock_stands_still_or_steps_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns() + 1_000_000_000
    readings = iter([now] * 5000 + [now - 3_600_000_000_000] * 5000)
    monkeypatch.setattr("attribute_courier.jobs.ids._last_tick", 0)
    monkeypatch.setattr("attribute_courier.jobs.ids.time.time_ns", lambda: next(readings))

    ids = [new_job_id() for _ in range(10_000)]

    assert ids == sorted(set(ids))
    assert {uuid.UUID(text).version for text in ids} == {7}


def test_ids_of_one_process_rise_in_each_thread_and_never_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A clock that stands still and threads that take turns often: only the lock keeps order.
    now = time.time_ns()
    monkeypatch.setattr("attribute_courier.jobs.ids.time.time_ns", lambda: now)
    usual = sys.getswitchinterval()
    made: list[list[str]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def make(into: list[str]) -> None:
        start.wait()
        into.extend(new_job_id() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)

    # The part that the clock and the lock make, without the random tail.
    assert len({text[:18] for ids in made for text in ids}) == 8 * 2000
    assert all(ids == sorted(ids) for ids in made)


def test_any_canonical_uuid_is_a_job_id() -> None:
    assert is_job_id(str(uuid.uuid4()))
    assert is_job_id(new_job_id())


@pytest.mark.parametrize(
    "text",
    [
        "01A2082A-52C7-7D95-A474-98E041F97465",
        "01a2082a52c77d95a47498e041f97465",
        "{01a2082a-52c7-7d95-a474-98e041f97465}",
        "urn:uuid:01a2082a-52c7-7d95-a474-98e041f97465",
        "01a2082a-52c7-7d95-a474-98e041f97465\n",
        "٠1a2082a-52c7-7d95-a474-98e041f97465",
        "",
        None,
        7,
        b"01a2082a-52c7-7d95-a474-98e041f97465",
        uuid.UUID("01a2082a-52c7-7d95-a474-98e041f97465"),
    ],
)
def test_nothing_else_is_a_job_id(text: object) -> None:
    assert not is_job_id(text)


def test_the_dashes_of_a_uuid_stand_where_python_puts_them() -> None:
    made = uuid.uuid4()
    assert format_uuid(made.hex) == str(made)


BASE: dict[str, Any] = {
    "email": "ada@example.com",
    "attributes": {"plan": "pro", "age": 8},
    "occurred_at": NOON,
}


@pytest.mark.parametrize(
    "same",
    [
        {"email": " Ada@EXAMPLE.com"},
        {"attributes": {"age": 8, "plan": "pro"}},
        {
            "attributes": [
                {"type": "Integer", "key": "age", "value": "8"},
                {"type": "String", "key": "plan", "value": "pro"},
            ]
        },
        {"occurred_at": "2026-03-01T13:00+01:00"},
        {"lane": "bulk"},
        {"job_id": new_job_id()},
        {"idempotency_key": "row-17"},
    ],
)
def test_the_same_content_has_the_same_digest(same: dict[str, Any]) -> None:
    digest = content_digest(build_job(**BASE))
    assert len(digest) == 22
    assert digest == content_digest(build_job(**BASE | same))


@pytest.mark.parametrize(
    "other",
    [
        {"email": "bob@example.com"},
        {"attributes": {"plan": "pro"}},
        {"attributes": {"plan": "pro", "age": 9}},
        {"attributes": {"plan": "pro", "age": 8.0}},
        {"attributes": {"plan": "pro", "age": "8"}},
        {"attributes": {"plan": "8", "age": "pro"}},
        {"attributes": {"plan": Attribute.of("String", "pro", source="crm"), "age": 8}},
        {"occurred_at": None},
        {"occurred_at": "2026-03-01T12:00:00.000001Z"},
        {"only_changed": True},
    ],
)
def test_other_content_has_another_digest(other: dict[str, Any]) -> None:
    assert content_digest(build_job(**BASE)) != content_digest(build_job(**BASE | other))


def test_the_repr_of_a_job_shows_neither_email_nor_values() -> None:
    shown = repr(replace(build_job(**BASE), idempotency_key="row-17"))
    assert "plan" in shown
    assert not any(secret in shown for secret in ("ada", "pro", "row-17"))
