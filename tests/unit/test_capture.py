"""What the tests of an application see: its jobs, captured and checked, without Redis."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fakeredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier import (
    Attribute,
    IdempotencyConflict,
    InvalidJob,
    NotReachable,
    Producer,
    Settings,
    add_attributes,
    add_attributes_async,
    add_many,
    configure,
    default_producer,
)
from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.producers.intake import entry_of
from attribute_courier.state.inbox import Inbox
from attribute_courier.state.keys import Keys
from attribute_courier.testing import Capture, capture
from attribute_courier.testing.captured import _Inbox

ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture(autouse=True)
def _no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails."""

    def connect(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture
def captured() -> Iterator[Capture]:
    with capture() as found:
        yield found


class TestWhatIsCaptured:
    def test_is_each_job_as_a_worker_reads_it(self, captured: Capture) -> None:
        when = datetime(2026, 3, 1, tzinfo=UTC)
        receipt = add_attributes(
            f" {ADA} ",
            {"mrr": Decimal("19.90"), "since": date(2026, 3, 1)},
            source="survey",
            occurred_at=when,
            idempotency_key="survey-1",
            lane="bulk",
            only_changed=True,
        )
        [job] = captured.jobs
        assert (job.job_id, job.account, job.email) == (receipt.job_id, "default", ADA)
        assert job.values == {"mrr": 19.9, "since": "2026-03-01T00:00:00Z"}
        assert [attribute.source for attribute in job.attributes] == ["survey", "survey"]
        assert (job.occurred_at, job.lane, job.only_changed) == (when, "bulk", True)
        assert job.idempotency_key == "survey-1"

    def test_is_what_every_way_of_asking_hands_over(self, captured: Capture) -> None:
        before = Producer(Settings(redis_url="redis://127.0.0.1:1/0"))
        add_attributes(ADA, {"n": 1})
        asyncio.run(add_attributes_async(ADA, {"n": 2}))
        add_many([(ADA, {"n": 3})])
        before.add_attributes(ADA, {"n": 4})
        Producer(Settings(enabled=False)).add_attributes(ADA, {"n": 5})
        with ThreadPoolExecutor(1) as threads:
            threads.submit(add_attributes, ADA, {"n": 6}).result()
        assert [job.values["n"] for job in captured.jobs] == [1, 2, 3, 4, 5, 6]

    def test_is_complete_when_many_threads_add(self, captured: Capture) -> None:
        def add(number: int) -> None:
            for each in range(20):
                add_attributes(ADA, {"n": each}, idempotency_key=f"{each}")
                add_attributes(f"{number}@example.com", {"n": each})

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(add, range(8)))
        assert len(captured.of(ADA)) == 20, "one for each key"
        assert len(captured.jobs) == 20 + 8 * 20

    def test_is_the_innermost_captures(self, captured: Capture) -> None:
        add_attributes(ADA, {"n": 1})
        with capture() as inner:
            add_attributes(ADA, {"n": 2})
        add_attributes(ADA, {"n": 3})
        assert [job.values["n"] for job in captured.jobs] == [1, 3]
        assert [job.values["n"] for job in inner.jobs] == [2]

    def test_is_still_there_after_the_block_and_after_an_error(self) -> None:
        found = []

        def fail() -> None:
            with capture() as captured:
                found.append(captured)
                add_attributes(ADA, {"n": 1})
                _ = 1 / 0

        with pytest.raises(ZeroDivisionError):
            fail()
        assert len(found[0].of(ADA)) == 1
        with pytest.raises(Exception, match="nobody said where jobs go"):
            add_attributes(ADA, {"n": 1})

    def test_is_nothing_that_is_not_accepted(self, captured: Capture) -> None:
        for wrong in (
            {"email": "ada"},
            {"attributes": {"first name": "Ada"}},
            {"attributes": {f"k{n}": "€" * 255 for n in range(90)}},
            {"account": "eu"},
            {"occurred_at": datetime.now(UTC) + timedelta(minutes=6)},
        ):
            arguments: Any = {"email": ADA, "attributes": {"n": 1}} | wrong
            with pytest.raises(InvalidJob):
                add_attributes(**arguments)
        done = add_many([("nobody", {"n": 1}), (ADA, {"n": 1}), (ADA, {"n": None})])  # type: ignore[dict-item]
        assert (done.enqueued, done.rejected) == (1, 2)
        assert [each.position for each in done.rejections] == [0, 2]
        assert len(captured.jobs) == 1

    def test_belongs_to_its_account(self, captured: Capture) -> None:
        configure(Settings(accounts=["eu", "us"]))
        for account in (None, "us"):
            add_attributes(ADA, {"n": 1}, account=account, idempotency_key="one")
        assert [job.account for job in captured.jobs] == ["eu", "us"]
        assert captured.assert_added(ADA, account="us").account == "us"
        assert len(default_producer().outcomes(ADA, account="us")) == 1
        with pytest.raises(AssertionError, match="of the account asia was not added"):
            captured.assert_added(ADA, account="asia")

    def test_can_be_forgotten(self, captured: Capture) -> None:
        add_attributes(ADA, {"n": 1}, idempotency_key="one")
        captured.clear()
        captured.assert_nothing_added()
        assert not add_attributes(ADA, {"n": 2}, idempotency_key="one").duplicate


