"""What nobody thought of: answers of any form, judged and settled.

The normal run has a quick share. `FUZZ_EXAMPLES=10000 pytest -m fuzz` runs so many of each.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribute_courier.config import Secret
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.outcome import STATUSES
from attribute_courier.jobs.schema import load_wire
from attribute_courier.state.mailboxes import Claim, PendingJob, Value
from attribute_courier.worker.chartmogul import MAX_BODY, Answer, NoAnswer
from attribute_courier.worker.confirm import shows
from attribute_courier.worker.masking import MAX_CHARACTERS, masked
from attribute_courier.worker.settlement import Policy, settle
from attribute_courier.worker.verdicts import Kind, Verdict, judge, judge_route

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or 300)
KEY = "5f3c9a0de7b14c2f"
ADA = "ada@example.com"
NOW_US = 1_772_357_400_000_000
JOBS = [f"01a2082a-52c7-7d95-a474-00000000000{n}" for n in range(3)]
VALUES = [
    ("plan", "String", "pro & more"),
    ("seats", "Integer", 12),
    ("mrr", "Decimal", 1.5),
    ("since", "Timestamp", "2016-01-31T00:00:00Z"),
    ("paid", "Boolean", True),
]

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=40),
    st.sampled_from([ADA, quote(ADA), KEY, "Can't find any customers with email", "rate", "404"]),
)
NAMES = st.one_of(
    st.sampled_from(
        ["message", "error", "errors", "error_details", "param", "code", "status", "entries"]
        + ["attributes", "custom", "uuid", "external_id", "key", "value", "data"]
        + [key for key, _, _ in VALUES]
    ),
    TEXTS,
)
JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
        st.sampled_from([200, 404, 429, 500, *[value for _, _, value in VALUES]]),
    ),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=30,
)
CUSTOM = st.dictionaries(NAMES, JSON, max_size=5) | st.just({k: value for k, _, value in VALUES})
CUSTOMERS = st.fixed_dictionaries(
    {
        "entries": st.lists(
            st.fixed_dictionaries({"attributes": st.fixed_dictionaries({"custom": CUSTOM})}),
            max_size=3,
        )
    }
)
DEEP = st.sampled_from(["[", '{"message": ', '{"entries": [', '{"uuid": [', '{"errors": {"a": ['])
BODIES = st.one_of(
    st.binary(max_size=200),
    TEXTS.map(lambda text: text.encode(errors="replace")),
    (JSON | CUSTOMERS).map(lambda found: json.dumps(found).encode()),
    st.tuples(JSON | CUSTOMERS, st.integers(0, 60)).map(
        lambda found: json.dumps(found[0]).encode()[: -1 - found[1]]
    ),
    st.tuples(CUSTOMERS, st.integers(0, 60)).map(
        lambda found: (b" " * MAX_BODY + json.dumps(found[0]).encode())[-MAX_BODY - found[1] :][
            :MAX_BODY
        ]
    ),
    st.tuples(DEEP, st.integers(1, 3000)).map(lambda found: (found[0] * found[1]).encode()),
    st.integers(1, 950).map(
        lambda depth: ('{"entries": [{"uuid": ' + "[" * depth + "]" * depth + "}]}").encode()
    ),
    TEXTS.map(lambda text: f"<html><p title='>'>{text}</p><script>".encode(errors="replace")),
)
STATUSES_SEEN = st.one_of(
    st.sampled_from([200, 200, 200, 202, 204, 400, 401, 404, 404, 407, 413, 422, 429, 503]),
    st.integers(100, 599),
)
ANSWERS = st.builds(
    Answer,
    status=STATUSES_SEEN,
    body=BODIES,
    retry_after_s=st.none() | st.floats(0, 300),
)
NO_ANSWERS = st.builds(NoAnswer, reason=TEXTS, sent=st.booleans(), own_side=st.booleans())
POLICIES = st.builds(
    Policy,
    confirm=st.sampled_from(["echo", "match", "status"]),
    unmatched_delays_s=st.sampled_from([(), (300.0,), (300.0, 3600.0)]),
    unconfirmed_delays_s=st.sampled_from([(), (60.0,)]),
    give_up_after_s=st.sampled_from([0.0, 86_400.0]),
    timeout_s=st.just(10.0),
)
TRIES = st.integers(0, 3)
TIMES = st.sampled_from([0, NOW_US - 10_000_000_000, NOW_US - 1, NOW_US + 1_000_000])
PENDING = st.builds(
    PendingJob,
    job_id=st.just(JOBS[0]),
    attempts=TRIES,
    unmatched=TRIES,
    unmatched_until_us=TIMES,
    unconfirmed=TRIES,
    unconfirmed_until_us=TIMES,
    sent_us=TIMES,
    failing_since_us=st.none() | TIMES,
    failed_alone=st.booleans(),
)


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    jobs, values = [], []
    for number in range(draw(st.integers(1, 3))):
        jobs.append(PendingJob(**{**vars(draw(PENDING)), "job_id": JOBS[number]}))
        for key, type_, content in VALUES[number::3]:
            attribute = Attribute.of(type_, content, key=key)
            version = f"{NOW_US - 1_000_000:016d}{JOBS[number]}"
            values.append(Value(version=version, attribute=attribute))
    return Claim(
        mailbox_id="mailbox",
        token="token",
        email=ADA,
        now_us=NOW_US,
        account_us=NOW_US,
        claimed_s=0,
        answered_s=0.0,
        values=tuple(values),
        jobs=tuple(jobs),
        failures=draw(st.integers(0, 40)),
        batch=draw(st.integers(0, 300)),
    )


pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(1200)]


def judged(answer: Answer | NoAnswer, ping: Answer | NoAnswer) -> Verdict:
    verdict = judge(answer)
    return judge_route(verdict, ping) if verdict.route_in_doubt else verdict


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(ANSWERS | NO_ANSWERS, ANSWERS | NO_ANSWERS, claims(), POLICIES)
def test_any_answer_is_judged_and_settled(
    answer: Answer | NoAnswer, ping: Answer | NoAnswer, claim: Claim, policy: Policy
) -> None:
    verdict = judged(answer, ping)
    assert verdict.kind is not Kind.ROUTE
    if verdict.kind is Kind.TAKEN:
        assert isinstance(answer, Answer)
        assert 200 <= answer.status < 300
    else:
        assert not verdict.shown
        assert verdict.message or isinstance(answer, NoAnswer) or isinstance(ping, NoAnswer)
    if isinstance(answer, Answer) and 400 <= answer.status < 500 and not _is_json(answer.body):
        found = judge(answer).kind  # of a 404, a ping may say that the URL is wrong
        assert found in (Kind.SERVER, Kind.PACE) or answer.status in (407, 413)

    reason = masked(
        verdict.message or "",
        email=claim.email,
        values=[value.attribute.value for value in claim.values],
        api_key=Secret(KEY),
    )
    assert reason.isprintable()
    assert len(reason) <= MAX_CHARACTERS
    assert ADA not in reason
    assert KEY[:8] not in reason

    settlement = settle(verdict, claim, policy, reason=reason)
    assert [job.job_id for job in settlement.jobs] == [job.job_id for job in claim.jobs]
    assert settlement.retry_s >= 0
    assert settlement.rest_s >= 0
    for before, job in zip(claim.jobs, settlement.jobs, strict=True):
        mine = [value.attribute for value in claim.values if value.job_id == job.job_id]
        assert job.status in STATUSES
        assert json.dumps(job.fields).encode()
        _check_fields(job.fields)
        if verdict.kind in (Kind.ACCOUNT, Kind.PACE):
            assert job.status == "pending"
            assert "attempts" not in job.fields, "no attempt is counted"
        else:
            assert job.fields["attempts"] == before.attempts + 1
        if job.status == "delivered":
            assert verdict.kind is Kind.TAKEN
            if policy.confirm == "echo":
                for attribute in mine:
                    assert any(shows(custom, attribute) for custom in verdict.shown)
        elif policy.confirm == "echo" and verdict.kind is Kind.TAKEN:
            assert job.status in ("pending", "unconfirmed")


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return len(body) >= MAX_BODY
    return True


def _check_fields(fields: dict[str, Any]) -> None:
    for value in fields.values():
        str(value).encode()
    if document := fields.get("document"):
        assert load_wire(JOBS[0], document).email == ADA
