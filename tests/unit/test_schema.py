"""What makes a job, and reading and writing its wire text."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.emails import email_fault, trimmed
from attribute_courier.jobs.errors import CourierError, InvalidJob, UnknownWireVersion
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.schema import (
    MAX_WIRE_BYTES,
    dump_wire,
    email_of_wire,
    load_job,
    load_wire,
)

JOB_ID = "01a2082a-52c7-7d95-a474-98e041f97465"
FACEBOOK = {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"}
AGE = {"type": "Integer", "key": "age", "value": 8}


def document(**changes: Any) -> dict[str, Any]:
    """A good document, with some fields changed, or left out where the change is `...`."""
    whole = {
        "v": 1,
        "email": "ada@example.com",
        "attributes": [FACEBOOK, AGE],
        "occurred_at": "2026-03-01T09:30:00Z",
        "lane": "live",
        "idempotency_key": "signup-17",
    }
    return {name: value for name, value in (whole | changes).items() if value is not ...}


def errors(found: Any, job_id: object = JOB_ID) -> dict[str, str]:
    with pytest.raises(InvalidJob) as caught:
        load_job(job_id, found)
    assert str(caught.value) == "; ".join(map(str, caught.value.errors))
    return {error.path: error.message for error in caught.value.errors}


def wire_error(wire: str | bytes) -> str:
    with pytest.raises(InvalidJob) as caught:
        load_wire(JOB_ID, wire)
    (error,) = caught.value.errors
    assert error.path == ""
    return error.message


class TestAGoodJob:
    def test_is_loaded_with_every_field(self) -> None:
        assert load_job(JOB_ID, document()) == AttributeJob(
            job_id=JOB_ID,
            email="ada@example.com",
            attributes=(
                Attribute.of("String", "Facebook", key="channel", source="integration"),
                Attribute.of("Integer", 8, key="age"),
            ),
            occurred_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
            lane="live",
            idempotency_key="signup-17",
        )

    def test_may_leave_out_what_is_optional_or_say_null(self) -> None:
        left_out = load_job(JOB_ID, document(lane=..., idempotency_key=...))
        null = load_job(JOB_ID, document(lane=None, only_changed=None, idempotency_key=None))
        assert left_out == null
        assert (null.lane, null.only_changed, null.idempotency_key) == ("live", False, None)
        assert load_job(JOB_ID, document(attributes=[AGE | {"source": None}])).attributes == (
            Attribute.of("Integer", 8, key="age"),
        )

    def test_has_its_email_trimmed_and_otherwise_as_given(self) -> None:
        """What ChartMogul takes for the same is not known: it is sent what the caller wrote."""
        assert load_job(JOB_ID, document(email=" Ada@EXAMPLE.com\n")).email == "Ada@EXAMPLE.com"

    def test_may_leave_it_to_redis_when_it_occurred(self) -> None:
        for unsaid in (None, ...):
            made = load_job(JOB_ID, document(occurred_at=unsaid))
            assert made.occurred_at is None
            assert "occurred_at" not in dump_wire(made)
            assert load_wire(JOB_ID, dump_wire(made)) == made

    def test_may_lie_in_the_future_by_the_clock_here(self) -> None:
        """The worker judges that, by Redis's clock."""
        assert load_job(JOB_ID, document(occurred_at="2200-01-01T00:00:00Z"))

    def test_has_up_to_250_attributes(self) -> None:
        many = [AGE | {"key": f"k{n}"} for n in range(250)]
        assert len(load_job(JOB_ID, document(attributes=many)).attributes) == 250


