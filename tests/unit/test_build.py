"""Building a job of what a Python caller hands over, whatever that is."""

from __future__ import annotations

import decimal
import threading
from collections import OrderedDict, UserDict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from attribute_courier.jobs.attributes import Attribute, AttributeType, infer
from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.errors import FieldError, InvalidJob
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.plain import kind
from attribute_courier.jobs.schema import dump_wire, load_wire

ADA = "ada@example.com"


class Late:
    """Makes a value that pytest could not name a test by."""

    def __init__(self, make: Any) -> None:
        self.make = make


def now(value: Any) -> Any:
    return value.make() if type(value) is Late else value


def built(**arguments: Any) -> AttributeJob:
    job = build_job(**{"email": ADA, "attributes": {"plan": "pro"}} | arguments)
    assert load_wire(job.job_id, dump_wire(job)) == job, "what is built is what the schema loads"
    return job


def faults(**arguments: Any) -> list[tuple[str, str | None, str]]:
    with pytest.raises(InvalidJob) as caught:
        build_job(**{"email": ADA, "attributes": {"plan": "pro"}} | arguments)
    assert str(caught.value).isprintable()
    return [(error.path, error.key, error.message) for error in caught.value.errors]


def value_of(value: object) -> tuple[str, object]:
    (attribute,) = built(attributes={"key": now(value)}).attributes
    return attribute.type.value, attribute.value


def fault_of(value: object) -> str:
    ((path, key, message),) = faults(attributes={"key": now(value)})
    assert (path, key) == ("attributes[0].value", "key")
    return message


# --- What stands in for NumPy and pandas, by the names by which theirs are known ---------------
# `test_numpy_and_pandas.py` does the same with the real ones, where they are installed.


def named(name: str, module: str, *bases: type, **content: Any) -> Any:
    return type(name, bases, {"__module__": module, **content})


GENERIC = named("generic", "numpy")


class Kind:
    def __init__(self, letter: str) -> None:
        self.kind = letter


def numpy_scalar(name: str, letter: str, value: object, shown: str = "") -> Any:
    content = {
        "dtype": Kind(letter),
        "item": lambda _: value,
        "astype": lambda self, _: self,
        "__str__": lambda _: shown or str(value),
        "__ne__": lambda _, other: value is None,
        "__hash__": None,
    }
    return named(name, "numpy", GENERIC, **content)()


NA = named(
    "NAType",
    "pandas._libs.missing",
    __hash__=lambda _: 7,
    __bool__=lambda _: 1 / 0,
    __eq__=lambda *_: NA,
)()


def nat() -> Any:
    made: Any = named("NaTType", "pandas._libs.tslibs.nattype", datetime, year=float("nan"))
    return made(2000, 1, 1)


class TestNumpyAndPandas:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (numpy_scalar("int64", "i", 7), ("Integer", 7)),
            (numpy_scalar("uint64", "u", 2**64 - 1), ("Integer", 2**64 - 1)),
            (numpy_scalar("bool", "b", True), ("Boolean", True)),
            (numpy_scalar("float32", "f", 0.10000000149011612, "0.1"), ("Decimal", 0.1)),
            (
                numpy_scalar("datetime64", "M", datetime(2026, 3, 1)),
                ("Timestamp", "2026-03-01T00:00:00Z"),
            ),
        ],
    )
    def test_a_scalar_is_taken_for_what_it_is(self, value: Any, expected: object) -> None:
        found = value_of(value)
        assert found == expected
        assert type(found[1]) in (int, bool, float, str)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "None"),
            (float("nan"), "NaN"),
            (Decimal("NaN"), "NaN"),
            (Decimal("sNaN"), "NaN"),
            (nat(), "NaT"),
            (NA, "NA"),
            (named("MaskedConstant", "numpy.ma", object)(), "masked"),
            (numpy_scalar("float32", "f", float("nan"), "nan"), "NaN"),
            (numpy_scalar("datetime64", "M", None), "NaT"),
            (numpy_scalar("timedelta64", "m", None), "NaT"),
        ],
    )
    def test_a_missing_value_says_that_it_is_missing(self, value: Any, shown: str) -> None:
        assert fault_of(value) == f"is missing: this is {shown}"
        assert faults(email=value) == [("email", None, f"is missing: this is {shown}")]
        if value is not None:
            for name in ("occurred_at", "source", "idempotency_key", "job_id"):
                assert faults(**{name: value}) == [(name, None, f"is missing: this is {shown}")]

    def test_a_time_that_python_does_not_have_is_told(self) -> None:
        assert "years 1 to 9999" in fault_of(numpy_scalar("datetime64", "M", 2**60))

    def test_other_scalars_are_no_values(self) -> None:
        for value in (numpy_scalar("timedelta64", "m", 5), numpy_scalar("void", "V", b"")):
            assert "no attribute type stands for" in fault_of(value)


