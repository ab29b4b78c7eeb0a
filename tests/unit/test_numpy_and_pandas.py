"""Scalars of the real NumPy and pandas, where they are installed; the project needs neither.

`test_build.py` holds the same rules to classes that stand in for theirs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.errors import InvalidJob

np: Any = pytest.importorskip("numpy")
pd: Any = pytest.importorskip("pandas")


def value_of(value: object) -> object:
    (attribute,) = build_job(email="ada@example.com", attributes={"key": value}).attributes
    assert type(attribute.value) in (str, int, float, bool)
    return attribute.type.value, attribute.value


def message(**arguments: Any) -> str:
    with pytest.raises(InvalidJob) as caught:
        build_job(**{"email": "ada@example.com", "attributes": {"key": 1}} | arguments)
    (error,) = caught.value.errors
    return error.message


def test_each_scalar_of_numpy_is_what_it_is() -> None:
    for kind in [
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "intp",
        "longlong",
    ]:
        assert value_of(np.dtype(kind).type(7)) == ("Integer", 7)
    for kind in ["float16", "float32", "float64", "longdouble"]:
        assert value_of(np.dtype(kind).type("1.5")) == ("Decimal", 1.5)
    assert value_of(np.float32(0.1)) == ("Decimal", 0.1)
    assert value_of(np.float64(0.1)) == ("Decimal", 0.1)
    assert value_of(np.True_) == ("Boolean", True)
    assert value_of(np.str_("pro")) == ("String", "pro")
    for unit in ("D", "h", "m", "s", "ms", "us", "ns"):
        moment = np.datetime64("2026-03-01", unit)
        assert value_of(moment) == ("Timestamp", "2026-03-01T00:00:00Z")


def test_each_missing_one_is_missing() -> None:
    for value, shown in (
        (np.nan, "NaN"),
        (np.float16("nan"), "NaN"),
        (np.float32("nan"), "NaN"),
        (np.longdouble("nan"), "NaN"),
        (np.datetime64("NaT"), "NaT"),
        (np.datetime64("NaT", "ns"), "NaT"),
        (np.timedelta64("NaT"), "NaT"),
        (pd.NaT, "NaT"),
        (pd.NA, "NA"),
        (np.ma.masked, "masked"),
    ):
        said = f"is missing: this is {shown}"
        assert message(attributes={"key": value}) == said
        for name in ("email", "occurred_at", "source", "idempotency_key", "lane", "only_changed"):
            assert message(**{name: value}) == said


def test_others_are_told() -> None:
    for value in (
        np.complex64(1),
        np.bytes_(b"x"),
        np.timedelta64(5, "s"),
        np.array([1]),
        np.void(b"x"),
        pd.Timedelta("1s"),
        pd.Series([1]),
        pd.Interval(0, 1),
    ):
        assert "no attribute type stands for" in message(attributes={"key": value})
    assert "finite" in message(attributes={"key": np.float32("inf")})
    for value in (
        np.datetime64("29999-01-01"),
        np.datetime64("-5000-01-01"),
        pd.Timestamp(np.datetime64("29999-01-01", "s")),
    ):
        assert "years 1 to 9999" in message(attributes={"key": value})


def test_a_timestamp_of_pandas_is_a_datetime() -> None:
    moment = pd.Timestamp("2026-03-01T10:30:00.123456789", tz="Europe/Berlin")
    assert value_of(moment) == ("Timestamp", "2026-03-01T09:30:00.123456Z")
    job = build_job(email="ada@example.com", attributes={"key": 1}, occurred_at=moment)
    assert job.occurred_at == datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)
    assert "must name its zone" in message(occurred_at=pd.Timestamp("2026-03-01"))
    assert "must name its zone" in message(occurred_at=np.datetime64("2026-03-01"))
    later = pd.Timestamp.now(tz="UTC") + timedelta(hours=1)
    assert "5 minutes in the future" in message(occurred_at=later)


def test_rows_of_a_frame_are_items() -> None:
    frame = pd.DataFrame(
        {
            "email": ["ada@example.com", "bob@example.com"],
            "seats": [7, 8],
            "mrr": pd.array([1.5, None], dtype="Float64"),
            "trial": pd.array([True, None], dtype="boolean"),
            "plan": pd.Categorical(["pro", "free"]),
            "at": pd.to_datetime(["2026-03-01", None]),
        }
    ).set_index("email")
    rows = [(email, dict(row)) for email, row in frame.iterrows()]
    job = build_job(email=rows[0][0], attributes=rows[0][1])
    assert [(each.type.value, each.value) for each in job.attributes] == [
        ("Integer", 7),
        ("Decimal", 1.5),
        ("Boolean", True),
        ("String", "pro"),
        ("Timestamp", "2026-03-01T00:00:00Z"),
    ]
    with pytest.raises(InvalidJob) as caught:
        build_job(email=rows[1][0], attributes=rows[1][1])
    assert [error.key for error in caught.value.errors] == ["mrr", "trial", "at"]