class TestWhatIsRefused:
    @pytest.mark.parametrize("field", ["v", "email", "attributes"])
    def test_a_job_without_a_required_field(self, field: str) -> None:
        assert list(errors(document(**{field: ...}))) == [field]
        assert list(errors(document(**{field: None}))) == [field]

    @pytest.mark.parametrize("field", ["type", "key", "value"])
    def test_an_attribute_without_a_required_field(self, field: str) -> None:
        without = {name: value for name, value in AGE.items() if name != field}
        assert list(errors(document(attributes=[FACEBOOK, without]))) == [f"attributes[1].{field}"]

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"v": 0}, "v"),
            ({"v": "1"}, "v"),
            ({"v": True}, "v"),
            ({"v": 1.0}, "v"),
            ({"email": ""}, "email"),
            ({"email": "ada"}, "email"),
            ({"email": "ada@"}, "email"),
            ({"email": "ada@example"}, "email"),
            ({"email": "a da@example.com"}, "email"),
            ({"email": "ada@example.com, bob@example.com"}, "email"),
            ({"email": "ada@ex\ud83eample.com"}, "email"),
            ({"email": "ada@ex\u2028ample.com"}, "email"),
            ({"email": "a" * 243 + "@example.com"}, "email"),
            ({"email": 7}, "email"),
            ({"email": ["ada@example.com"]}, "email"),
            ({"attributes": []}, "attributes"),
            ({"attributes": {}}, "attributes"),
            ({"attributes": "age=8"}, "attributes"),
            ({"attributes": [AGE | {"key": f"k{n}"} for n in range(251)]}, "attributes"),
            ({"attributes": [AGE, None]}, "attributes[1]"),
            ({"attributes": [AGE, "age"]}, "attributes[1]"),
            ({"attributes": [Attribute.of("Integer", 8, key="age")]}, "attributes[0]"),
            ({"attributes": [AGE | {"type": "integer"}]}, "attributes[0].type"),
            ({"attributes": [AGE | {"type": ["Integer"]}]}, "attributes[0].type"),
            ({"attributes": [AGE | {"key": "a-b"}]}, "attributes[0].key"),
            ({"attributes": [AGE | {"value": True}]}, "attributes[0].value"),
            ({"attributes": [AGE | {"source": ""}]}, "attributes[0].source"),
            ({"attributes": [AGE | {"source": "s" * 256}]}, "attributes[0].source"),
            ({"attributes": [AGE | {"sauce": "x"}]}, "attributes[0].sauce"),
            ({"occurred_at": "2026-03-01T09:30:00"}, "occurred_at"),
            ({"occurred_at": "2026-03-01"}, "occurred_at"),
            ({"occurred_at": datetime(2026, 3, 1)}, "occurred_at"),
            ({"occurred_at": "1969-12-31T23:59:59.999999Z"}, "occurred_at"),
            ({"occurred_at": "2286-11-20T17:46:40Z"}, "occurred_at"),
            ({"occurred_at": 1772357400}, "occurred_at"),
            ({"lane": "Live"}, "lane"),
            ({"lane": ["live"]}, "lane"),
            ({"only_changed": "true"}, "only_changed"),
            ({"only_changed": 1}, "only_changed"),
            ({"idempotency_key": ""}, "idempotency_key"),
            ({"idempotency_key": "k" * 256}, "idempotency_key"),
            ({"idempotency_key": "\udcff"}, "idempotency_key"),
            ({"idempotency_key": 7}, "idempotency_key"),
            ({"attributes": [FACEBOOK | {"value": "a\0b"}]}, "attributes[0].value"),
            ({"attributes": [FACEBOOK | {"value": "  "}]}, "attributes[0].value"),
            ({"emial": "ada@example.com"}, "emial"),
            ({"ada@example.com": 1}, "(unknown field)"),
            ({"x" * 41: 1}, "(unknown field)"),
        ],
    )
    def test_what_breaks_a_rule_is_named_by_its_path(
        self, changes: dict[str, Any], path: str
    ) -> None:
        assert list(errors(document(**changes))) == [path]

    @pytest.mark.parametrize("found", [None, [], "job", 7, True, [document()]])
    def test_what_is_not_an_object_is_no_job(self, found: object) -> None:
        assert list(errors(found)) == [""]

    @pytest.mark.parametrize("job_id", ["", "17", JOB_ID.upper(), None, 7, b"x", [JOB_ID]])
    def test_an_id_that_is_no_uuid(self, job_id: object) -> None:
        assert list(errors(document(), job_id)) == ["job_id"]

    def test_everything_that_is_wrong_is_reported_at_once(self) -> None:
        found = errors(
            document(
                email="nonsense",
                lane="fast",
                extra=1,
                attributes=[
                    {"type": "Integer", "key": "a b", "value": "eight", "source": ""},
                    {"type": "Colour", "key": "age", "value": 8, "unit": "years"},
                    AGE,
                    "nonsense",
                    {"key": "channel", "value": 8},
                ],
                occurred_at="now",
            ),
            job_id="17",
        )
        assert set(found) == {
            "job_id",
            "email",
            "lane",
            "extra",
            "occurred_at",
            "attributes[0].key",
            "attributes[0].value",
            "attributes[0].source",
            "attributes[1].type",
            "attributes[1].unit",
            "attributes[2].key",
            "attributes[3]",
            "attributes[4].type",
        }

    def test_a_key_given_twice_names_both_positions(self) -> None:
        found = errors(document(attributes=[AGE, FACEBOOK, AGE | {"value": 9}]))
        assert found == {
            "attributes[2].key": "the same key as attributes[0]; a job sets a key once"
        }

    def test_keys_that_differ_in_case_are_two_keys(self) -> None:
        assert load_job(JOB_ID, document(attributes=[AGE, AGE | {"key": "AGE"}]))

    def test_the_attribute_is_named_by_its_key_too(self) -> None:
        with pytest.raises(InvalidJob) as caught:
            load_job(JOB_ID, document(attributes=[AGE | {"value": "x" * 300, "extra": 1}]))
        assert {error.key for error in caught.value.errors} == {"age"}
        assert "attributes[0].value (key age): an Integer is" in str(caught.value)

    def test_an_error_is_both_a_courier_error_and_a_value_error(self) -> None:
        with pytest.raises(InvalidJob) as caught:
            load_job(JOB_ID, {})
        assert isinstance(caught.value, CourierError)
        assert isinstance(caught.value, ValueError)
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
        assert copy.errors == caught.value.errors