# --- Subclasses and containers of the caller's own ----------------------------------------------


class OddText(str):
    """Text that answers everything wrongly."""

    def __str__(self) -> str:
        raise RuntimeError

    def __eq__(self, _: object) -> bool:
        raise RuntimeError

    def __len__(self) -> int:
        return -1

    def __hash__(self) -> int:
        return 7

    def strip(self, *_: Any) -> str:
        return "not me"

    def isprintable(self) -> bool:
        return False


class OddNumber(int):
    def __int__(self) -> int:
        return 99

    def __ge__(self, _: object) -> bool:
        raise RuntimeError

    __le__ = __lt__ = __gt__ = __index__ = __ge__  # type: ignore[assignment]


class OddFloat(float):
    def __float__(self) -> float:
        return 99.0

    def __ne__(self, _: object) -> bool:
        raise RuntimeError

    __repr__ = __str__ = __ne__  # type: ignore[assignment]


class OddDecimal(Decimal):
    def is_nan(self) -> bool:
        raise RuntimeError

    __format__ = adjusted = is_nan  # type: ignore[assignment]


class Words(StrEnum):
    PRO = "pro"


class Nested(Enum):
    WORD = Words.PRO
    NOTHING = None
    NUMBER = 7
    LIST = ("a",)


class Rights(Flag):
    READ = 4


class Endless(Enum):
    ME = 1

    @property
    def value(self) -> Any:
        return self


class Broken(Enum):
    ME = 1

    @property
    def value(self) -> Any:
        raise LookupError("s3cr3t")


class Liar:
    """Says that it is text."""

    __class__ = str  # type: ignore[assignment]


class Proxy:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no object is bound")


class TestValues:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (Late(lambda: OddText("pro")), ("String", "pro")),
            (Late(lambda: OddNumber(7)), ("Integer", 7)),
            (Late(lambda: OddFloat(1.5)), ("Decimal", 1.5)),
            (Late(lambda: OddDecimal("1.50")), ("Decimal", 1.5)),
            (Nested.WORD, ("String", "pro")),
            (Nested.NUMBER, ("Integer", 7)),
            (Rights.READ, ("Integer", 4)),
            (datetime(2026, 3, 1), ("Timestamp", "2026-03-01T00:00:00Z")),
            (date(2026, 3, 1), ("Timestamp", "2026-03-01T00:00:00Z")),
            ("-0", ("String", "-0")),
            (-0.0, ("Decimal", 0.0)),
            ("👩‍💻 größer\tals\r\nzwei", ("String", "👩‍💻 größer\tals\r\nzwei")),
        ],
    )
    def test_a_subclass_is_taken_for_its_base_and_its_own_code_is_not_run(
        self, value: object, expected: object
    ) -> None:
        found = value_of(value)
        assert found == expected
        assert type(found[1]) in (int, bool, float, str)

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (object(), "object"),
            (b"pro", "bytes"),
            (bytearray(b"pro"), "bytearray"),
            (["pro"], "list"),
            ({"a": {"b": []}}, "dict"),
            ({"pro"}, "set"),
            (Nested.LIST, "Nested"),
            (time(9, 30), "time"),
            (timedelta(1), "timedelta"),
            (UUID(int=1), "UUID"),
            (Fraction(1, 3), "Fraction"),
            (1j, "complex"),
            (int, "type"),
            (print, "builtin_function_or_method"),
            (threading.Lock(), "lock"),
            ((n for n in ()), "generator"),
            (ValueError("s3cr3t"), "ValueError"),
            (Late(Liar), "Liar"),
            (Late(Proxy), "Proxy"),
            (Endless.ME, "Endless"),
        ],
    )
    def test_of_no_type_are_told_what_they_are(self, value: object, said: str) -> None:
        assert f"no attribute type stands for {said}" in fault_of(value)

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("", "1 to 255 characters"),
            ("x" * 256, "this has 256"),
            ("  ", "is missing"),
            ("a\0", "U+0000"),
            ("\ud83e", "surrogate"),
            (10**300, "at most 255"),
            (Late(lambda: -(10**10_000)), "at most 255"),
            (float("inf"), "finite"),
            (Decimal("1e999999"), "at most 255"),
            (Nested.NOTHING, "is missing: this is None"),
            (Broken.ME, "cannot be read: Broken raised LookupError"),
            (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "years 1 to 9999"),
            (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "years 1 to 9999"),
        ],
    )
    def test_that_their_type_does_not_accept_are_told_why(self, value: object, said: str) -> None:
        assert said in fault_of(value)

    def test_are_read_the_same_under_any_decimal_context(self) -> None:
        values = [Decimal("0.1234567890123456789"), 0.1, Decimal("1E+30"), "12345678901234567890"]
        usual = [infer(value) for value in values]
        strange = decimal.Context(prec=1, Emax=1, Emin=-1, traps=list(decimal.Context().flags))
        with decimal.localcontext(strange):
            assert [infer(value) for value in values] == usual
            assert built(attributes={"n": Decimal("12.50")}).attributes[0].value == 12.5

    def test_of_a_class_with_a_strange_name_are_an_error_that_can_be_printed(self) -> None:
        class Meta(type):
            @property
            def __name__(cls) -> str:  # type: ignore[override]
                raise RuntimeError

        for made in (type("a\nb\x1b[31m", (), {}), type("x" * 10_000, (), {}), Meta("M", (), {})):
            assert kind(made()) in {"object", "M"}
            assert fault_of(made()).isprintable()


