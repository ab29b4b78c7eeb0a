"""What the stand-in accepts as a value, and the form in which it keeps it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attribute_courier.sandbox.answers import Refused
from attribute_courier.sandbox.attributes import decode, read_attributes


def kept(kind: str, value: Any) -> Any:
    [attribute] = read_attributes({"custom": [{"type": kind, "key": "k", "value": value}]})
    return attribute.value


def refusal(*custom: Any, **content: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(Refused) as refused:
        read_attributes({"custom": list(custom), **content})
    return refused.value.answer.status, json.loads(refused.value.answer.body)


@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        ("String", "Facebook", "Facebook"),
        ("String", "ü" * 255, "ü" * 255),
        ("Integer", "8", 8),
        ("Integer", 8, 8),
        ("Integer", "-8", -8),
        ("Integer", "007", 7),
        ("Decimal", "19.90", 19.9),
        ("Decimal", "1e3", 1000.0),
        ("Decimal", 2, 2.0),
        ("Timestamp", "2016-01-31 00:00:00 UTC", "2016-01-31T00:00:00.000Z"),
        ("Timestamp", "2016-01-31", "2016-01-31T00:00:00.000Z"),
        ("Timestamp", "2016-01-31T01:30:00+01:30", "2016-01-31T00:00:00.000Z"),
        ("Timestamp", "2016-01-31T00:00:00.123456Z", "2016-01-31T00:00:00.123Z"),
        ("Timestamp", "20160131T000000Z", "2016-01-31T00:00:00.000Z"),
        *[("Boolean", word, True) for word in ("TRUE", "true", "t", "1", 1, True)],
        *[("Boolean", word, False) for word in ("FALSE", "false", "f", "0", 0, False)],
    ],
)
def test_a_value_is_kept_in_its_types_form(kind: str, sent: Any, expected: Any) -> None:
    value = kept(kind, sent)
    assert (type(value), value) == (type(expected), expected)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("String", ""),
        ("String", "x" * 256),
        ("String", 8),
        ("Integer", "8.0"),
        ("Integer", 8.0),
        ("Integer", "1 000"),
        ("Integer", "٨"),
        ("Integer", True),
        ("Integer", "9" * 5000),
        ("Decimal", "nan"),
        ("Decimal", "1e999"),
        ("Decimal", 10**400),
        ("Decimal", "1,5"),
        ("Decimal", True),
        ("Timestamp", "31.01.2016"),
        ("Timestamp", "2016-02-30"),
        ("Timestamp", "0001-01-01T00:00:00+14:00"),
        ("Timestamp", 1454198400),
        ("Boolean", "True"),
        ("Boolean", "yes"),
        ("Boolean", 2),
        ("Boolean", 1.0),
        ("Text", "x"),
        (["String"], "x"),
        ("String", ["x"]),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_a_semantic_error(kind: Any, sent: Any) -> None:
    status, body = refusal({"type": kind, "key": "age", "value": sent})
    assert status == 422
    assert list(body["errors"]) == ["age"]


@pytest.mark.parametrize("key", ["first name", "größe", "", "a-b", "a\n", 5])
def test_a_key_has_letters_digits_and_underscores_only(key: Any) -> None:
    assert refusal({"type": "String", "key": key, "value": "x"})[0] == 422


@pytest.mark.parametrize("key", ["channel", "CAC", "convertedAt", "utm_campaign", "_1"])
def test_keys_seen_in_the_wild_are_accepted(key: str) -> None:
    assert read_attributes({"custom": [{"type": "String", "key": key, "value": "x"}]})[0].key == key


def test_every_bad_attribute_is_named_at_once() -> None:
    status, body = refusal(
        {"type": "Integer", "key": "age", "value": "old"},
        {"type": "String", "key": "good", "value": "x"},
        {"type": "Boolean", "key": "paid", "value": "maybe"},
    )
    assert (status, list(body["errors"])) == (422, ["age", "paid"])


@pytest.mark.parametrize("missing", ["type", "key", "value"])
@pytest.mark.parametrize("left_out", [True, False])
def test_a_missing_part_of_an_attribute_is_a_bad_request(missing: str, left_out: bool) -> None:
    entry: dict[str, Any] = {"type": "String", "key": "k", "value": "x", missing: None}
    if left_out:
        del entry[missing]
    status, body = refusal(entry)
    assert (status, body["code"], body["param"]) == (400, 400, missing)


@pytest.mark.parametrize("custom", [None, [], {}, "x", ["x"]])
def test_custom_must_be_a_list_of_objects(custom: Any) -> None:
    with pytest.raises(Refused) as refused:
        read_attributes({"custom": custom})
    assert refused.value.answer.status == 400


def test_associated_emails_are_asked_for_by_a_boolean() -> None:
    entry = {"type": "String", "key": "k", "value": "x"}
    for either in (True, False, None):
        assert read_attributes({"custom": [entry], "with_associated_emails": either})
    assert refusal(entry, with_associated_emails="yes")[0] == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe{\x00}\x00", b"[" * 100_000]
)
def test_what_is_not_json_is_not_read(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(body)
