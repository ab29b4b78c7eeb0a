"""Whether an answer shows what was sent: values are compared by what they mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier.jobs.attributes import Attribute, AttributeType
from attribute_courier.jobs.errors import InvalidJob
from attribute_courier.worker.confirm import same, shows

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("type_", "sent", "echoed"),
    [
        ("String", "Facebook", "Facebook"),
        ("String", "0123", "0123"),
        ("String", "Größe 😀", "Größe 😀"),
        ("String", "10115", 10115),
        ("String", "1.50", 1.5),
        ("String", "-8", -8.0),
        ("String", "pro ", "pro"),
        ("String", "pro", "\tpro\n"),
        ("String", "two\r\nlines", "two\nlines"),
        ("String", "two\u00a0 words", "two words"),
        ("String", "true", True),
        ("String", "False", False),
        ("String", "Gro\u0308ße", "Größe"),
        ("Integer", 8, 8),
        ("Integer", 8, 8.0),
        ("Integer", 8, "8"),
        ("Integer", "-008", -8),
        ("Integer", 0, -0.0),
        ("Integer", 2**53 + 1, 2**53 + 1),
        ("Integer", "9" * 255, int("9" * 255)),
        ("Integer", "9" * 255, "9" * 255),
        ("Decimal", "12.50", 12.5),
        ("Decimal", 12.5, "12.50"),
        ("Decimal", 8, 8),
        ("Decimal", 0.1, 0.1),
        ("Decimal", "-1e-7", "-0.0000001"),
        ("Decimal", "0.1234567890123456789", "0.1234567890123456789"),
        ("Decimal", "0.1234567890123456789", 0.12345678901234568),
        ("Decimal", "12345678901234567890", 1.2345678901234567e19),
        ("Decimal", "12345678901234567890", 12345678901234567890),
        ("Timestamp", "2016-01-31 00:00:00 UTC", "2016-01-31T00:00:00.000Z"),
        ("Timestamp", "2016-01-31", "2016-01-31T00:00:00Z"),
        ("Timestamp", "2016-01-31T01:30:00.250+01:00", "2016-01-31T00:30:00.250Z"),
        ("Timestamp", "2016-01-31T00:00:00Z", "2016-01-31T02:00:00+02:00"),
        ("Timestamp", "2016-01-31T00:00:00.000999Z", "2016-01-31T00:00:00.000Z"),
        ("Timestamp", "2016-01-31T00:00:00.999999Z", "2016-01-31T00:00:00.999Z"),
        ("Boolean", "t", True),
        ("Boolean", True, "true"),
        ("Boolean", True, "t"),
        ("Boolean", False, 0),
        ("Boolean", "FALSE", "f"),
        ("Boolean", True, "True"),
        ("Boolean", False, "False"),
        ("Boolean", True, 1.0),
        ("Boolean", False, " false "),
        ("Integer", 8, " 8 "),
        ("Integer", 8, "8.0"),
    ],
)
def test_an_echo_that_means_the_same_is_the_value(type_: str, sent: object, echoed: object) -> None:
    assert same(Attribute.of(type_, sent, key="k"), json.loads(json.dumps(echoed)))


@pytest.mark.parametrize(
    ("type_", "sent", "echoed"),
    [
        ("String", "Facebook", "facebook"),
        ("String", "01067", 1067),
        ("String", "+49", 49),
        ("String", "1e3", 1000),
        ("String", "8", 9),
        ("String", "yes", True),
        ("String", "true", False),
        ("String", "1", True),
        ("String", "a b", "ab"),
        ("Integer", 8, 9),
        ("Integer", 8, 8.5),
        ("Integer", 8, "eight"),
        ("Integer", 1, True),
        ("Integer", 0, False),
        ("Integer", 2**53 + 1, 2**53),
        ("Decimal", 0.1, 0.2),
        ("Decimal", 1, True),
        ("Decimal", "1.5", "1,5"),
        ("Decimal", "0.1234567890123456789", 0.1234),
        ("Timestamp", "2016-01-31T00:00:00Z", "2016-01-31T00:00:00.001Z"),
        ("Timestamp", "2016-01-31T00:00:00Z", "2016-01-31T00:00:00+01:00"),
        ("Timestamp", "2016-01-31T00:00:00Z", "31.01.2016"),
        ("Timestamp", "2016-01-31T00:00:00Z", 1454198400),
        ("Boolean", True, False),
        ("Boolean", True, "yes"),
        ("Boolean", False, ""),
        ("Boolean", True, 2),
    ],
)
def test_an_echo_that_means_something_else_is_not(type_: str, sent: object, echoed: object) -> None:
    assert not same(Attribute.of(type_, sent, key="k"), echoed)


SENT = {
    AttributeType.String: "x",
    AttributeType.Integer: 8,
    AttributeType.Decimal: 1.5,
    AttributeType.Timestamp: "2016-01-31T00:00:00Z",
    AttributeType.Boolean: False,
}


@pytest.mark.parametrize("type_", list(AttributeType))
@pytest.mark.parametrize(
    "echoed",
    [None, [], {}, ["x"], {"value": 8}, float("nan"), float("inf"), "", " ", "NaN", "sNaN", "1e99"],
)
def test_an_echo_of_a_wrong_type_is_not_the_value(type_: AttributeType, echoed: object) -> None:
    assert not same(Attribute.of(type_, SENT[type_], key="k"), echoed)


@pytest.mark.parametrize("type_", list(AttributeType))
def test_an_echo_with_an_enormous_number_is_compared_all_the_same(type_: AttributeType) -> None:
    for echoed in (10**4000, "9" * 1_000_000, "1e999999999", "-1e-999999999"):
        assert not same(Attribute.of(type_, SENT[type_], key="k"), echoed)


def test_attributes_show_a_value_under_its_key() -> None:
    age = Attribute.of("Integer", 8, key="age")
    assert shows({"age": 8, "plan": "pro"}, age)
    for custom in ({}, {"Age": 8}, {"age": None}, {"age": 9}, {"plan": 8}):
        assert not shows(custom, age)


def _attribute(type_: str, value: object) -> Attribute:
    return Attribute.of(type_, value, key="k")


def _fits(type_: str, value: object) -> bool:
    try:
        _attribute(type_, value)
    except InvalidJob:  # a text of blanks alone, for one
        return False
    return True


def attributes() -> st.SearchStrategy[Attribute]:
    def of(type_: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Attribute]:
        return values.filter(partial(_fits, type_)).map(partial(_attribute, type_))

    return st.one_of(
        of("String", st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255)),
        of("Integer", st.integers(-(10**200), 10**200)),
        of("Decimal", st.floats(allow_nan=False, allow_infinity=False)),
        of("Decimal", st.decimals(-(10**60), 10**60, places=20).map(Decimal)),
        of("Timestamp", st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))),
        of("Boolean", st.booleans()),
    )


@given(attributes())
def test_a_value_that_comes_back_as_it_was_sent_is_shown(attribute: Attribute) -> None:
    echoed = json.loads(json.dumps(attribute.value))
    assert shows({"k": echoed}, attribute)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))
def test_a_timestamp_that_comes_back_in_milliseconds_is_shown(moment: datetime) -> None:
    attribute = Attribute.of("Timestamp", moment, key="k")
    echoed = moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert same(attribute, echoed)


@given(attributes(), JSON)
def test_no_echo_is_beyond_comparison(attribute: Attribute, echoed: object) -> None:
    assert same(attribute, echoed) in (True, False)
