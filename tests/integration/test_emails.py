"""Emails as customers have them, on the whole way to ChartMogul."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ..conftest import Courier

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize(
    "email",
    [
        "a..b@load.example",
        ".a@load.example",
        "a.@load.example",
        "jörg@load.example",
        "o'neil+news@load.example",
        '"ada lovelace"@load.example',
    ],
)
def test_a_customer_can_be_named_whatever_its_email(courier: Courier, email: str) -> None:
    courier.start_worker()
    (outcome,) = courier.wait(courier.producer.add_attributes(f" {email}\u200b", {"plan": "pro"}))
    assert (outcome.status, outcome.email) == ("delivered", email)
    assert courier.custom(email) == {"plan": "pro"}


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("ada@load.example", "Ada@LOAD.example"),
        ("Ada@load.example", "ada@load.example"),
        ("ada@bücher.load.example", "ada@xn--bcher-kva.load.example"),
        ("ada@xn--bcher-kva.load.example", "ada@Bücher.load.example"),
    ],
)
def test_the_newest_wins_over_all_spellings_of_one_email(
    courier: Courier, newer: str, older: str
) -> None:
    courier.stand_in.configure(auto_customers="*")
    courier.start_worker()
    first = courier.producer.add_attributes(newer, {"plan": "pro"})
    courier.wait(first)
    (late,) = courier.wait(
        courier.producer.add_attributes(older, {"plan": "free"}, occurred_at=YESTERDAY)
    )
    assert late.status == "superseded"
    assert [each["email"] for each in courier.posts()] == [newer], "sent as the newest spells it"
    assert {each.job_id for each in courier.producer.outcomes(older)} == {
        first.job_id,
        late.job_id,
    }