class TestIdempotencyKeys:
    def test_make_one_job_of_two(self, captured: Capture) -> None:
        first = add_attributes(ADA, {"n": 1}, idempotency_key="one")
        again = add_attributes(ADA, {"n": 1}, idempotency_key="one")
        assert (again.job_id, again.duplicate) == (first.job_id, True)
        assert len(captured.jobs) == 1

    def test_with_other_content_are_a_conflict(self, captured: Capture) -> None:
        first = add_attributes(ADA, {"n": 1}, idempotency_key="one")
        with pytest.raises(IdempotencyConflict, match=first.job_id):
            add_attributes(ADA, {"n": 2}, idempotency_key="one")
        item = {"email": ADA, "attributes": {"n": 2}, "idempotency_key": "one"}
        [rejection] = add_many([item]).rejections
        assert rejection.errors[0].path == "idempotency_key"

    @given(
        st.lists(
            st.lists(
                st.tuples(st.sampled_from("abc"), st.sampled_from(["", "1", "2"]), st.booleans()),
                max_size=4,
            ),
            max_size=5,
        )
    )
    def test_and_ids_are_known_as_the_real_inbox_knows_them(
        self, calls: list[list[tuple[str, str, bool]]]
    ) -> None:
        """The capture has no script to ask, and must not have a truth of its own."""
        ids = {name: new_job_id() for name in "abc"}
        client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
        real = Inbox(client, Keys("default"), retention_s=60)
        found = Capture()
        ours = _Inbox(found, "default")
        for call in calls:
            entries = [
                entry_of(
                    build_job(
                        email=ADA,
                        attributes={"n": int(other)},
                        idempotency_key=key or None,
                        job_id=ids[name],
                    )
                )
                for name, key, other in call
            ]
            assert ours.put("live", entries) == (real.put("live", entries).known if entries else {})
        taken = real.take(limit=100, within_s=60, bulk_share=0.1)
        assert [job.job_id for job in found.jobs] == [each.job_id for each in taken]


class TestReceipts:
    def test_are_pending_and_wait_for_nothing(self, captured: Capture) -> None:
        receipt = add_attributes(ADA, {"n": 1})
        outcome = receipt.outcome()
        assert outcome is not None
        assert outcome.status == "pending"
        assert default_producer().outcome(receipt.job_id) == outcome
        for wait in (receipt.wait, lambda: asyncio.run(receipt.wait_async())):
            with pytest.raises(TimeoutError, match=r"captured by a test .*deliver_captured\(\)"):
                wait()

    def test_of_an_email_are_the_newest_first(self, captured: Capture) -> None:
        receipts = [add_attributes(ADA, {"n": n}) for n in range(3)]
        add_attributes(BOB, {"n": 1})
        found = default_producer().outcomes("ADA@example.com", limit=2)
        assert [each.job_id for each in found] == [receipts[2].job_id, receipts[1].job_id]
        assert default_producer().outcome(new_job_id()) is None

    def test_have_nothing_in_redis_to_be_read(self, captured: Capture) -> None:
        with pytest.raises(NotReachable, match=r"attribute_courier\.testing"):
            default_producer().reading()


