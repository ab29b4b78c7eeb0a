"""What a worker's log holds, and how its lines look."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.config.celery import make_celery
from attribute_courier.config.logs import JSONFormatter, WorkerLog, log_event
from attribute_courier.state.email_hash import KEY, READ_AGAIN_S, UNKNOWN, EmailHash
from attribute_courier.worker.chartmogul import Answer, NoAnswer, NotSent
from attribute_courier.worker.trouble import RedisTrouble, _Shared

from .desk import ADA, Desk, hashed

FIELDS = {
    "account": "default",
    "no_answer": "no answer within 2 s",
    "http_status": None,
    "jobs": {"delivered": ["1", "2"], "pending": ["3"]},
}


@pytest.fixture
def records() -> Any:
    """Every record of the courier's own loggers."""
    found: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger, keep = logging.getLogger("attribute_courier"), Keep()
    before = logger.level
    logger.addHandler(keep)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(keep)
    logger.setLevel(before)


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    line = JSONFormatter().format(record)
    assert "\n" not in line
    content: dict[str, Any] = json.loads(line)
    return content


class TestLines:
    def test_an_event_is_a_plain_line_of_fields(self, records: list[logging.LogRecord]) -> None:
        log_event(logging.getLogger("attribute_courier"), logging.INFO, "attempt", FIELDS)
        assert records[0].getMessage() == (
            'attempt account=default no_answer="no answer within 2 s" delivered=1,2 pending=3'
        )

    def test_an_event_is_an_object_with_its_fields(self, records: list[logging.LogRecord]) -> None:
        log_event(logging.getLogger("attribute_courier"), logging.INFO, "attempt", FIELDS)
        content = as_json(records[0])
        assert content["time"].endswith("Z")
        expected = {
            "level": "info",
            "logger": "attribute_courier",
            "pid": os.getpid(),
            "thread": "MainThread",
            "message": "attempt",
            "account": "default",
            "no_answer": "no answer within 2 s",
            "jobs": {"delivered": ["1", "2"], "pending": ["3"]},
        }
        assert {name: content[name] for name in expected} == expected
        assert content.keys() == expected.keys() | {"time"}

    def test_any_record_is_one_line_of_json_its_traceback_too(self) -> None:
        try:
            raise ValueError("two\nlines")
        except ValueError:
            info = sys.exc_info()
        record = logging.LogRecord("celery", logging.ERROR, "", 0, "a %s\n", ("b",), info)
        content = as_json(record)
        assert content["message"] == "a b\n"
        assert "ValueError: two\nlines" in content["traceback"]

    @pytest.mark.parametrize("form", ["plain", "json"])
    def test_celerys_handlers_write_the_form_that_is_set(
        self, monkeypatch: pytest.MonkeyPatch, form: str
    ) -> None:
        monkeypatch.setenv("COURIER_LOG_FORMAT", form)
        log = make_celery(load_settings()).log
        assert isinstance(log, WorkerLog)
        for name in ("test.celery", "test.celery.task"):
            logger = logging.getLogger(name)
            log.setup_handlers(logger, None, log.format, colorize=False)
            [handler] = logger.handlers
            assert isinstance(handler.formatter, JSONFormatter) == (form == "json")
            logger.removeHandler(handler)


