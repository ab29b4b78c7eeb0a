"""The examples of ChartMogul's reference and of `docs/wire-format.md`, each as a job."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from attribute_courier.jobs.attributes import AttributeType
from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.errors import InvalidJob
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import Lane
from attribute_courier.jobs.schema import dump_wire, load_job, load_wire
from attribute_courier.state.keys import Keys, idempotency_hash

JOB_ID = "01a2082a-52c7-7d95-a474-98e041f97465"
PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text(encoding="utf-8")

# The request examples of "Add Custom Attributes to Customers by Email", as written there.
CHANNEL = {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"}
REFERENCE: dict[str, list[dict[str, Any]]] = {
    "curl": [CHANNEL, {"type": "Integer", "key": "age", "value": 8}],
    "ruby": [CHANNEL, {"type": "Integer", "key": "age", "value": 8}],
    "node": [CHANNEL, {"type": "Integer", "key": "age", "value": 8}],
    "php": [CHANNEL, {"type": "Integer", "key": "age", "value": 8}],
    "go": [CHANNEL, {"type": "Integer", "key": "CAC", "value": 8}],
    "python": [CHANNEL, {"type": "Integer", "key": "CAC", "value": 8}],
}


@pytest.mark.parametrize("language", REFERENCE)
def test_each_example_of_the_reference_is_a_job_and_is_sent_as_written(language: str) -> None:
    custom = REFERENCE[language]
    made = build_job(email="ada@example.com", attributes=custom)
    assert [attribute.as_dict() for attribute in made.attributes] == custom
    again = load_wire(made.job_id, dump_wire(made))
    assert again == made
    assert [attribute.as_dict() for attribute in again.attributes] == custom


@pytest.mark.parametrize(
    ("type_", "value"),
    [("Boolean", word) for word in ("TRUE", "true", "t", "1", "FALSE", "false", "f", "0")]
    + [("Timestamp", "2016-01-31 00:00:00 UTC"), ("Timestamp", "2022-06-09T13:16:00-04:00")],
)
def test_each_format_of_the_reference_is_accepted(type_: str, value: str) -> None:
    attribute = {"type": type_, "key": "key", "value": value}
    made = load_job(
        JOB_ID,
        {
            "v": 1,
            "email": "ada@example.com",
            "attributes": [attribute],
            "occurred_at": "2026-03-01T09:30:00Z",
        },
    )
    assert load_wire(JOB_ID, dump_wire(made)) == made


def blocks(kind: str) -> list[tuple[str, str]]:
    """The page's code blocks of a kind: what stands behind it, and the content."""
    pattern = rf"^```{kind}\b *([^\n]*)\n(.*?)^```$"
    return re.findall(pattern, PAGE, re.MULTILINE | re.DOTALL)


def rows(last_heading: str) -> list[list[str]]:
    """The rows of the page's table whose last column has this heading."""
    (table,) = re.findall(
        rf"^\|[^\n]*\| {re.escape(last_heading)} \|\n\|[-|]+\|\n((?:\|[^\n]*\n)+)",
        PAGE,
        re.MULTILINE,
    )
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in table.splitlines()
    ]


def in_a_document(type_: str, value: str) -> str:
    return (
        '{"v":1,"email":"ada@example.com","occurred_at":"2026-03-01T09:30:00Z",'
        f'"attributes":[{{"type":"{type_}","key":"key","value":{value}}}]}}'
    )


def test_the_page_has_examples() -> None:
    assert len(blocks("json job")) >= 2
    assert len(blocks("json invalid")) >= 2
    assert len(blocks("lua")) == 1
    assert {row[0] for row in rows("is sent as")} == set(AttributeType)
    assert {row[0] for row in rows("is refused, because")} == set(AttributeType)


@pytest.mark.parametrize("wire", [content for _, content in blocks("json job")])
def test_each_job_of_the_page_is_a_job(wire: str) -> None:
    made = load_wire(JOB_ID, wire)
    assert load_wire(JOB_ID, dump_wire(made)) == made


@pytest.mark.parametrize(("path", "wire"), blocks("json invalid"))
def test_each_invalid_job_of_the_page_breaks_the_rule_it_names(path: str, wire: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        load_wire(JOB_ID, wire)
    assert [error.path for error in caught.value.errors] == [path]


@pytest.mark.parametrize(("type_", "value", "sent"), rows("is sent as"))
def test_each_value_of_the_page_is_sent_as_it_says(type_: str, value: str, sent: str) -> None:
    (attribute,) = load_wire(JOB_ID, in_a_document(type_, value)).attributes
    assert json.dumps(attribute.value) == sent


@pytest.mark.parametrize(("type_", "value", "_why"), rows("is refused, because"))
def test_each_refused_value_of_the_page_is_refused(type_: str, value: str, _why: str) -> None:
    with pytest.raises(InvalidJob, match=r"attributes\[0\]\.value"):
        load_wire(JOB_ID, in_a_document(type_, value))


def test_the_types_of_the_page_are_those_of_the_schema() -> None:
    assert [row[0] for row in rows("sent")] == list(AttributeType)


@pytest.mark.parametrize("lane", ["live", "bulk"])
def test_the_script_of_the_page_publishes_a_job_once(lane: Lane) -> None:
    (_, script), (_, wire) = blocks("lua")[0], blocks("json job")[0]
    keys = Keys("main")
    inbox = keys.of("inbox", lane)
    redis = fakeredis.FakeRedis(decode_responses=True)
    first, second = new_job_id(), new_job_id()

    def publish(job_id: str, *idempotency: str) -> object:
        names = [
            keys.inbox,
            inbox,
            *(keys.of("idem", idempotency_hash(key)) for key in idempotency),
        ]
        return redis.eval(script, len(names), *names, job_id, 2_592_000, wire)

    assert publish(first, "signup-17") == first
    from_ms = redis.zscore(inbox, first)
    assert publish(first, "signup-17") == first  # its answer was lost, and it is run again
    assert publish(second, "signup-17") == first

    assert redis.hgetall(keys.inbox) == {first: wire}
    assert redis.zrange(inbox, 0, -1, withscores=True) == [(first, from_ms)]
    assert 0 < redis.ttl(keys.of("idem", idempotency_hash("signup-17"))) <= 2_592_000

    assert publish(second) == second
    assert redis.hlen(keys.inbox) == redis.zcard(inbox) == 2


def test_the_keys_of_the_page_are_those_of_the_code() -> None:
    keys = Keys("ACCOUNT")
    assert idempotency_hash("signup-17") == hashlib.sha256(b"signup-17").hexdigest()
    lanes = [keys.of("inbox", lane) for lane in ("live", "bulk")]
    for name in (keys.inbox, *lanes, keys.of("idem", "HASH")):
        assert f"`{name}`" in PAGE


def test_the_fields_of_the_page_are_those_of_the_schema() -> None:
    """The refusal of an unknown field lists them."""
    with pytest.raises(InvalidJob) as caught:
        load_job(JOB_ID, {"colour": "red"})
    [said] = [error.message for error in caught.value.errors if error.path == "colour"]
    table = PAGE.partition("## The document")[2].partition("Each attribute:")[0]
    listed = re.findall(r"^\| `(\w+)` \| (?:required|optional) \|", table, re.MULTILINE)
    assert re.findall(r"\w+", said.partition("a job has ")[2].replace(" and ", ", ")) == listed