class TestSettings:
    def test_are_read_anew_in_each_capture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert default_producer().settings.accounts == ("default",)
        monkeypatch.setenv("COURIER_ACCOUNTS", "eu")
        with capture():
            assert default_producer().settings.accounts == ("eu",)
        monkeypatch.delenv("COURIER_ACCOUNTS")
        assert default_producer().settings.accounts == ("default",)

    def test_that_are_configured_stay(self) -> None:
        configure(Settings(accounts=["eu"]))
        with capture():
            assert default_producer().settings.accounts == ("eu",)


def failing(text: str) -> Any:
    return pytest.raises(AssertionError, match=f"^{re.escape(text)}$")


class TestAssertions:
    def test_find_a_job_by_email_and_some_of_its_attributes(self, captured: Capture) -> None:
        add_attributes(ADA, {"plan": "pro", "age": 8})
        receipt = add_attributes(ADA, {"plan": "pro"}, source="survey", lane="bulk")
        add_many([(BOB, {"since": date(2026, 3, 1)})])
        assert captured.assert_added("Ada@EXAMPLE.com").job_id == receipt.job_id
        assert captured.assert_added(ADA, {"plan": "pro"}).lane == "bulk"
        captured.assert_added(ADA, {"age": Attribute.of("Integer", "8")})
        captured.assert_added(ADA, {"plan": "pro"}, times=2)
        captured.assert_added(ADA, {"plan": "pro"}, times=1, exactly=True)
        captured.assert_added(BOB, {"since": datetime(2026, 3, 1)})
        captured.assert_added(ADA, [{"type": "String", "key": "plan", "value": "pro"}])
        captured.assert_nothing_added("eve@example.com")

    def test_show_what_was_added_instead(self, captured: Capture) -> None:
        with failing(f"a job for {ADA} was not added\nNothing was added."):
            captured.assert_added(ADA)
        add_many([(BOB, {"age": 8})])
        add_attributes(ADA, {"plan": "pro"}, source="survey")
        added = (
            f"\nAdded:\n  {ADA}: plan='pro' (String from survey)\n  {BOB}: age=8 (Integer) · bulk"
        )
        with failing(f"a job for {ADA} with plan='free' (String) was not added{added}"):
            captured.assert_added(ADA, {"plan": "free"})
        with failing(f"a job for {ADA} was added 1 times, not 2{added}"):
            captured.assert_added(ADA, times=2)
        with failing(f"a job for {ADA} was added{added}"):
            captured.assert_nothing_added(ADA.upper().lower())
        with pytest.raises(AssertionError, match=r"^a job was added\nAdded:\n  bob@"):
            captured.assert_nothing_added()
        add_many((f"{n}@example.com", {"n": n}) for n in range(100))
        with pytest.raises(AssertionError, match=r"and 82 more$"):
            captured.assert_nothing_added()

    @pytest.mark.parametrize(
        ("added", "wanted"),
        [
            ({"age": "8"}, {"age": 8}),
            ({"age": 8}, {"age": 8.0}),
            ({"flag": True}, {"flag": 1}),
            ({"age": 8}, {"age": 8, "plan": "pro"}),
            ({"plan": "pro"}, {"plan": Attribute.of("String", "pro", source="survey")}),
        ],
    )
    def test_tell_types_and_sources_apart(self, captured: Capture, added: Any, wanted: Any) -> None:
        add_attributes(ADA, added)
        with pytest.raises(AssertionError, match="was not added"):
            captured.assert_added(ADA, wanted)

    def test_are_themselves_held_to_the_rules(self, captured: Capture) -> None:
        add_attributes(ADA, {"plan": "pro"})
        with pytest.raises(InvalidJob):
            captured.assert_added(ADA, {"first name": "Ada"})
        with pytest.raises(ValueError, match="assert_nothing_added"):
            captured.assert_added(ADA, times=0)


def test_captures_may_end_in_any_order() -> None:
    """As those of two threads do."""
    entered, leave = threading.Event(), threading.Event()
    other: list[Capture] = []

    def hold() -> None:
        with capture() as found:
            other.append(found)
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    with capture() as first:
        thread.start()
        assert entered.wait(30)
    add_attributes(ADA, {"n": 1})  # the other one is open still
    leave.set()
    thread.join()
    assert (len(first.jobs), len(other[0].jobs)) == (0, 1)