class TestAttempts:
    """Each request has one line, whatever came of it."""

    @pytest.fixture
    def desk(self, client: redis.Redis) -> Desk:
        return Desk(client)

    @pytest.fixture
    def attempts(
        self, desk: Desk, records: list[logging.LogRecord]
    ) -> Callable[[], list[dict[str, Any]]]:
        """Run a stint. Returns the fields and level of its attempts."""

        def attempts() -> list[dict[str, Any]]:
            records.clear()
            desk.run()
            for record in records:
                assert ADA not in record.getMessage()
            return [
                as_json(record) for record in records if getattr(record, "event", "") == "attempt"
            ]

        return attempts

    def test_a_delivered_job(self, desk: Desk, attempts: Any) -> None:
        job = desk.accepted(plan="pro")
        [line] = attempts()
        assert {
            "level": "info",
            "account": "default",
            "lane": "live",
            "email": hashed(ADA),
            "http_status": 200,
            "latency_s": 0.0,
            "verdict": "taken",
            "jobs": {"delivered": [job]},
        }.items() <= line.items()
        assert "again_in_s" not in line

    def test_jobs_that_share_a_request_share_a_line(self, desk: Desk, attempts: Any) -> None:
        jobs = [desk.accepted(plan="pro"), desk.accepted(lane="bulk", age=8)]
        [line] = attempts()
        assert (line["lane"], line["jobs"]) == ("live", {"delivered": jobs})

    def test_a_job_that_is_tried_again(self, desk: Desk, attempts: Any) -> None:
        job = desk.accepted(lane="bulk", plan="pro")
        desk.chartmogul.answers = [Answer(status=404, body=b'{"message": "No customer"}')]
        [line] = attempts()
        assert (line["lane"], line["http_status"], line["verdict"]) == ("bulk", 404, "unmatched")
        assert (line["again_in_s"], line["jobs"]) == (300, {"pending": [job]})

    def test_no_answer(self, desk: Desk, attempts: Any) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [NoAnswer(reason="no answer within 2 s", sent=True)]
        [line] = attempts()
        assert "http_status" not in line
        assert line["no_answer"] == "no answer within 2 s"
        assert (line["verdict"], line["jobs"]) == ("server", {"pending": [job]})

    def test_a_refused_job_is_a_warning_without_the_answers_words(
        self, desk: Desk, attempts: Any
    ) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [Answer(status=422, body=b'{"errors": {"custom": "is bad"}}')]
        [line] = attempts()
        assert (line["level"], line["verdict"]) == ("warning", "content")
        assert line["jobs"] == {"refused": [job]}
        assert "is bad" not in str(line)

    def test_a_404_whose_route_a_ping_judges_keeps_its_own_status(
        self, desk: Desk, attempts: Any
    ) -> None:
        desk.accepted(plan="pro")
        desk.chartmogul.answers = [Answer(status=404, body=b"<h1>Not Found</h1>")]
        desk.chartmogul.pings = [Answer(status=401, body=b'{"message": "No valid API key"}')]
        [line] = attempts()
        assert (line["http_status"], line["verdict"]) == (404, "account")

    def test_a_request_that_did_not_leave_has_none(self, desk: Desk, attempts: Any) -> None:
        desk.accepted(plan="pro")
        desk.chartmogul.answers = [NotSent()]
        assert len(attempts()) == 1, "of the next try"

    def test_also_where_redis_then_fails(
        self, desk: Desk, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def settle(*_: object, **__: object) -> None:
            raise redis.ConnectionError

        desk.accepted(plan="pro")
        monkeypatch.setattr(desk.mailboxes, "settle", settle)
        with pytest.raises(redis.ConnectionError):
            desk.run()
        assert [record.event for record in records if hasattr(record, "event")] == ["attempt"]


class TestTheHashsKey:
    def test_is_made_once_and_shared(self, client: redis.Redis) -> None:
        first, second = (EmailHash(lambda: client) for _ in range(2))
        assert first.of(ADA) == second.of(ADA) != UNKNOWN
        assert len(str(client.get(KEY))) == 64

    def test_is_read_anew_where_redis_was_emptied(
        self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = EmailHash(lambda: client)
        before = running.of(ADA)
        client.delete(KEY)
        assert running.of(ADA) == before, "not at each email"
        started = EmailHash(lambda: client).of(ADA)
        monkeypatch.setattr(running, "_read_s", running._read_s - READ_AGAIN_S)
        assert running.of(ADA) == started != before

    def test_that_cannot_be_read_costs_nobody_anything(
        self, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away() -> Any:
            raise redis.ConnectionError

        assert EmailHash(away).of(ADA) == UNKNOWN
        running = EmailHash(lambda: client)
        before = running.of(ADA)
        monkeypatch.setattr(running, "_client", away)
        monkeypatch.setattr(running, "_read_s", running._read_s - READ_AGAIN_S)
        assert running.of(ADA) == before


class TestTrouble:
    """An outage of Redis is one line, and its end another."""

    @pytest.fixture
    def trouble(self) -> RedisTrouble:
        return RedisTrouble(load_settings())

    def test_is_said_once_by_all_parts(
        self, trouble: RedisTrouble, records: list[logging.LogRecord]
    ) -> None:
        for _ in range(2):
            for part in ("ticker", "deliveries", "ticker"):
                trouble.met(part, redis.ConnectionError("Connection refused"))
            for part in ("ticker", "deliveries"):
                trouble.over(part)
        assert [record.levelname for record in records] == ["ERROR", "WARNING"] * 2

    def test_is_said_once_whatever_reason_each_connection_meets(
        self, trouble: RedisTrouble, records: list[logging.LogRecord]
    ) -> None:
        for error in (
            redis.ConnectionError("Connection closed by server."),
            redis.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."),
            redis.TimeoutError("Timeout reading from socket"),
        ):
            trouble.met("deliveries", error)
        assert len(records) == 1
        trouble.met("deliveries", redis.ResponseError("LOADING Redis is loading"))
        assert len(records) == 2

    def test_is_said_once_by_all_processes(
        self, trouble: RedisTrouble, records: list[logging.LogRecord]
    ) -> None:
        """Of the prefork pool: they are forked after it was made."""
        lines = []
        for _ in range(3):
            read, write = os.pipe()
            if os.fork() == 0:
                try:
                    records.clear()
                    trouble.met("deliveries", redis.ConnectionError("Connection refused"))
                    os.write(write, str(len(records)).encode())
                finally:
                    os._exit(0)
            os.wait()
            lines.append(os.read(read, 10))
            os.close(read), os.close(write)
        assert lines == [b"1", b"0", b"0"]
        trouble.met("ticker", redis.ConnectionError("Connection refused"))
        assert records == []
        trouble.over("ticker")
        assert [record.levelname for record in records] == ["WARNING"]

    def test_of_processes_that_meet_it_at_the_same_moment_one_says_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if not hasattr(os, "memfd_create"):
            pytest.skip("only Linux keeps them apart")

        def slow_clock() -> float:  # between the look and the note
            time.sleep(0.002)
            return 1000.0

        monkeypatch.setattr("attribute_courier.worker.trouble.time.monotonic", slow_clock)
        texts = {crc32(str(n).encode()) % 512: str(n) for n in range(30)}.values()
        shared, (ready, go), (counts, tell) = _Shared(), os.pipe(), os.pipe()
        for _ in range(4):
            if os.fork() == 0:
                os.close(go)
                os.read(ready, 1)  # ends with the pipe
                os.write(tell, bytes([sum(map(shared.is_new, texts))]))
                os._exit(0)
        os.close(go)
        for _ in range(4):
            os.wait()
        said = os.read(counts, 8)
        for descriptor in (ready, counts, tell):
            os.close(descriptor)
        assert sum(said) == len(texts)
