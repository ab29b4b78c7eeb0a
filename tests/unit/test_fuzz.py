"""What nobody thought of: Python values handed over, and documents in the inbox.

The normal run has a quick share. `FUZZ_EXAMPLES=10000 pytest -m fuzz` runs so many of each.
"""

from __future__ import annotations

import json
import logging
import os
import types
from collections import UserDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import fakeredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribute_courier.config import Settings
from attribute_courier.jobs.attributes import Attribute, AttributeType
from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.errors import InvalidJob, UnknownWireVersion
from attribute_courier.jobs.ids import is_job_id, new_job_id
from attribute_courier.jobs.outcome import Outcome
from attribute_courier.jobs.schema import load_wire
from attribute_courier.jobs.wire import dump_wire
from attribute_courier.producers import Batch, Producer, Receipt
from attribute_courier.state.inbox import Entry, Inbox, Known
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Limits, Mailboxes
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.worker.acceptance import Acceptance
from attribute_courier.worker.notifier import Notifier

from .test_build import (
    NA,
    Bottomless,
    Broken,
    Endless,
    Liar,
    Moment,
    Nested,
    NoPairs,
    OddDecimal,
    OddFloat,
    OddNumber,
    OddText,
    OddTextKey,
    Raising,
    RaisingList,
    Rights,
    Words,
    Zone,
    fails,
    nat,
    numpy_scalar,
)
from .test_schema import any_document, any_json, any_text, job_or_errors

pytestmark = pytest.mark.fuzz

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 0)
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
KEYS = Keys("default")
JOB_ID = "01a2082a-52c7-7d95-a474-98e041f97465"


def examples(share: int) -> settings:
    """So many examples in the normal run, or as many as the environment says."""
    return settings(
        deadline=None,
        max_examples=EXAMPLES or share,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- Python values ------------------------------------------------------------------------------


class MildText(OddText):
    """Odd in all but what a dict needs of its keys, Hypothesis's own, too."""

    __eq__ = str.__eq__
    __hash__ = str.__hash__


ODD: list[Callable[[], Any]] = [
    *(
        Liar,
        object,
        Raising,
        Bottomless,
        NoPairs,
        Fraction,
        deque,
        set,
        frozenset,
        bytearray,
    ),
    *(
        nat,
        lambda: NA,
        lambda: Broken.ME,
        lambda: Endless.ME,
        lambda: Rights.READ,
        lambda: UUID(int=7),
    ),
    *(
        lambda: OddText("pro"),
        lambda: OddTextKey("age"),
        lambda: OddText(ADA),
        lambda: OddNumber(7),
    ),
    *(
        lambda: OddFloat(1.5),
        lambda: OddDecimal("1.50"),
        lambda: RaisingList([1]),
        lambda: Words.PRO,
    ),
    *(lambda: Nested.LIST, lambda: Nested.NOTHING, lambda: Nested.WORD, lambda: ValueError("x")),
    *(lambda: (n for n in ()), lambda: print, lambda: types, lambda: int, lambda: ..., lambda: 1j),
    *(
        lambda: range(3),
        lambda: memoryview(b"x"),
        lambda: iter([]),
        lambda: lambda: 1,
        lambda: Zone,
    ),
    lambda: Moment(2026, 3, 1, tzinfo=UTC),
    lambda: datetime(2026, 3, 1, tzinfo=Zone(fails)),
    lambda: datetime(2026, 3, 1, tzinfo=Zone(lambda: 7)),
    lambda: datetime.max.replace(tzinfo=timezone(-timedelta(hours=23))),
    lambda: datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
    lambda: numpy_scalar("int64", "i", 7),
    lambda: numpy_scalar("bool", "b", True),
    lambda: numpy_scalar("float32", "f", 0.1, "nonsense"),
    lambda: numpy_scalar("datetime64", "M", None),
    lambda: numpy_scalar("datetime64", "M", 2**62),
    lambda: numpy_scalar("complex64", "c", 1j),
    lambda: type("\n\x1b[31m", (), {"__module__": 7})(),
    lambda: type("generic", (), {"__module__": "numpy"})(),
    lambda: Attribute(type="Int", key=object(), value=object(), source=7),  # type: ignore[arg-type]
    lambda: Attribute.of("Integer", 8),
    lambda: 10**5_000,
    lambda: "x" * 100_000,
    lambda: [[]] * 300,
    lambda: {f"k{n}": n for n in range(300)},
]
odd = st.sampled_from(ODD).map(lambda make: make())
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.fractions()
    | st.complex_numbers()
    | any_text
    | st.sampled_from(["", " ", "\0", "\ud83e", "8", "t", "2026-03-01", "2016-12-31T23:59:60Z"])
    | st.binary(max_size=8)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.uuids()
    | st.sampled_from(AttributeType)
)
hashable = plain.filter(
    lambda each: not (isinstance(each, Decimal) and each.is_snan())
) | st.sampled_from([MildText("age"), OddTextKey("age"), NA, Words.PRO, Nested.LIST])
value = st.recursive(
    plain | odd,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=2).map(MappingProxyType)
        | st.frozensets(hashable, max_size=2)
        | st.lists(inner, max_size=2).map(iter)
    ),
    max_leaves=6,
)
key = st.sampled_from(["age", "plan", "mrr", MildText("nps")]) | hashable
attributes = (
    st.dictionaries(key, value, max_size=3)
    | st.dictionaries(key, value, max_size=2).map(UserDict)
    | st.lists(
        value
        | st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(AttributeType) | value,
                "key": key,
                "value": value,
                "source": value,
                MildText("value"): value,
            },
        )
        | st.builds(Attribute, type=value, key=key, value=value, source=value),
        max_size=3,
    )
    | value
)
email = st.just(ADA) | st.emails() | value
options = {
    "source": value,
    "occurred_at": st.datetimes(timezones=st.timezones()) | value,
    "idempotency_key": value,
}
item = (
    value
    | st.tuples(email, attributes)
    | st.lists(st.one_of(email, attributes), max_size=3)
    | st.fixed_dictionaries(
        {},
        optional={
            "email": email,
            "attributes": attributes,
            **options,
            "job_id": st.uuids().map(str) | value,
            MildText("email"): email,
        },
    )
    | st.dictionaries(hashable, value, max_size=3)
)


