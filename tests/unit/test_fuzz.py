"""What nobody thought of, on its whole way: documents into the inbox, answers out of ChartMogul.

Each part alone is driven so beside its other tests: the schema in test_schema.py, verdicts,
`Retry-After` and echoes in test_verdicts.py, test_retry_after.py and test_confirm.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import fakeredis
from hypothesis import given, settings
from hypothesis import strategies as st

from attribute_courier.config import load_settings
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.errors import InvalidJob, UnknownWireVersion
from attribute_courier.jobs.ids import is_job_id, new_job_id
from attribute_courier.jobs.job import AttributeJob, mailbox_id_of
from attribute_courier.jobs.outcome import STATUSES, Outcome
from attribute_courier.jobs.schema import dump_wire, load_wire
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Mailboxes
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.worker.account_worker import Courier
from attribute_courier.worker.chartmogul import Answer, ChartMogul, NoAnswer
from attribute_courier.worker.retry_after import retry_after_s

from .test_courier import Post
from .test_schema import any_document, any_json, job_or_errors

KEYS = Keys("default")
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
JOB_ID = "01a2082a-52c7-7d95-a474-98e041f97465"
WIRE = dump_wire(
    AttributeJob(
        job_id=JOB_ID,
        email="grace@example.com",
        attributes=(
            Attribute.of("String", "Größe 😀", key="channel", source="fuzz"),
            Attribute.of("Decimal", "12.50", key="price"),
            Attribute.of("Timestamp", "2016-01-31", key="since"),
        ),
        occurred_at=load_wire(
            JOB_ID,
            '{"v":1,"email":"a@example.com","occurred_at":"2026-03-01T09:30:00Z",'
            '"attributes":[{"type":"Boolean","key":"a","value":true}]}',
        ).occurred_at,
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


@given(nearly_right())
@settings(deadline=None, max_examples=500)
def test_a_document_with_a_few_wrong_bytes_is_a_job_or_an_invalid_one(wire: bytes) -> None:
    judged = job_or_errors(load_wire, JOB_ID, wire)
    if isinstance(judged, InvalidJob):
        assert judged.errors
        assert str(judged).isprintable()
    else:
        assert load_wire(JOB_ID, dump_wire(judged)) == judged


class Stub:
    """A ChartMogul with one answer."""

    answer: Answer | NoAnswer = NoAnswer(reason="nothing was asked", sent=False)

    def add_attributes(self, email: str, custom: Any, **_: Any) -> Answer | NoAnswer:
        return self.answer


class Desk:
    """A courier on an empty Redis, what it sends, and what it says."""

    def __init__(self, **options: Any) -> None:
        fake = fakeredis.FakeServer()
        self.raw: Any = fakeredis.FakeRedis(server=fake)
        client = fakeredis.FakeRedis(
            server=fake, decode_responses=True, encoding_errors="surrogateescape"
        )
        self.client: Any = client
        self.outcomes = Outcomes(client, KEYS)
        self.post = Post()
        self.weather = AccountHealth(client, KEYS, rate_limit=1000, probe_delays_s=(60,))
        self.chartmogul = Stub()
        self.courier = Courier(
            "default",
            replace(load_settings(), **options),
            mailboxes=Mailboxes(client, KEYS, lease_s=60, retention_s=1000, rate_limit=10_000),
            outcomes=self.outcomes,
            weather=self.weather,
            chartmogul=cast(ChartMogul, self.chartmogul),
            post=self.post,
        )

    def good(self, email: str, **values: int) -> AttributeJob:
        return AttributeJob(
            job_id=new_job_id(),
            email=email,
            attributes=tuple(Attribute.of("Integer", n, key=key) for key, n in values.items()),
            occurred_at=self.outcomes.now(),
        )

    def put(self, job_id: bytes, wire: bytes, lane: str | None) -> None:
        self.raw.hset(KEYS.inbox, job_id, wire)
        if lane:
            self.raw.zadd(f"{KEYS.prefix}inbox:{lane}", {job_id: self.raw.hlen(KEYS.inbox)})


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
lanes = st.sampled_from(["live", "bulk", None])


@given(
    st.dictionaries(job_ids, st.tuples(documents, lanes), min_size=1, max_size=5),
    st.permutations(["live", "bulk", None]),
)
@settings(deadline=None)
def test_whatever_lies_in_the_inbox_its_neighbours_are_accepted(
    bad: dict[bytes, tuple[bytes, str | None]], good_lanes: list[str | None]
) -> None:
    desk = Desk()
    good = [desk.good(email, n=1) for email in (ADA, BOB, EVE)]
    entries = [(job_id, *each) for job_id, each in bad.items()]
    for n, (job, lane) in enumerate(zip(good, good_lanes, strict=True)):
        entries.insert(2 * n, (job.job_id.encode(), dump_wire(job).encode(), lane))
    for entry in entries:
        desk.put(*entry)
    with said() as lines:
        desk.courier.accept()
    assert all(line.isprintable() and len(line) < 1000 for line in lines), lines

    leased = {lease.email for lease in desk.post.leases}
    for job in good:
        assert desk.client.hget(KEYS.outcome(job.job_id), "email") == job.email
        assert job.email in leased or desk.client.zcard(KEYS.prefix + "due:bulk")
    for job_id, (wire, _) in bad.items():
        shown = job_id.decode(errors="surrogateescape")
        outcome = desk.outcomes.get(shown)
        assert outcome is not None
        assert str(outcome.to_dict()).isprintable() or not is_job_id(shown)
        try:
            load_wire(shown, wire)
        except UnknownWireVersion:
            assert desk.raw.hexists(KEYS.inbox, job_id)
            assert outcome.status == "pending"
            continue
        except InvalidJob:
            assert outcome.status == "invalid"
        assert not desk.raw.hexists(KEYS.inbox, job_id)
    assert len(desk.outcomes.recent()) == len(desk.post.reported)


odd_text = st.text("ä \ud800\udcff\n😀\x00", max_size=10)
entry = any_json | st.fixed_dictionaries(
    {"uuid": odd_text | any_json, "external_id": any_json},
    optional={
        "attributes": any_json
        | st.fixed_dictionaries(
            {"custom": any_json | st.fixed_dictionaries({"age": st.just(8) | any_json})}
        )
    },
)
bodies = st.binary() | (
    any_json
    | st.fixed_dictionaries({"entries": st.lists(entry, max_size=3) | any_json})
    | st.dictionaries(st.sampled_from(["message", "param", "error", "errors"]), odd_text | any_json)
).map(as_bytes)
headers = st.dictionaries(
    st.sampled_from(["Retry-After", "Date"]),
    st.text(max_size=30) | st.integers(-1, 10**12).map(str),
)
answers = st.builds(
    lambda status, body, headers: Answer(
        status=status, body=body, retry_after_s=retry_after_s(headers)
    ),
    st.integers(100, 599) | st.sampled_from([200, 404, 422, 429, 429, 503]),
    bodies,
    headers,
) | st.builds(NoAnswer, reason=st.text("abc äß😀", max_size=20), sent=st.booleans())


@given(answers, st.sampled_from(["echo", "match", "status"]))
@settings(deadline=None, max_examples=200)
def test_whatever_chartmogul_answers_each_job_has_an_outcome(
    answer: Answer | NoAnswer, confirm: str
) -> None:
    desk = Desk(confirm=confirm)
    jobs = [desk.good(ADA, age=8), desk.good(ADA, seats=2)]
    for job in jobs:
        desk.put(job.job_id.encode(), dump_wire(job).encode(), "live")
    desk.courier.accept()
    (lease,) = desk.post.leases
    desk.chartmogul.answer = answer
    with said():
        assert desk.courier.deliver(lease.mailbox_id, lease.token)

    outcomes = [found for job in jobs if (found := desk.outcomes.get(job.job_id))]
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert_it_can_be_shown(outcome)
        assert ADA not in str(outcome.message)
    box = desk.client.hgetall(KEYS.mailbox(mailbox_id_of(ADA)))
    waiting = {key for key in ("age", "seats") if key in box}
    pending = {key for found in outcomes if not found.ended for key in found.keys}
    assert waiting == pending, "what is not at its end is kept"
    due = desk.client.zcard(KEYS.prefix + "due:live") + desk.client.zcard(KEYS.prefix + "inflight")
    assert due == bool(pending), "and is tried again"
    assert_it_fares(desk)


def assert_it_can_be_shown(outcome: Outcome) -> None:
    assert outcome.status in STATUSES
    assert json.dumps(outcome.to_dict(), ensure_ascii=False).encode()
    assert len(outcome.summary()) < 1000
    assert "\n" not in outcome.summary()


def assert_it_fares(desk: Desk) -> None:
    fare = desk.weather.status()
    assert 0 <= fare.held_for_s <= 301
    assert 0 < fare.rate <= 1000
