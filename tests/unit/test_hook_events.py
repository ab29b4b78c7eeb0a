"""What a hook tells of a settled job, and what not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from attribute_courier.jobs.hooks import (
    ACCOUNT_EVENTS,
    DROPPED,
    JOB_SETTLED,
    HookEvent,
    job_settled,
)
from attribute_courier.jobs.job import time_of
from attribute_courier.jobs.outcome import Customer, Outcome

OUTCOME = Outcome(
    job_id="a-job",
    account="eu",
    status="refused",
    email="Ada@Example.com",
    lane="live",
    keys=("plan", "seats"),
    attempts=2,
    http_status=422,
    reason="content",
    message="*** is no good",
    customers=(
        Customer(uuid="cus_1", external_id="ada@example.com"),
        Customer(uuid="cus_2", external_id="u-7"),
    ),
    accepted_at=time_of(1_000_000),
    settled_at=time_of(2_000_000),
)


def told(outcome: Outcome = OUTCOME, *, with_email: bool = False) -> HookEvent:
    return job_settled(
        outcome,
        entry_id="5-0",
        at=time_of(9_000_000),
        with_email=with_email,
        email_hash=lambda email: f"hash of {len(email)}",
    )


def test_all_that_is_known_but_the_email() -> None:
    assert told().document() == {
        "type": "job.settled",
        "timestamp": "1970-01-01T00:00:02+00:00",
        "data": {
            "job_id": "a-job",
            "account": "eu",
            "status": "refused",
            "lane": "live",
            "keys": ["plan", "seats"],
            "attempts": 2,
            "http_status": 422,
            "reason": "content",
            "message": "*** is no good",
            "warning": None,
            "customers": [
                {"uuid": "cus_1", "external_id": "***"},
                {"uuid": "cus_2", "external_id": "u-7"},
            ],
            "occurred_at": None,
            "accepted_at": "1970-01-01T00:00:01+00:00",
            "sent_at": None,
            "settled_at": "1970-01-01T00:00:02+00:00",
            "email_hash": "hash of 15",
        },
    }


def test_the_email_where_that_was_chosen() -> None:
    data = told(with_email=True).data
    assert data["email"] == "Ada@Example.com"
    assert "email_hash" not in data
    assert data["customers"][0]["external_id"] == "ada@example.com"


@pytest.mark.parametrize("taken_for_an_id", ["ADA@EXAMPLE.COM", "crm:ada@example.com"])
def test_no_email_in_a_customers_id(taken_for_an_id: str) -> None:
    customer = Customer(uuid="cus_1", external_id=taken_for_an_id)
    assert (
        "ample" not in json.dumps(told(replace(OUTCOME, customers=(customer,))).document()).lower()
    )


def test_a_settling_has_one_id_and_another_one_another() -> None:
    assert told().id == told().id == "a-job_5-0"
    assert "." not in told().id, "it would be ambiguous in what is signed"


def test_where_the_outcome_does_not_say_when_its_entry_does() -> None:
    assert told(Outcome(job_id="a-job", account="eu", status="failed")).at == time_of(9_000_000)


def test_the_page_shows_what_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text("utf-8")
    [example] = re.findall(r"^```json\n(.*?)^```$", page, re.M | re.S)
    shown = json.loads(example)
    assert shown.keys() == told().document().keys()
    assert shown["data"].keys() == told().data.keys()
    types = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", page, re.M))
    assert types == {JOB_SETTLED, DROPPED, *ACCOUNT_EVENTS}
