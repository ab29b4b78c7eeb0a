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


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "²"])
def test_nothing_that_can_be_read_is_nothing(text: str) -> None:
    assert retry_after_s({"Retry-After": text}) is None
    assert retry_after_s({}) is None


@given(st.text(), st.text())
def test_never_raises(text: str, date: str) -> None:
    found = retry_after_s({"Retry-After": text, "Date": date})
    assert found is None or 0 <= found <= MAX_S