class TestALaterWireVersion:
    def test_is_told_apart_so_that_a_newer_worker_can_take_the_job(self) -> None:
        with pytest.raises(UnknownWireVersion):
            load_job(JOB_ID, {"v": 2, "to": "a document of another form"})
        with pytest.raises(UnknownWireVersion):
            load_wire(JOB_ID, '{"v": 12}')


class TestWire:
    def test_is_compact_json(self) -> None:
        made = load_job(JOB_ID, document(email="ada@exämple.com"))
        assert dump_wire(made) == (
            '{"v":1,"email":"ada@exämple.com","attributes":['
            '{"type":"String","key":"channel","value":"Facebook","source":"integration"},'
            '{"type":"Integer","key":"age","value":8}],'
            '"occurred_at":"2026-03-01T09:30:00.000000Z","lane":"live",'
            '"idempotency_key":"signup-17"}'
        )

    def test_is_read_as_text_or_as_utf_8(self) -> None:
        made = load_job(JOB_ID, document(idempotency_key="🎉"))
        wire = dump_wire(made)
        assert load_wire(JOB_ID, wire) == made
        assert load_wire(JOB_ID, wire.encode()) == made

    @pytest.mark.parametrize(
        ("wire", "said"),
        [
            ("", "no document, or an empty one"),
            ("{", "not JSON"),
            ("{} {}", "not JSON"),
            ("\ufeff{}", "not JSON"),
            ("{'v': 1}", "not JSON"),
            (b"\xff\xfe", "not UTF-8: see byte 1"),
            ('{"v":1}'.encode("utf-16"), "not UTF-8"),
            ('{"v":1,"v":1}', "same name"),
            ('{"v":1,"attributes":[{"key":"a","key":"b"}]}', "same name"),
            ('{"v":NaN}', "NaN"),
            ('{"v":-Infinity}', "NaN"),
            ("[" * 60_000, "nested"),
            ('{"v":' + "1" * 5000 + "}", "too many digits"),
            ('{"v":1e' + "9" * 50 + "}", "too many digits"),
            ('{"v":"' + "x" * 65_536 + '"}', "more than 65536 bytes"),
            ('{"v":"' + "é" * 33_000 + '"}', "more than 65536 bytes"),
            (b'{"v":"' + b"x" * 65_536 + b'"}', "more than 65536 bytes"),
        ],
    )
    def test_that_is_no_document_is_an_invalid_job(self, wire: str | bytes, said: str) -> None:
        assert said in wire_error(wire)

    def test_with_half_a_surrogate_pair_is_an_invalid_job(self) -> None:
        wire = json.dumps(document(idempotency_key="\ud83e"))
        with pytest.raises(InvalidJob, match="idempotency_key"):
            load_wire(JOB_ID, wire)
        with pytest.raises(InvalidJob, match="idempotency_key"):
            load_wire(JOB_ID, json.dumps(document(idempotency_key="\ud83e"), ensure_ascii=False))

    def test_keeps_the_digits_of_a_number_that_no_double_holds(self) -> None:
        wire = json.dumps(document(attributes=[AGE | {"type": "Decimal", "value": 17}]))
        loaded = load_wire(JOB_ID, wire.replace("17", "0.1234567890123456789", 1))
        assert loaded.attributes[0].value == "0.1234567890123456789"

    def test_of_exactly_64_kib_is_read_and_one_byte_more_is_not(self) -> None:
        wire = dump_wire(load_job(JOB_ID, document()))
        full = wire + " " * (MAX_WIRE_BYTES - len(wire))
        assert load_wire(JOB_ID, full)
        assert "65536" in wire_error(full + " ")

    def test_is_not_written_longer_than_it_can_be_read(self) -> None:
        big = [
            {"type": "String", "key": f"k{n}", "value": "🎉" * 255, "source": "s"}
            for n in range(100)
        ]
        with pytest.raises(InvalidJob, match="65536"):
            dump_wire(load_job(JOB_ID, document(attributes=big)))


