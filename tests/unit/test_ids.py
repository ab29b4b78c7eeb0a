"""What identifies: job ids, versions, mailbox ids, and emails as people may see them."""

from __future__ import annotations

import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.ids import is_job_id, new_job_id
from attribute_courier.jobs.job import (
    END_OF_TIME,
    EPOCH,
    VERSION_LENGTH,
    AttributeJob,
    describe,
    mailbox_id_of,
    redacted_email,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def job(
    *,
    email: str = "ada@example.com",
    occurred_at: datetime = NOON,
    job_id: str | None = None,
    keys: tuple[str, ...] = ("channel",),
) -> AttributeJob:
    return AttributeJob(
        job_id=job_id or new_job_id(),
        email=email,
        attributes=tuple(Attribute.of("String", "Facebook", key=key) for key in keys),
        occurred_at=occurred_at,
    )


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


def test_a_version_is_the_microseconds_since_1970_and_the_job_id() -> None:
    made = job(
        occurred_at=EPOCH + timedelta(microseconds=1_234_567),
        job_id="01a2082a-52c7-7d95-a474-98e041f97465",
    )
    assert made.version == "000000000123456701a2082a-52c7-7d95-a474-98e041f97465"
    assert len(made.version) == VERSION_LENGTH


def test_the_later_job_has_the_greater_version_as_text() -> None:
    moments = [
        EPOCH,
        EPOCH + timedelta(microseconds=1),
        datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC),  # one digit more than a second before
        NOON,
        NOON + timedelta(microseconds=1),
        END_OF_TIME - timedelta(microseconds=1),
    ]
    # Made in reverse, so that the ids alone would say the opposite.
    versions = [job(occurred_at=moment).version for moment in reversed(moments)]
    assert versions == sorted(versions, reverse=True)
    assert {len(version) for version in versions} == {VERSION_LENGTH}


def test_of_two_jobs_of_one_moment_the_one_asked_for_last_is_the_newer() -> None:
    first, second = job(), job()
    assert first.version < second.version


def test_a_mailbox_id_is_short_safe_in_urls_and_tells_nothing_of_the_email() -> None:
    made = job(email="ada@example.com").mailbox_id
    assert made == "tfyF5VdV-eDQMKEKtEKbaw"
    assert "ada" not in made


def test_spellings_of_one_email_share_a_mailbox_and_different_emails_do_not() -> None:
    ada = mailbox_id_of("ada@example.com")
    assert mailbox_id_of(" ada@EXAMPLE.com\n") == ada
    assert mailbox_id_of("Ada@example.com") != ada
    assert mailbox_id_of("\udcff") != ada


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("ada@example.com", "a***@example.com"),
        ("x@example.com", "x***@example.com"),
        (" ada@example.com", "a***@example.com"),
        ('"a@b"@example.com', '"***@example.com'),
        ("@example.com", "***@example.com"),
        ("ada", "***"),
        ("ada@exam\nple.com", "***"),
        ("\udcff@example.com", "***"),
        ("", "***"),
        (None, "***"),
        (7, "***"),
        (b"ada@example.com", "***"),
    ],
)
def test_an_email_is_shown_without_the_name_in_it(email: object, shown: str) -> None:
    assert redacted_email(email) == shown


def test_what_is_for_an_email_is_described_in_a_line_without_it() -> None:
    assert describe("ada@example.com", 1) == "a***@example.com · 1 attribute"
    assert describe("ada@example.com", 2) == "a***@example.com · 2 attributes"
    assert describe("ada@example.com", 0) == "a***@example.com"


def test_the_repr_of_a_job_shows_neither_email_nor_values() -> None:
    shown = repr(job())
    assert "channel" in shown
    assert "ada" not in shown
    assert "Facebook" not in shown
