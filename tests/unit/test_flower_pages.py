"""What Flower's pages are made of, without Flower."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flower
import pytest
import redis

from attribute_courier.config import Settings, load_settings
from attribute_courier.config.messages import DELIVER_TASK, JOB_TASK
from attribute_courier.jobs.errors import NotReachable
from attribute_courier.jobs.outcome import Outcome
from attribute_courier.operate.flower import plug
from attribute_courier.operate.flower import searches as searches_module
from attribute_courier.operate.flower.chart import Minute, html_of, minutes_of, summary_of
from attribute_courier.operate.flower.plug import Loader, shown_task
from attribute_courier.operate.flower.reading import NOWHERE, Reader, Wanted, waits_for
from attribute_courier.operate.flower.searches import Searches
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.account import Circuit, Pause
from attribute_courier.state.counts import Counts
from attribute_courier.state.keys import Keys

from .test_problems import WELL

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PENDING = Outcome(
    job_id="j", account="default", status="pending", email="ada@example.com", accepted_at=NOW
)


class TestTheChart:
    @staticmethod
    def counts(ago_s: float, delivered: int, requests: int) -> Counts:
        return Counts(
            at=NOW - timedelta(seconds=ago_s),
            jobs={("live", "delivered", ""): delivered, ("bulk", "failed", "server"): 7},
            attempts={"2xx": requests, "429": 1},
        )

    def test_shows_what_each_minute_brought(self) -> None:
        first, second = minutes_of(
            [self.counts(120, 0, 0), self.counts(60, 600, 1200), self.counts(0, 600, 1200)]
        )
        assert (first.delivered, first.delivered_per_s, first.requests_per_s) == (600, 10, 20)
        assert (second.delivered, second.requests) == (0, 0)
        page = html_of([first, second], 40, title="Of us.")
        assert page.count("<rect") == 1
        assert 'y="' in page
        assert "600 jobs were delivered within the last hour: 5.0 a second" in page
        assert "10.0 in the best minute, at 11:58 UTC" in page

    def test_a_minute_that_has_just_begun_says_nothing(self) -> None:
        assert minutes_of([self.counts(3, 0, 0), self.counts(0, 3, 3)]) == []

    def test_nothing_is_said_in_words(self) -> None:
        quiet = Minute(begins=NOW - timedelta(minutes=1), ends=NOW, delivered=0, requests=0)
        assert summary_of([quiet], 40) == "No request left within the last hour."
        assert "<polyline" not in html_of([quiet], 40, title="")
        assert html_of([], 40, title="<b>").count("&lt;b&gt;") == 1

    @pytest.mark.parametrize("limit", [0.05, 1, 39.2, 5000])
    def test_the_limit_is_within_the_picture(self, limit: float) -> None:
        page = html_of([], limit, title="")
        line = page.partition('courier-limit"')[2]
        assert 0 < float(line.partition('y1="')[2].partition('"')[0]) < 50


class TestWhatAJobWaitsFor:
    @pytest.mark.parametrize(
        ("job", "account", "words"),
        [
            ({}, {}, ["its turn; jobs and emails waiting: 0"]),
            ({"accepted_at": None}, {}, ["its acceptance by a worker"]),
            ({}, {"workers": ()}, ["a worker: none is alive that serves this account"]),
            (
                {"next_attempt_at": NOW + timedelta(minutes=5)},
                {},
                ["its next attempt, at 2026-11-28 12:05:00 UTC"],
            ),
            (
                {"next_attempt_at": NOW + timedelta(minutes=5)},
                {"pause": Pause(by="account", reason="no key", since=NOW, next_probe_at=None)},
                [
                    "the end of the account's pause: no key",
                    "its next attempt, at 2026-11-28 12:05:00 UTC",
                ],
            ),
            (
                {},
                {"circuit": Circuit(reason="HTTP 500", opened_at=NOW, next_probe_at=NOW)},
                ["ChartMogul to work again, since it fails for all emails: HTTP 500"],
            ),
            (
                {},
                {"held_for_s": 2.5},
                ["the end of ChartMogul's request to wait, 2.5 s more (429)"],
            ),
            ({"status": "delivered"}, {"workers": ()}, []),
        ],
    )
    def test_in_words(self, job: dict[str, Any], account: dict[str, Any], words: list[str]) -> None:
        status = replace(WELL, at=NOW, **account)
        assert waits_for(replace(PENDING, **job), status) == words


class TestSearches:
    def test_a_word_stands_for_an_email(self) -> None:
        searches = Searches()
        word = searches.begin("ada@example.com")
        assert searches.email_of(word) == "ada@example.com"
        assert "ada" not in word
        assert searches.begin("ada@example.com") != word
        assert searches.email_of("another") is None

    def test_are_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        searches = Searches()
        monkeypatch.setattr(searches_module, "KEPT", 2)
        first, second, third = (searches.begin(f"{n}@example.com") for n in range(3))
        assert searches.email_of(first) is None
        assert searches.email_of(second) == "1@example.com"
        later_s = time.monotonic() + searches_module.KEPT_S
        monkeypatch.setattr(time, "monotonic", lambda: later_s)
        assert searches.email_of(third) is None


class TestSeveralAccounts:
    @pytest.fixture
    def reader(self, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
        monkeypatch.setenv("COURIER_REDIS_URL", server.url)
        monkeypatch.setenv("COURIER_ACCOUNTS", "eu,us")
        monkeypatch.setenv("CHARTMOGUL_API_KEY_EU", "1")
        monkeypatch.setenv("CHARTMOGUL_API_KEY_US", "2")
        client = redis.Redis.from_url(server.url)
        for number, account in enumerate(("eu", "us", "us", "eu", "us"), start=1):
            keys = Keys(account)
            client.set(keys.of("outcome", f"job-{number}"), '{"s":"failed","a":"1","x":1}')
            # Those of one millisecond are told apart by their account.
            client.xadd(
                keys.outcomes,
                {"job": f"job-{number}", "status": "failed"},
                id=f"{(number + 1) // 2}-1",
            )
        reader = Reader(load_settings())
        yield reader
        reader.threads.shutdown()
        client.close()

    def test_their_outcomes_are_listed_together_page_by_page(self, reader: Reader) -> None:
        wanted = Wanted(accounts=("eu", "us"), limit=2)
        pages = []
        while True:
            found = reader.recent(wanted)
            pages.append([outcome.job_id for outcome in found.outcomes])
            if found.older is None:
                break
            wanted = replace(wanted, before=found.older)
        assert sorted(each for page in pages for each in page) == [f"job-{n}" for n in range(1, 6)]
        assert [len(page) for page in pages if page] == [2, 2, 1]
        assert pages[0][0] == "job-5"
        assert set(pages[0][1:] + pages[1][:1]) == {"job-3", "job-4"}

    def test_or_those_of_one(self, reader: Reader) -> None:
        found = reader.recent(Wanted(accounts=("us",), limit=2))
        assert [outcome.job_id for outcome in found.outcomes] == ["job-5", "job-3"]
        found = reader.recent(Wanted(accounts=("us",), before=found.older or "", limit=2))
        assert [outcome.job_id for outcome in found.outcomes] == ["job-2"]
        both = Wanted(accounts=("eu", "us"), before=f"{NOWHERE}.1-1", limit=2)
        assert reader.recent(both).outcomes == ()


def test_a_redis_that_does_not_answer_is_an_error_in_words(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURIER_REDIS_URL", "redis://127.0.0.1:1/0")
    reader = Reader(load_settings())
    for ask in (reader.stand, lambda: reader.job("x"), lambda: reader.replay("x")):
        with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1/0 does not answer"):
            ask()


def test_navigation_gets_two_entries_and_the_rest_is_flowers() -> None:
    folder = Path(flower.__file__).parent / "templates"
    theirs = (folder / "navbar.html").read_text("utf-8")
    ours = Loader(folder).load("navbar.html").code
    for name in ("courier-accounts", "courier-outcomes", "'workers'", "'tasks'", "'broker'"):
        assert name in ours
    assert "courier" not in theirs


def test_flowers_list_shows_the_reason_where_there_is_no_result() -> None:
    @dataclass
    class Task:
        name: str
        result: str | None
        exception: str | None

    failed = Task(JOB_TASK, None, "refused · no")
    assert shown_task(failed).result == "refused · no"
    assert failed.result is None
    assert shown_task(Task(DELIVER_TASK, "'12 delivered'", None)).result == "12 delivered"
    assert shown_task(Task("other", "'x'", None)).result == "'x'"


def test_flowers_queues_are_read_from_the_redis_that_is_the_broker(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.lpush("courier:celery:accept", "a", "b")
    reader = Reader(Settings(redis_url="cluster://127.0.0.1:1", broker_url=server.url))
    assert asyncio.run(reader.queues(["accept"])) == [{"name": "accept", "messages": 2}]
    reader.threads.shutdown()


@pytest.mark.parametrize(
    ("broker_url", "own"), [("amqp://broker", True), ("redis://broker", False), (None, False)]
)
def test_of_rabbitmq_flower_reads_the_queues_itself(
    monkeypatch: pytest.MonkeyPatch, broker_url: str | None, own: bool
) -> None:
    monkeypatch.setattr(plug, "options", SimpleNamespace())
    monkeypatch.setattr(plug.flower_events, "time", time)
    monkeypatch.setattr(plug.flower_views, "Broker", "Flower's")
    monkeypatch.setattr(plug, "handlers", [])
    monkeypatch.setattr(plug, "TESTED", ())
    plug.add_pages(Settings(redis_url="redis://r", broker_url=broker_url))
    assert (plug.flower_views.Broker == "Flower's") is own


def test_flowers_queues_are_read_on_our_own_way_to_redis(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    with redis.Redis.from_url(server.url) as client:
        client.lpush("courier:celery:accept", "a", "b")
    reader = Reader(load_settings())
    assert asyncio.run(reader.queues({"accept": 1, "deliver": 2})) == [
        {"name": "accept", "messages": 2},
        {"name": "deliver", "messages": 0},
    ]
    reader.threads.shutdown()