class TestTheEmailOfWhatIsNoJob:
    @pytest.mark.parametrize(
        "wire",
        [
            '{"email":" ada@example.com"}',
            '{"v":1,"email":"ada@example.com","attributes":[7]}',
            b'{"email":"ada@example.com"}',
        ],
    )
    def test_is_read_where_there_is_one(self, wire: str | bytes) -> None:
        assert email_of_wire(wire) == "ada@example.com"

    @pytest.mark.parametrize(
        "wire",
        [
            *("", "{", "[]", "7", "[" * 60_000, "{}", '{"email":7}', '{"email":"ada"}', b"\xff"),
            *('{"email":"ada@\\ud83e.com"}', '{"email":"a\\u0000@example.com"}'),
            '{"email":"' + "a" * 300 + '@example.com"}',
            '{"email":"ada@example.com","v":' + "1" * 5000 + "}",
            '{"email":"ada@example.com"}' + " " * MAX_WIRE_BYTES,
        ],
    )
    def test_is_none_where_nothing_may_be_one(self, wire: str | bytes) -> None:
        assert email_of_wire(wire) is None


# What follows drives the schema with what nobody thought of.

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | st.decimals()
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
types = st.sampled_from(["String", "Integer", "Decimal", "Timestamp", "Boolean"])
any_attribute = st.fixed_dictionaries(
    {},
    optional={
        "type": types | any_json,
        "key": st.sampled_from(["age", "channel"]) | any_json,
        "value": any_json,
        "source": any_json,
        "more": any_json,
    },
)
any_document = st.fixed_dictionaries(
    {},
    optional={
        "v": st.just(1) | any_json,
        "email": st.just("ada@example.com") | any_json,
        "attributes": st.lists(any_attribute | any_json, max_size=4) | any_json,
        "occurred_at": st.just("2026-03-01T09:30:00Z") | any_json,
        "lane": st.sampled_from(["live", "bulk"]) | any_json,
        "only_changed": st.booleans() | any_json,
        "idempotency_key": any_json,
        "more": any_json,
    },
)


def job_or_errors(
    load: Callable[[Any, Any], AttributeJob], job_id: object, found: Any
) -> AttributeJob | InvalidJob:
    try:
        return load(job_id, found)
    except InvalidJob as invalid:
        return invalid


@given(any_document | any_json, st.just(JOB_ID) | any_json)
@settings(deadline=None, max_examples=500)
def test_whatever_comes_is_a_job_or_an_invalid_one(found: object, job_id: object) -> None:
    judged = job_or_errors(load_job, job_id, found)
    if not isinstance(judged, AttributeJob):
        assert judged.errors
        assert str(judged).isprintable()


@given(any_document | any_json, st.booleans())
@settings(deadline=None, max_examples=300)
def test_whatever_text_comes_is_a_job_or_an_invalid_one(found: object, ascii_: bool) -> None:
    wire = json.dumps(found, default=str, ensure_ascii=ascii_)
    judged = job_or_errors(load_wire, JOB_ID, wire)
    assert isinstance(judged, AttributeJob) or judged.errors