class StubIntake:
    """An inbox in memory."""

    account = "default"

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def waiting(self) -> int:
        return 0

    def put(self, _lane: str, entries: list[Entry]) -> dict[int, Known]:
        self.entries |= {entry.job_id: entry.wire for entry in entries}
        return {}


@pytest.fixture(scope="module")
def producer() -> Producer:
    return Producer(Settings(redis_url="redis://127.0.0.1:1/0"))


def with_inbox(producer: Producer) -> StubIntake:
    intake = StubIntake()
    producer._intakes["default"] = cast(Any, intake)
    return intake


def assert_told(invalid: InvalidJob | Any) -> None:
    assert invalid.errors
    for error in invalid.errors:
        assert str(error).isprintable()
        assert len(str(error)) < 500


@given(
    email,
    attributes,
    st.fixed_dictionaries(
        {},
        optional={
            **options,
            "lane": st.sampled_from(["live", "bulk"]) | value,
            "only_changed": st.booleans() | value,
            "account": st.none() | value,
        },
    ),
)
@examples(500)
def test_whatever_is_handed_over_is_a_job_or_an_invalid_one(
    producer: Producer, email: Any, attributes: Any, others: dict[str, Any]
) -> None:
    inbox = with_inbox(producer)
    found: Any
    try:
        found = producer.add_attributes(email, attributes, **others)
    except InvalidJob as invalid:
        found = invalid
    if isinstance(found, InvalidJob):
        assert_told(found)
        assert not inbox.entries
        return
    assert isinstance(found, Receipt)
    ((job_id, wire),) = inbox.entries.items()
    assert found.job_id == job_id
    job = load_wire(job_id, wire)  # what was built is what the worker's schema takes
    assert dump_wire(job) == wire


@given(st.lists(item, max_size=6), st.integers(1, 9))
@examples(300)
def test_whatever_the_items_are_their_neighbours_are_enqueued(
    producer: Producer, items: list[Any], batch_size: int
) -> None:
    inbox = with_inbox(producer)
    batches: list[Batch] = []
    good = {"email": BOB, "attributes": {"plan": "pro"}}
    mixed = [each for item in items for each in (item, good)]
    done = producer.add_many(iter(mixed), on_batch=batches.append, batch_size=batch_size)
    job_ids = [job_id for batch in batches for job_id in batch.job_ids]
    assert done.enqueued + done.rejected == len(job_ids) == len(mixed)
    rejected = {each.position for each in done.rejections}
    assert rejected == {at for at, job_id in enumerate(job_ids) if job_id is None}
    assert not [position for position in rejected if position % 2], "a good one"
    for each in done.rejections:
        assert_told(each)
    for job_id in filter(None, job_ids):
        assert load_wire(job_id, inbox.entries[job_id])


@given(value)
@examples(100)
def test_whatever_is_no_iterable_of_items_is_told(producer: Producer, jobs: Any) -> None:
    inbox = with_inbox(producer)
    found: Any
    try:
        found = producer.add_many(jobs)
    except (InvalidJob, ConnectionError) as error:
        found = error
    if isinstance(found, InvalidJob):
        assert [error.path for error in found.errors] == ["jobs"]
    elif isinstance(found, ConnectionError):  # of `Raising` and `RaisingList`: the caller's own
        assert found.__notes__
    else:
        assert found.enqueued == len(inbox.entries)


# --- Documents in the inbox ---------------------------------------------------------------------

WIRE = dump_wire(
    build_job(
        job_id=JOB_ID,
        email="grace@example.com",
        attributes=[
            Attribute.of("String", "Größe 😀", key="channel", source="fuzz"),
            Attribute.of("Decimal", "12.50", key="price"),
            Attribute.of("Timestamp", "2016-01-31", key="since"),
        ],
        occurred_at="2026-03-01T09:30:00Z",
        lane="bulk",
        only_changed=True,
        idempotency_key="row-17",
    )
).encode()