class Zone(tzinfo):
    """A time zone that does not work."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def utcoffset(self, _: Any) -> Any:
        return self.answer()


def fails() -> Any:
    raise KeyError("s3cr3t")


class Moment(datetime):
    """As freezegun, pendulum and pandas have them."""

    def astimezone(self, _: Any = None) -> Any:
        raise NotImplementedError

    replace = utcoffset = astimezone  # type: ignore[assignment]


class TestTimes:
    def test_without_a_zone_are_refused_where_they_decide_and_the_difference_is_said(self) -> None:
        """A guess of an hour would let an older value stand over a newer one."""
        ((path, _, message),) = faults(occurred_at=datetime(2026, 3, 1))
        assert path == "occurred_at"
        assert "must name its zone" in message
        assert "Timestamp without a zone is taken as UTC" in message
        assert faults(occurred_at=date(2026, 3, 1))[0][2] == message
        assert faults(occurred_at=numpy_scalar("datetime64", "M", datetime(2026, 3, 1)))

    def test_of_a_subclass_are_read_by_their_fields(self) -> None:
        moment = Moment(2026, 3, 1, 10, 30, 0, 5, tzinfo=timezone(timedelta(hours=1)))
        expected = datetime(2026, 3, 1, 9, 30, 0, 5, tzinfo=UTC)
        found = built(occurred_at=moment, attributes={"at": moment})
        assert found.occurred_at == expected
        assert type(found.occurred_at) is datetime
        assert found.attributes[0].value == "2026-03-01T09:30:00.000005Z"

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (fails, "KeyError"),
            (lambda: 5, "TypeError"),
            (lambda: timedelta(days=2), "ValueError"),
            (lambda: "s3cr3t", "TypeError"),
        ],
    )
    def test_whose_zone_does_not_work_are_told_so(self, answer: Any, said: str) -> None:
        moment = datetime(2026, 3, 1, tzinfo=Zone(answer))
        assert fault_of(moment) == f"its time zone raised {said}"
        assert faults(occurred_at=moment) == [("occurred_at", None, f"its time zone raised {said}")]

    def test_unsaid_are_left_to_redis(self) -> None:
        assert built().occurred_at is None

    @pytest.mark.parametrize("minutes", [4, -10_000_000])
    def test_may_be_a_little_ahead_and_long_ago(self, minutes: int) -> None:
        now = datetime(2026, 3, 1, tzinfo=UTC)
        moment = now + timedelta(minutes=minutes)
        assert built(occurred_at=moment, now=now).occurred_at == moment

    @pytest.mark.parametrize(
        "moment", ["2026-03-01T00:05:01Z", "1969-12-31T23:59:59Z", "2286-11-20T17:46:40Z", 17, ""]
    )
    def test_that_cannot_be_are_refused(self, moment: Any) -> None:
        ((path, _, _),) = faults(occurred_at=moment, now=datetime(2026, 3, 1, tzinfo=UTC))
        assert path == "occurred_at"


class Raising(UserDict[str, Any]):
    def __iter__(self) -> Iterator[str]:
        raise ConnectionError("s3cr3t")

    items = __iter__  # type: ignore[assignment]


class Bottomless(UserDict[str, Any]):
    def items(self) -> Any:
        while True:
            yield "again", 1


class NoPairs(UserDict[str, Any]):
    def items(self) -> Any:
        return ["abc", 7]


class RaisingList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield {"type": "Integer", "key": "age", "value": 8}
        raise ConnectionError("s3cr3t")


class TestAttributes:
    @pytest.mark.parametrize(
        "attributes",
        [
            OrderedDict(plan="pro", age=8),
            MappingProxyType({"plan": "pro", "age": 8}),
            UserDict({"plan": "pro", "age": 8}),
            {OddText("plan"): OddText("pro"), "age": OddNumber(8)},
            {"plan": Attribute.of("String", "pro"), "age": Attribute.of("Integer", "8", key="x")},
            [
                {"type": "String", "key": "plan", "value": "pro"},
                Attribute.of("Integer", 8, key="age"),
            ],
            (
                MappingProxyType({"type": AttributeType.String, "key": "plan", "value": "pro"}),
                UserDict({OddText("type"): "Integer", "key": "age", "value": "8", "source": None}),
            ),
        ],
    )
    def test_come_in_any_mapping_or_list(self, attributes: Any) -> None:
        assert [each.as_dict() for each in built(attributes=attributes).attributes] == [
            {"type": "String", "key": "plan", "value": "pro"},
            {"type": "Integer", "key": "age", "value": 8},
        ]

    def test_without_a_source_of_their_own_get_the_jobs(self) -> None:
        job = built(
            attributes={"a": 1, "b": Attribute.of("Integer", 1, source="crm")}, source="survey"
        )
        assert [each.source for each in job.attributes] == ["survey", "crm"]

    @pytest.mark.parametrize(
        ("attributes", "said"),
        [
            (None, "not NoneType"),
            ("plan=pro", "not str of 8 characters"),
            ({"plan"}, "not set"),
            (iter([]), "not list_iterator"),
            (float("nan"), "not float"),
            ({}, "this has none"),
            ([], "this has none"),
            ({f"k{n}": n for n in range(251)}, "this has more"),
            ([{}] * 100_000, "this has more"),
            (Bottomless(), "this has more"),
            (Raising(), "cannot be read: Raising raised ConnectionError"),
            (NoPairs(), "cannot be read: NoPairs raised"),
            (RaisingList(), "cannot be read: RaisingList raised ConnectionError"),
        ],
    )
    def test_that_are_none_are_told_as_a_whole(self, attributes: Any, said: str) -> None:
        ((path, key, message),) = faults(attributes=attributes)
        assert (path, key) == ("attributes", None)
        assert said in message

    @pytest.mark.parametrize(
        "key",
        [
            *(
                "",
                "a b",
                "é",
                "k" * 256,
                "k" * 10**6,
                "\0",
                "\ud83e",
                Late(lambda: OddText("a-b")),
                Late(Liar),
            ),
            *(7, None, b"plan", ("plan",), float("nan"), NA, Late(Proxy), frozenset()),
        ],
    )
    def test_with_an_odd_key_are_told_their_place(self, key: Any) -> None:
        ((path, shown, message),) = faults(attributes={"plan": "pro", now(key): "pro"})
        assert (path, shown) == ("attributes[1].key", None)
        assert len(message) < 200

    def test_of_one_key_twice_are_told_both_places(self) -> None:
        twice = {"age": 1, OddTextKey("age"): 2}
        listed = [{"type": "Integer", "key": "age", "value": n} for n in range(2)]
        for attributes in (twice, listed):
            assert faults(attributes=attributes) == [
                (
                    "attributes[1].key",
                    "age",
                    "the same key as attributes[0]; a job sets a key once",
                )
            ]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (None, [("attributes[0]", None)]),
            ("age", [("attributes[0]", None)]),
            (Raising(), [("attributes[0]", None)]),
            (
                {},
                [
                    ("attributes[0].type", None),
                    ("attributes[0].key", None),
                    ("attributes[0].value", None),
                ],
            ),
            ({"type": "Integer", "key": "age"}, [("attributes[0].value", None)]),
            ({"type": "Integer", "key": "age", "value": None}, [("attributes[0].value", "age")]),
            ({"type": "Int", "key": "age", "value": 8}, [("attributes[0].type", "age")]),
            ({"type": ["Integer"], "key": "age", "value": 8}, [("attributes[0].type", "age")]),
            (
                {"type": "Integer", "key": "age", "value": 8, 7: 1, "a b": 2, "unit": 3},
                [
                    ("attributes[0].(unknown field)", None),
                    ("attributes[0].(unknown field)", None),
                    ("attributes[0].unit", None),
                ],
            ),
            (
                {"type": "Integer", "key": "age", "value": 8, "source": ""},
                [("attributes[0].source", "age")],
            ),
            (
                Attribute.__new__(Attribute),
                [
                    ("attributes[0].type", None),
                    ("attributes[0].key", None),
                    ("attributes[0].value", None),
                ],
            ),
            (
                Attribute(type="Int", key="a b", value=object(), source=7),  # type: ignore[arg-type]
                [
                    ("attributes[0].key", None),
                    ("attributes[0].type", None),
                    ("attributes[0].source", None),
                ],
            ),
        ],
    )
    def test_of_the_references_form_are_told_all_that_is_wrong(
        self, given: Any, expected: list[Any]
    ) -> None:
        assert [fault[:2] for fault in faults(attributes=[given])] == expected


class OddTextKey(str):
    """Equal to nothing, so that a dict takes it beside its like."""

    def __eq__(self, _: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1


class TestTheRest:
    def test_everything_that_is_wrong_is_told_at_once(self) -> None:
        found = faults(
            email="ada",
            attributes={"a b": "", "n": float("nan"), "o": object(), "good": 1},
            source="",
            occurred_at=datetime(2026, 3, 1),
            idempotency_key="",
            lane="fast",
            only_changed="yes",
            job_id="row-7",
        )
        assert sorted((path, key) for path, key, _ in found) == [
            ("attributes[0].key", None),
            ("attributes[0].value", None),
            ("attributes[1].value", "n"),
            ("attributes[2].value", "o"),
            ("email", None),
            ("idempotency_key", None),
            ("job_id", None),
            ("lane", None),
            ("occurred_at", None),
            ("only_changed", None),
            ("source", None),
        ]

    def test_the_place_and_the_key_stand_in_the_text(self) -> None:
        with pytest.raises(
            InvalidJob, match=r"^attributes\[1\].value \(key mrr\): is missing: this is NaN$"
        ):
            build_job(email=ADA, attributes={"plan": "pro", "mrr": float("nan")})
        assert str(FieldError(path="", message="is wrong")) == "is wrong"

    @pytest.mark.parametrize("name", ["email", "source", "idempotency_key", "lane", "job_id"])
    @pytest.mark.parametrize(
        "value", [7, b"x", ["x"], object(), Late(Liar), Late(Proxy), True, Broken.ME]
    )
    def test_text_is_text(self, name: str, value: Any) -> None:
        assert [path for path, _, _ in faults(**{name: now(value)})] == [name]

    def test_subclasses_of_text_are_text(self) -> None:
        job = built(
            email=OddText(" ada@example.com"),
            source=OddText("crm"),
            idempotency_key=OddText("row-7"),
            lane=OddText("bulk"),
            only_changed=numpy_scalar("bool", "b", True),
        )
        assert (job.email, job.idempotency_key, job.lane) == (ADA, "row-7", "bulk")
        assert job.only_changed is True
        assert {type(text) for text in (job.email, job.idempotency_key, job.lane)} == {str}

    def test_no_error_shows_what_an_exception_of_the_callers_says(self) -> None:
        with pytest.raises(InvalidJob) as caught:
            build_job(email=Broken.ME, attributes=Raising(), lane=ValueError("s3cr3t"))
        assert caught.value.__cause__ is None
        assert "s3cr3t" not in f"{caught.value!r}"

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
    def test_who_wants_to_stop_is_not_held_back(self, stop: type[BaseException]) -> None:
        class Stopping(UserDict[str, Any]):
            def items(self) -> Any:
                raise stop

        with pytest.raises(stop):
            build_job(email=ADA, attributes=Stopping())


def test_a_mapping_is_read_once() -> None:
    """A second look might find something else."""
    looks = 0

    class Changing(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            nonlocal looks
            looks += 1
            return "pro"

        def __iter__(self) -> Iterator[str]:
            return iter(["plan"])

        def __len__(self) -> int:
            return 1

    assert built(attributes=Changing()).attributes[0].value == "pro"
    assert looks == 1
