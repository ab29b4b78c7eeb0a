"""`Retry-After` in both its forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier.worker.retry_after import MAX_S, retry_after_s

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), (" 7 ", 7), ("999999999999", MAX_S)])
def test_seconds_are_bounded(text: str, seconds: float) -> None:
    assert retry_after_s({"Retry-After": text}) == seconds


@pytest.mark.parametrize(("ahead_s", "seconds"), [(30, 30), (-30, 0), (10_000, MAX_S)])
def test_a_date_is_compared_with_the_answers_own(ahead_s: int, seconds: float) -> None:
    then = format_datetime(NOW + timedelta(seconds=ahead_s), usegmt=True)
    headers = {"Retry-After": then, "Date": format_datetime(NOW, usegmt=True)}
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 01 Mar 2026 09:30:07 GMT",
        "Sunday, 01-Mar-26 09:30:07 GMT",
        "Sun Mar  1 09:30:07 2026",
        "1 Mar 2026 10:30:07 +0100",
        "2026-03-01T09:30:07Z",
        "2026-03-01T10:30:07.000+01:00",
        "2026-03-01 09:30:07 UTC",
    ],
)
def test_a_date_is_read_in_each_form(text: str) -> None:
    """The three of the RFC, and those that clients of other APIs have met."""
    headers = {"Retry-After": text, "Date": format_datetime(NOW, usegmt=True)}
    assert retry_after_s(headers) == 7


@pytest.mark.parametrize(("text", "seconds"), [("1.5", 1.5), (".5", 0.5), ("2.", 2), ("1e3", None)])
def test_decimals_are_taken_for_what_they_say(text: str, seconds: float | None) -> None:
    """CM8: the RFC knows whole seconds only; a server that says 1.5 means it."""
    assert retry_after_s({"Retry-After": text}) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1, 7", 7),
        ("7, soon", 7),
        ("soon, 1.5, -3", 1.5),
        (f"5, {format_datetime(NOW + timedelta(seconds=30), usegmt=True)}", 30),
        (f"{format_datetime(NOW + timedelta(seconds=30), usegmt=True)}, 40", 40),
        ("9" * 5000, MAX_S),
    ],
)
def test_of_several_values_the_longest_holds(text: str, seconds: float) -> None:
    headers = {"Retry-After": text, "Date": format_datetime(NOW, usegmt=True)}
    assert retry_after_s(headers) == seconds


def test_a_date_without_the_answers_own_is_compared_with_the_clock() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = retry_after_s({"Retry-After": then, "Date": "no date"})
    assert found is not None
    assert 50 < found <= 60


@pytest.mark.parametrize("text", ["", "soon", "-1", "-0.5", "²", "1.5.5", "NaN", "inf"])
def test_nothing_that_can_be_read_is_nothing(text: str) -> None:
    assert retry_after_s({"Retry-After": text}) is None
    assert retry_after_s({}) is None


@given(st.text(), st.text())
def test_never_raises(text: str, date: str) -> None:
    found = retry_after_s({"Retry-After": text, "Date": date})
    assert found is None or 0 <= found <= MAX_S
