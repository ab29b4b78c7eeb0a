"""Handing over many jobs: what becomes of each item, batches, duplicates, back-pressure."""

from __future__ import annotations

import json
import threading
import uuid
from collections import UserDict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from attribute_courier.config import Secret, configure, load_settings
from attribute_courier.config.celery import ACCEPT_QUEUE, KEY_PREFIX
from attribute_courier.jobs.errors import InvalidJob, NotEnqueued
from attribute_courier.jobs.ids import is_job_id, new_job_id
from attribute_courier.jobs.schema import load_wire
from attribute_courier.producers import Batch, Bulk, Item, Producer, add_many, bulk
from attribute_courier.producers.bulk import BulkLoad
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.inbox import Entry, Known
from attribute_courier.state.keys import Keys, idempotency_hash

from .test_build import nat
from .test_producers import messages

KEYS = Keys("default")
PLAN = {"plan": "pro"}


def emails(count: int) -> list[str]:
    return [f"customer-{number}@example.com" for number in range(count)]


def pairs(count: int) -> list[Item]:
    return [(email, PLAN) for email in emails(count)]


@pytest.fixture
def producer(server: EmbeddedRedis) -> Iterator[Producer]:
    found = Producer(replace(load_settings(), redis_url=Secret(server.url)))
    yield found
    found.close()