def as_bytes(found: object) -> bytes:
    return json.dumps(found, default=str).encode()


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A good document, of which bytes are replaced, left out, doubled or added."""
    wire = WIRE
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(wire)))
        end = start + draw(st.integers(0, 3))
        instead = draw(
            st.sampled_from([b"", b"0", b"2", b'"', b"}", b"null", wire[start:end] * 2])
            | st.binary(max_size=3)
        )
        wire = wire[:start] + instead + wire[end:]
    return wire


documents = (
    nearly_right()
    | st.binary(max_size=60)
    | any_document.map(as_bytes)
    | st.builds(lambda v, found: as_bytes(found | {"v": v}), st.integers(2, 9), any_document)
)


@given(nearly_right() | any_json.map(as_bytes))
@examples(300)
def test_a_document_with_a_few_wrong_bytes_is_a_job_or_an_invalid_one(wire: bytes) -> None:
    judged = job_or_errors(load_wire, JOB_ID, wire)
    if isinstance(judged, InvalidJob):
        assert_told(judged)
    else:
        assert load_wire(JOB_ID, dump_wire(judged)) == judged


class StubNotifier:
    """Keeps what is told of outcomes."""

    def __init__(self) -> None:
        self.reported: list[Outcome] = []

    def report(self, outcome: Outcome) -> None:
        self.reported.append(outcome)

    def received(self, _: object) -> None: ...

    accept = deliver = received


@contextmanager
def said() -> Iterator[list[str]]:
    """What the worker logs."""
    lines: list[str] = []
    log = logging.getLogger("attribute_courier.worker")
    listening = logging.Handler()
    listening.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(listening)
    log.propagate = False
    try:
        yield lines
    finally:
        log.propagate = True
        log.removeHandler(listening)


job_ids = (
    st.binary(max_size=40)
    | st.text(max_size=10).map(str.encode)
    | st.uuids().map(lambda found: str(found).encode())
    | st.sampled_from([JOB_ID.upper().encode(), b"i" * 10_000, b"a\r\nb", b"}:outcome:x"])
)


@given(
    st.dictionaries(job_ids, st.tuples(documents, st.sampled_from(["live", "bulk"])), max_size=5),
    st.permutations(["live", "bulk", "live"]),
)
@examples(40)
def test_whatever_lies_in_the_inbox_its_neighbours_are_accepted(
    bad: dict[bytes, tuple[bytes, str]], good_lanes: list[str]
) -> None:
    fake = fakeredis.FakeServer()
    raw: Any = fakeredis.FakeRedis(server=fake)
    client: Any = fakeredis.FakeRedis(
        server=fake, decode_responses=True, encoding_errors="surrogateescape"
    )
    outcomes, notifier = Outcomes(client, KEYS), StubNotifier()
    limits = Limits(rate_limit=1000, max_parallel=20, lease_s=60)
    acceptance = Acceptance(
        "default",
        inbox=Inbox(client, KEYS, retention_s=1000),
        mailboxes=Mailboxes(client, KEYS, limits=limits, retention_s=1000),
        outcomes=outcomes,
        notifier=cast(Notifier, notifier),
        bulk_share=0.1,
    )
    good = [(new_job_id(), address) for address in (ADA, BOB, EVE)]
    entries: list[Any] = [(job_id, *each) for job_id, each in bad.items()]
    for n, ((job_id, address), lane) in enumerate(zip(good, good_lanes, strict=True)):
        job = build_job(job_id=job_id, email=address, attributes={"n": n})
        entries.insert(2 * n, (job_id.encode(), dump_wire(job).encode(), lane))
    for arrival, (job_id, wire, lane) in enumerate(entries, start=1):
        raw.hset(KEYS.inbox, job_id, wire)
        raw.zadd(KEYS.of("inbox", lane), {job_id: arrival})
    with said() as lines:
        acceptance.accept()
    assert all(line.isprintable() and len(line) < 1000 for line in lines), lines

    for job_id, address in good:
        found = outcomes.get(job_id)
        assert found is not None
        assert (found.status, found.email) == ("pending", address)
        assert not raw.hexists(KEYS.inbox, job_id)
    for job_id, (wire, _) in bad.items():
        shown = job_id.decode(errors="surrogateescape")
        outcome = outcomes.get(shown)
        assert outcome is not None
        try:
            load_wire(shown, wire)
        except UnknownWireVersion:
            assert raw.hexists(KEYS.inbox, job_id)
            assert outcome.status == "pending"
            continue
        except InvalidJob:
            assert outcome.status == "invalid"
            assert str(outcome.message).isprintable()
        assert not raw.hexists(KEYS.inbox, job_id)
        assert str(outcome.to_dict()).isprintable() or not is_job_id(shown)
    assert len(outcomes.recent()) == len(notifier.reported)


def test_the_stand_ins_of_this_module_are_odd() -> None:
    """Else the fuzzing would try nothing: each makes a value, and some are refused."""
    made = [make() for make in ODD]
    refused = 0
    for each in made:
        try:
            build_job(email=ADA, attributes={"key": each})
        except InvalidJob:
            refused += 1
    assert 20 < refused < len(made)