@given(st.binary() | st.text())
@settings(deadline=None)
def test_whatever_bytes_come_are_an_invalid_job(wire: bytes | str) -> None:
    with pytest.raises(InvalidJob):
        load_wire(JOB_ID, wire)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("String"), st.text(min_size=1, max_size=255)),
            st.tuples(st.just("Integer"), st.integers()),
            st.tuples(st.just("Decimal"), st.floats(allow_nan=False, allow_infinity=False)),
            st.tuples(st.just("Decimal"), st.decimals(-(10**20), 10**20, places=18)),
            st.tuples(st.just("Timestamp"), st.datetimes(datetime(2, 1, 1))),
            st.tuples(st.just("Boolean"), st.booleans()),
        ),
        min_size=1,
        max_size=5,
    ),
    st.emails(),
    st.datetimes(datetime(1970, 1, 2), datetime(2286, 1, 1), timezones=st.timezones()),
    st.none() | st.text(min_size=1, max_size=255),
    st.sampled_from(["live", "bulk"]),
    st.booleans(),
)
@settings(deadline=None)
def test_a_job_comes_back_from_its_wire_text_as_it_was(
    values: list[tuple[str, Any]],
    email: str,
    occurred_at: datetime,
    idempotency_key: str | None,
    lane: str,
    only_changed: bool,
) -> None:
    attributes = [
        {"type": type_, "key": f"k{n}", "value": value} for n, (type_, value) in enumerate(values)
    ]
    made = job_or_errors(
        load_job,
        new_job_id(),
        document(
            email=email,
            attributes=attributes,
            occurred_at=occurred_at,
            idempotency_key=idempotency_key,
            lane=lane,
            only_changed=only_changed,
        ),
    )
    if isinstance(made, InvalidJob):
        wrong = {error.path.partition("[")[0] for error in made.errors}
        assert wrong <= {"email", "attributes", "idempotency_key"}
        # Texts with control characters, or of blanks; emails are those of RFC 5322, all of them.
        assert "email" not in wrong or email_fault(trimmed(email))
        return
    again = load_wire(made.job_id, dump_wire(made))
    assert again == made
    assert [type(a.value) for a in again.attributes] == [type(a.value) for a in made.attributes]
    assert again.mailbox_id == made.mailbox_id


SECRET = "Xq7-hush"


def with_a_secret(found: object, place: int) -> list[object]:
    """Copies of a document, each with the secret in another place, as a value or as a field."""
    copies: list[object] = []
    if isinstance(found, dict):
        for name, value in found.items():
            copies += [found | {name: changed} for changed in with_a_secret(value, place)]
        copies.append(found | {SECRET: 1})
    elif isinstance(found, list):
        for n, value in enumerate(found):
            copies += [
                [*found[:n], changed, *found[n + 1 :]] for changed in with_a_secret(value, place)
            ]
    copies += [SECRET, [SECRET], {SECRET: SECRET}, f"{SECRET}@x", f"\ud83e{SECRET}" * place]
    return copies


@pytest.mark.parametrize("place", [1, 40])
@pytest.mark.parametrize("type_", ["String", "Integer", "Decimal", "Timestamp", "Boolean"])
def test_no_error_shows_an_email_or_a_value(type_: str, place: int) -> None:
    good = document(attributes=[{"type": type_, "key": "k", "value": "", "source": "s"}])
    copies = with_a_secret(good, place)
    assert len(copies) > 50
    for copy in copies:
        judged = job_or_errors(load_job, SECRET, copy)  # the id is no UUID: never a job
        assert isinstance(judged, InvalidJob)
        assert SECRET not in str(judged)
        # What a logged traceback would show.
        assert SECRET not in "".join(traceback.format_exception(judged))


def test_reading_a_job_needs_nothing_but_marshmallow() -> None:
    """Producers import these modules: what they need is paid for by every application."""
    program = (
        "import importlib.util, sys, types\n"
        "before = set(sys.modules)\n"
        # The package without its __init__, which imports more.
        "jobs = types.ModuleType('attribute_courier.jobs')\n"
        "found = importlib.util.find_spec('attribute_courier.jobs')\n"
        "jobs.__path__ = found.submodule_search_locations\n"
        "sys.modules['attribute_courier.jobs'] = jobs\n"
        "import attribute_courier.jobs.schema\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(json.loads(ran.stdout.replace("'", '"'))) <= {
        "attribute_courier",
        "marshmallow",
        "packaging",  # of marshmallow 3
        "typing_extensions",
    }