@pytest.fixture
def inbox(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


def documents(inbox: redis.Redis, *lanes: str) -> list[dict[str, Any]]:
    """What is in the inbox, in the order in which it came."""
    job_ids = [
        job_id
        for lane in lanes or ("bulk",)
        for job_id in inbox.zrange(KEYS.of("inbox", lane), 0, -1)  # type: ignore[arg-type]
    ]
    assert sorted(job_ids) == sorted(inbox.hkeys(KEYS.inbox))
    return [json.loads(inbox.hget(KEYS.inbox, job_id) or "") for job_id in job_ids]


class Listener:
    """Keeps what `on_batch` is told."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def job_ids(self) -> list[str | None]:
        return [job_id for batch in self.batches for job_id in batch.job_ids]


class TestTheItems:
    def test_are_pairs_or_mappings(self, producer: Producer, inbox: redis.Redis) -> None:
        job_id = str(uuid.uuid4())
        done = producer.add_many(
            [
                ("ada@example.com", {"age": 8}),
                {"email": "bob@example.com", "attributes": PLAN},
                {
                    "email": "eve@example.com",
                    "attributes": [{"type": "Integer", "key": "age", "value": "8"}],
                    "source": "crm",
                    "occurred_at": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
                    "idempotency_key": "row-3",
                    "job_id": job_id,
                },
            ]
        )
        assert done == Bulk(enqueued=3, duplicates=0, rejected=0, rejections=())
        found = {document["email"]: document for document in documents(inbox)}
        assert found["ada@example.com"]["attributes"] == [
            {"type": "Integer", "key": "age", "value": 8}
        ]
        assert found["bob@example.com"]["lane"] == "bulk"
        assert json.loads(inbox.hget(KEYS.inbox, job_id) or "") == {
            "v": 1,
            "email": "eve@example.com",
            "attributes": [{"type": "Integer", "key": "age", "value": 8, "source": "crm"}],
            "occurred_at": "2026-03-01T09:30:00.000000Z",
            "lane": "bulk",
            "idempotency_key": "row-3",
        }

    def test_one_that_is_wrong_spoils_only_itself(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        told = Listener()
        items: list[Any] = [
            ("ada@example.com", PLAN),
            ("grace.hopper", {"first name": "Grace", "age": None}),
            "ada@example.com",
            ("ada@example.com", PLAN, "live"),
            {"email": "ada@example.com", "attributes": PLAN, "lane": "live", "x@example.com": 1},
            {"attributes": PLAN, "value": 7},
            {"email": "ada@example.com", "attributes": PLAN, "job_id": "row-6"},
            {"email": "ada@example.com", "attributes": {f"k{n}": "x" * 255 for n in range(250)}},
            ("bob@example.com", PLAN),
        ]
        done = producer.add_many(items, on_batch=told)
        assert (done.enqueued, done.rejected) == (2, 7)
        assert [rejected.position for rejected in done.rejections] == [1, 2, 3, 4, 5, 6, 7]
        assert [[error.path for error in rejected.errors] for rejected in done.rejections] == [
            ["email", "attributes[0].key", "attributes[1].value"],
            [""],
            [""],
            ["lane", "(unknown field)"],
            ["value"],
            ["job_id"],
            [""],
        ]
        assert "grace" not in str(done)
        assert [job_id is None for job_id in told.job_ids] == [False, *[True] * 7, False]
        assert [each["email"] for each in documents(inbox)] == [
            "ada@example.com",
            "bob@example.com",
        ]

    def test_the_errors_are_those_of_add_attributes(self, producer: Producer) -> None:
        arguments: dict[str, Any] = {
            "email": "ada",
            "attributes": {"a b": "", "n": float("nan"), "o": object()},
            "source": "",
            "occurred_at": datetime(2026, 3, 1),
            "idempotency_key": "",
        }
        with pytest.raises(InvalidJob) as caught:
            producer.add_attributes(**arguments)
        [rejected] = producer.add_many([arguments]).rejections
        assert rejected.errors == caught.value.errors

    def test_a_time_too_far_ahead_is_refused(self, producer: Producer) -> None:
        ahead = datetime.now(UTC) + timedelta(minutes=6)
        item = {"email": "ada@example.com", "attributes": PLAN, "occurred_at": ahead}
        [rejected] = producer.add_many([item]).rejections
        assert [error.path for error in rejected.errors] == ["occurred_at"]

    def test_the_later_item_of_an_email_is_the_newer_one(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        """By the order of arrival, which Redis fixes, whatever ids they have."""
        ids = sorted((new_job_id() for _ in range(4)), reverse=True)
        producer.add_many(
            {"email": "ada@example.com", "attributes": {"n": n}, "job_id": job_id}
            for n, job_id in enumerate(ids)
        )
        arrivals = inbox.zrange(KEYS.of("inbox", "bulk"), 0, -1, withscores=True)
        assert [job_id for job_id, _ in arrivals] == ids
        assert len({arrived_us for _, arrived_us in arrivals}) == 4
        assert not any("occurred_at" in each for each in documents(inbox))

    def test_an_item_is_read_whatever_holds_it(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        class Row(NamedTuple):
            email: str
            attributes: dict[str, str]

        items: list[Any] = [
            Row("a@example.com", PLAN),
            ["b@example.com", PLAN],
            UserDict({"email": "c@example.com", "attributes": PLAN, "source": None}),
            MappingProxyType({"email": "d@example.com", "attributes": MappingProxyType(PLAN)}),
        ]
        assert producer.add_many(items).enqueued == 4
        assert [each["email"][0] for each in documents(inbox)] == list("abcd")

    def test_one_whose_time_is_missing_spoils_only_itself(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        """As pandas has it: NaT, which is a datetime and none."""
        items: list[Any] = [
            {
                "email": email,
                "attributes": PLAN,
                "occurred_at": nat() if n == 612 else datetime(2026, 3, 1, tzinfo=UTC),
            }
            for n, email in enumerate(emails(700))
        ]
        done = producer.add_many(items)
        assert (done.enqueued, done.rejected) == (699, 1)
        (rejected,) = done.rejections
        assert rejected.position == 612
        assert str(rejected.errors[0]) == "occurred_at: is missing: this is NaT"
        assert inbox.hlen(KEYS.inbox) == 699

    def test_a_missing_value_is_named_by_its_key_and_the_others_go_on(
        self, producer: Producer
    ) -> None:
        """The row's other attributes are not sent: it named this one, and would miss it."""
        items = [(email, {"plan": "pro", "mrr": 1.5}) for email in emails(3)]
        items[1][1]["mrr"] = float("nan")
        done = producer.add_many(items)
        assert (done.enqueued, done.rejected) == (2, 1)
        (error,) = done.rejections[0].errors
        assert str(error) == "attributes[1].value (key mrr): is missing: this is NaN"


class TestWhatTheCallSays:
    def test_goes_for_all_items(self, producer: Producer, inbox: redis.Redis) -> None:
        producer.add_many(pairs(2), lane="live", only_changed=True)
        assert [(each["lane"], each["only_changed"]) for each in documents(inbox, "live")] == [
            ("live", True),
            ("live", True),
        ]

    @pytest.mark.parametrize(
        ("arguments", "path"),
        [
            ({"lane": "fast"}, "lane"),
            ({"lane": ["live"]}, "lane"),
            ({"only_changed": "yes"}, "only_changed"),
            ({"account": "eu"}, "account"),
            ({"account": float("nan")}, "account"),
            ({"account": []}, "account"),
            ({"lane": None}, "lane"),
        ],
    )
    def test_is_judged_before_an_item_is_taken(
        self, producer: Producer, arguments: dict[str, Any], path: str
    ) -> None:
        items = iter(pairs(1))
        with pytest.raises(InvalidJob) as caught:
            producer.add_many(items, **arguments)
        assert [error.path for error in caught.value.errors] == [path]
        assert list(items), "none was taken"

    @pytest.mark.parametrize("jobs", [None, 7, float("nan"), object()])
    def test_needs_something_to_iterate_over(self, producer: Producer, jobs: Any) -> None:
        with pytest.raises(InvalidJob, match="jobs: must be an iterable of items"):
            producer.add_many(jobs)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"batch_size": 0},
            {"batch_size": 1_001},
            {"batch_size": "500"},
            {"batch_size": float("nan")},
            {"max_waiting": -1},
            {"max_waiting": None},
        ],
    )
    def test_has_bounds(self, producer: Producer, arguments: dict[str, Any]) -> None:
        items = iter(pairs(1))
        with pytest.raises(ValueError, match=next(iter(arguments))):
            producer.add_many(items, **arguments)
        assert list(items), "none was taken"

    def test_the_modules_function_uses_the_shared_producer(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        configure(producer.settings)
        told = Listener()
        done = add_many(
            pairs(3),
            lane="live",
            only_changed=True,
            account="default",
            on_batch=told,
            batch_size=2,
            max_waiting=9,
        )
        assert done.enqueued == len(documents(inbox, "live")) == 3
        assert len(told.batches) == 2


class TestBatches:
    def test_one_message_is_sent_for_all_and_names_no_one(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        producer.add_many(pairs(5), batch_size=2)
        [(text, headers, arguments)] = messages(inbox)
        assert arguments == ["default"]
        assert headers["id"] not in inbox.hkeys(KEYS.inbox)
        assert "customer" not in text
        assert "plan" not in text

    def test_nothing_is_sent_where_nothing_is_new(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        assert producer.add_many([]) == Bulk(enqueued=0, duplicates=0, rejected=0, rejections=())
        assert producer.add_many([("ada", {})]).rejected == 1
        assert inbox.keys() == []
        items = [{"email": "ada@example.com", "attributes": PLAN, "job_id": new_job_id()}]
        producer.add_many(items)
        producer.add_many(items)
        assert inbox.llen(KEY_PREFIX + ACCEPT_QUEUE) == 1

    def test_each_is_told_of_in_the_order_of_its_items(self, producer: Producer) -> None:
        ids = [new_job_id() for _ in range(4)]
        items: list[Item] = [
            {"email": email, "attributes": PLAN, "job_id": job_id}
            for email, job_id in zip(emails(4), ids, strict=True)
        ]
        items.insert(1, ("ada", {}))
        told = Listener()
        done = producer.add_many(items, on_batch=told, batch_size=2)
        assert [len(batch.job_ids) for batch in told.batches] == [2, 2, 1]
        assert told.job_ids == [ids[0], None, *ids[1:]]
        assert [batch.enqueued for batch in told.batches] == [1, 2, 1]
        assert sum(batch.enqueued for batch in told.batches) == done.enqueued
        assert [each for batch in told.batches for each in batch.rejected] == list(done.rejections)

    def test_no_more_items_are_taken_than_make_a_batch(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        taken = 0

        def items() -> Iterator[Item]:
            nonlocal taken
            for item in pairs(6):
                taken += 1
                yield item

        seen: list[tuple[int, int]] = []
        producer.add_many(
            items(), batch_size=2, on_batch=lambda _: seen.append((taken, inbox.hlen(KEYS.inbox)))
        )
        assert seen == [(2, 2), (4, 4), (6, 6)]

    def test_long_documents_make_smaller_ones(self, producer: Producer) -> None:
        long = {f"k{n}": "x" * 255 for n in range(150)}
        told = Listener()
        producer.add_many(((email, long) for email in emails(50)), on_batch=told, batch_size=50)
        assert 1 < len(told.batches) < 5

    def test_the_first_thousand_rejections_are_kept_and_all_are_counted(
        self, producer: Producer
    ) -> None:
        done = producer.add_many((("ada", PLAN) for _ in range(1_200)), batch_size=700)
        assert done.rejected == 1_200
        assert [each.position for each in done.rejections] == list(range(1_000))

    def test_an_exception_of_the_iterable_passes_through_and_what_was_told_is_enqueued(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        def items() -> Iterator[Item]:
            yield from pairs(5)
            raise OSError("the file ended")

        told = Listener()
        with pytest.raises(OSError, match="the file ended") as caught:
            producer.add_many(items(), batch_size=2, on_batch=told)
        assert caught.value.__notes__ == ["add_many: 4 jobs were enqueued before this"]
        assert set(told.job_ids) == set(inbox.hkeys(KEYS.inbox))
        assert len(told.job_ids) == 4

    def test_an_exception_of_on_batch_passes_through_as_well(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        def on_batch(_: Batch) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            producer.add_many(pairs(5), batch_size=2, on_batch=on_batch)
        assert caught.value.__notes__ == ["add_many: 2 jobs were enqueued before this"]
        assert inbox.hlen(KEYS.inbox) == 2


class TestDuplicates:
    def test_an_idempotency_key_seen_before_or_in_the_same_batch(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        first = producer.add_attributes("ada@example.com", PLAN, idempotency_key="row-0")
        told = Listener()
        done = producer.add_many(
            [
                {"email": "ada@example.com", "attributes": PLAN, "idempotency_key": f"row-{n}"}
                for n in (0, 1, 1, 2)
            ],
            on_batch=told,
        )
        assert (done.enqueued, done.duplicates) == (2, 2)
        assert told.job_ids[0] == first.job_id
        assert told.job_ids[1] == told.job_ids[2] != told.job_ids[3]
        assert inbox.hlen(KEYS.inbox) == 3
        assert inbox.ttl(KEYS.of("idem", idempotency_hash("row-1"))) > 0

    def test_an_idempotency_key_with_other_content_is_a_rejection(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        first = producer.add_attributes("ada@example.com", PLAN, idempotency_key="row-0")
        told = Listener()
        done = producer.add_many(
            [
                {"email": email, "attributes": PLAN, "idempotency_key": key}
                for email, key in [
                    ("bob@example.com", "row-0"),
                    ("bob@example.com", "row-1"),
                    ("ADA@example.com", "row-0"),
                    ("eve@example.com", "row-1"),
                ]
            ],
            on_batch=told,
        )
        assert (done.enqueued, done.duplicates, done.rejected) == (1, 1, 2)
        assert [each.position for each in done.rejections] == [0, 3]
        assert str(done.rejections[0].errors[0]) == (
            f"idempotency_key: belongs to job {first.job_id}, which has other content"
        )
        assert [job_id is None for job_id in told.job_ids] == [True, False, False, True]
        assert told.batches[0].enqueued == 1
        assert inbox.hlen(KEYS.inbox) == 2

    def test_an_id_that_is_in_the_inbox_or_has_an_outcome_or_came_twice(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        waiting, ended, new = (new_job_id() for _ in range(3))

        def item(job_id: str, plan: str) -> Item:
            return {
                "email": "ada@example.com",
                "attributes": {"plan": plan},
                "job_id": job_id,
            }

        producer.add_many([item(waiting, "first")], lane="live")
        inbox.hset(KEYS.of("outcome", ended), "s", "delivered")
        told = Listener()
        done = producer.add_many(
            [item(waiting, "later"), item(ended, "later"), item(new, "first"), item(new, "later")],
            on_batch=told,
        )
        assert (done.enqueued, done.duplicates) == (1, 3)
        assert told.job_ids == [waiting, ended, new, new]
        assert inbox.zrange(KEYS.of("inbox", "live"), 0, -1) == [waiting]
        assert inbox.zrange(KEYS.of("inbox", "bulk"), 0, -1) == [new]
        plans = [json.loads(text)["attributes"][0]["value"] for text in inbox.hvals(KEYS.inbox)]
        assert plans == ["first", "first"]

    def test_a_job_with_an_id_leaves_nothing_else_behind(
        self, producer: Producer, inbox: redis.Redis
    ) -> None:
        producer.add_many(
            [{"email": "ada@example.com", "attributes": PLAN, "job_id": new_job_id()}]
        )
        ours = {name for name in inbox.keys() if name.startswith("courier:{")}  # noqa: SIM118
        assert ours == {KEYS.inbox, KEYS.of("inbox", "bulk"), KEYS.of("arrivals")}

    def test_a_call_that_redis_py_made_again_enqueues_and_counts_once(
        self, producer: Producer, inbox: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As it does when the answer was lost."""
        at_redis = producer._intake("default")._inbox
        once = at_redis._enqueue

        def twice(*documents: str, **arguments: Any) -> Any:
            once(*documents, **arguments)
            return once(*documents, **arguments)

        monkeypatch.setattr(at_redis, "_enqueue", twice)
        told = Listener()
        done = producer.add_many(
            [
                *pairs(3),
                {"email": "ada@example.com", "attributes": PLAN, "idempotency_key": "row-3"},
            ],
            on_batch=told,
        )
        assert (done.enqueued, done.duplicates) == (4, 0)
        assert len(documents(inbox)) == 4
        assert set(told.job_ids) == set(inbox.hkeys(KEYS.inbox))
        receipt = producer.add_attributes("ada@example.com", PLAN)
        assert not receipt.duplicate

        # Here nobody can tell a repeated call from a repeated job.
        job_id = new_job_id()
        item = {"email": "ada@example.com", "attributes": PLAN, "job_id": job_id}
        done = producer.add_many([item], on_batch=told)
        assert (done.enqueued, done.duplicates, told.job_ids[-1]) == (0, 1, job_id)


class StubIntake:
    """An inbox in memory."""

    def __init__(self, waiting: Iterator[int] | None = None) -> None:
        self.entries: dict[str, str] = {}
        self.broken = False
        self._waiting = waiting

    def waiting(self) -> int:
        return 0 if self._waiting is None else next(self._waiting)

    def put(self, _lane: str, entries: list[Entry]) -> dict[int, Known]:
        if self.broken:
            raise NotEnqueued("Redis does not answer")
        self.entries |= {entry.job_id: entry.wire for entry in entries}
        return {}

    def add_many(self, jobs: Any, **options: Any) -> Bulk:
        intake: Any = self
        usual = {"batch_size": 2, "max_waiting": 100, "on_batch": None}
        load = BulkLoad(intake, lane="bulk", only_changed=False, **usual | options)
        return load.run(iter(jobs))


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(bulk, "time", found)
    return found


class TestBackPressure:
    def test_it_waits_while_too_many_jobs_are_in_the_inbox(self, clock: Clock) -> None:
        inbox = StubIntake(iter([100, 101, 101, 100, 0]))
        assert inbox.add_many(pairs(6)).enqueued == 6
        assert clock.now == pytest.approx(2 * bulk.LOOK_AGAIN_S)

    def test_it_gives_up_on_an_inbox_that_does_not_shrink(self, clock: Clock) -> None:
        def waiting() -> Iterator[int]:
            yield 0
            yield 0
            while True:
                yield 101

        inbox = StubIntake(waiting())
        with pytest.raises(NotEnqueued) as caught:
            inbox.add_many(pairs(9))
        assert 60 <= clock.now < 61
        assert str(caught.value) == (
            "101 jobs are in the inbox, which has not shrunk for 60 s: no worker seems to run; "
            "4 jobs were enqueued before that"
        )
        assert len(inbox.entries) == 4

    def test_it_waits_for_as_long_as_the_inbox_shrinks(self, clock: Clock) -> None:
        """However slowly, and also while others fill it again."""

        def waiting() -> Iterator[int]:
            for level, seconds in ((500, 25), (700, 30), (400, 50), (600, 5), (300, 55)):
                yield from [level] * (seconds * 10)
            while True:
                yield 0

        assert StubIntake(waiting()).add_many(pairs(2)).enqueued == 2
        assert clock.now > 2 * bulk.STALLED_AFTER_S

    def test_it_keeps_a_real_inbox_small(self, producer: Producer, inbox: redis.Redis) -> None:
        levels = []
        done = threading.Event()

        def work() -> None:
            while not done.is_set():
                levels.append(inbox.hlen(KEYS.inbox))
                for job_id in inbox.hrandfield(KEYS.inbox, 20) or ():
                    inbox.hdel(KEYS.inbox, job_id)
                    inbox.zrem(KEYS.of("inbox", "bulk"), job_id)

        worker = threading.Thread(target=work)
        worker.start()
        try:
            finished = producer.add_many(pairs(300), batch_size=10, max_waiting=40)
        finally:
            done.set()
            worker.join(30)
        assert finished.enqueued == 300
        assert max(levels) <= 50


class TestWithoutRedis:
    def test_the_error_says_how_many_are_enqueued(
        self, server: EmbeddedRedis, inbox: redis.Redis
    ) -> None:
        environ = replace(load_settings(), redis_url=Secret(server.url), enqueue_timeout_s=1.0)
        producer = Producer(environ)
        told = Listener()

        def on_batch(batch: Batch) -> None:
            told(batch)
            if len(told.batches) == 2:
                server.pause()

        try:
            with pytest.raises(
                NotEnqueued, match=r"COURIER_REDIS_URL.*; 4 jobs were enqueued before"
            ):
                producer.add_many(pairs(9), batch_size=2, on_batch=on_batch)
        finally:
            server.resume()
            producer.close()
        assert set(told.job_ids) <= set(inbox.hkeys(KEYS.inbox))

    def test_of_a_batch_under_way_it_says_that_it_may_have_arrived(self) -> None:
        inbox = StubIntake()

        def on_batch(_: Batch) -> None:
            inbox.broken = True

        with pytest.raises(NotEnqueued, match=r"2 jobs were .*, and perhaps 2 more$"):
            inbox.add_many(pairs(9), on_batch=on_batch)


any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
any_item = (
    any_value
    | st.tuples(any_value, any_value)
    | st.tuples(st.just("ada@example.com"), st.dictionaries(st.text(max_size=5), any_value))
    | st.fixed_dictionaries(
        {},
        optional={
            "email": st.just("ada@example.com") | any_value,
            "attributes": st.just(PLAN) | any_value,
            "source": st.just("crm") | any_value,
            "occurred_at": st.datetimes(timezones=st.timezones()) | any_value,
            "idempotency_key": st.just("row") | any_value,
            "job_id": st.uuids().map(str) | any_value,
            "lane": any_value,
        },
    )
)


@given(st.lists(any_item, max_size=8), st.integers(1, 9))
@settings(deadline=None)
def test_whatever_the_items_are_their_neighbours_are_enqueued(
    items: list[Any], batch_size: int
) -> None:
    inbox, told = StubIntake(), Listener()
    good = {"email": "bob@example.com", "attributes": PLAN}
    mixed = [each for item in items for each in (item, good)]
    done = inbox.add_many(iter(mixed), on_batch=told, batch_size=batch_size)
    assert done.enqueued + done.rejected == len(told.job_ids) == len(mixed)
    rejected = {each.position for each in done.rejections}
    assert rejected == {n for n, job_id in enumerate(told.job_ids) if job_id is None}
    assert not [position for position in rejected if position % 2], "a good one"
    for job_id in filter(None, told.job_ids):
        assert is_job_id(job_id)
        assert load_wire(job_id, inbox.entries[job_id])
