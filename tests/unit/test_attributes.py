"""The five types, their canonical forms, and which Python value stands for which."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribute_courier.jobs.attributes import (
    Attribute,
    AttributeType,
    attribute_key,
    canonical,
    infer,
)
from attribute_courier.jobs.errors import InvalidJob


class Plan(Enum):
    PRO = "pro"
    LEVEL = 3
    NESTED = Decimal("1.5")
    LIST = ["a"]  # noqa: RUF012


class Channel(StrEnum):
    FACEBOOK = "Facebook"


class Seats(IntEnum):
    TEN = 10


def refusal(type_: str, value: object) -> str:
    with pytest.raises(InvalidJob) as caught:
        canonical(AttributeType(type_), value)
    (error,) = caught.value.errors
    assert error.path == "value"
    return error.message


class TestInference:
    @pytest.mark.parametrize(
        ("value", "type_", "sent"),
        [
            ("Facebook", "String", "Facebook"),
            ("8", "String", "8"),
            ("true", "String", "true"),
            (True, "Boolean", True),
            (False, "Boolean", False),
            (8, "Integer", 8),
            (0, "Integer", 0),
            (8.0, "Decimal", 8.0),
            (Decimal("12.50"), "Decimal", 12.5),
            (Decimal("0.1234567890123456789"), "Decimal", "0.1234567890123456789"),
            (datetime(2016, 1, 31, 1, tzinfo=UTC), "Timestamp", "2016-01-31T01:00:00Z"),
            (datetime(2016, 1, 31, 1), "Timestamp", "2016-01-31T01:00:00Z"),
            (date(2016, 1, 31), "Timestamp", "2016-01-31T00:00:00Z"),
            (Plan.PRO, "String", "pro"),
            (Plan.LEVEL, "Integer", 3),
            (Plan.NESTED, "Decimal", 1.5),
            (Channel.FACEBOOK, "String", "Facebook"),
            (Seats.TEN, "Integer", 10),
        ],
    )
    def test_a_python_value_has_the_type_it_stands_for(
        self, value: object, type_: str, sent: object
    ) -> None:
        found, scalar = infer(value)
        assert (found, scalar) == (type_, sent)
        assert type(scalar) is type(sent)

    @pytest.mark.parametrize(
        ("value", "named"),
        [
            (None, "is missing: this is None"),
            (["a"], "list"),
            ({"a": 1}, "dict"),
            (b"a", "bytes"),
            (timedelta(1), "timedelta"),
            (1j, "complex"),
            (object(), "object"),
            (Plan.LIST, "Plan"),
        ],
    )
    def test_any_other_value_is_an_error_that_names_its_type(
        self, value: object, named: str
    ) -> None:
        with pytest.raises(InvalidJob, match=named):
            infer(value)


class TestString:
    @pytest.mark.parametrize(
        "value", ["a", "x" * 255, "🎉" * 255, " a ", "0123", "a\tb\r\nc", "👩‍💻"]
    )
    def test_is_text_of_1_to_255_characters(self, value: str) -> None:
        assert canonical(AttributeType.String, value) == value

    @pytest.mark.parametrize("value", ["", "x" * 256, "🎉" * 300])
    def test_of_another_length_is_told_its_length(self, value: str) -> None:
        assert f"this has {len(value)}" in refusal("String", value)

    def test_with_half_of_a_surrogate_pair_is_told_where(self) -> None:
        assert "at position 3" in refusal("String", "ab\ud83ec")

    @pytest.mark.parametrize(
        "character", ["\0", "\a", "\b", "\x0b", "\x1b", "\x7f", "\x85", "\x9b"]
    )
    def test_with_a_control_character_is_told_which_and_where(self, character: str) -> None:
        """Databases refuse NUL, and terminals obey ESC: neither is a letter, number or symbol."""
        said = refusal("String", f"ab{character}c")
        assert f"U+{ord(character):04X}, at position 3" in said

    @pytest.mark.parametrize("value", [" ", "   ", "\t\n", "\xa0", "\u200b", "\ufeff ", "\u3000"])
    def test_of_blanks_only_is_a_missing_value_as_in_a_csv_file(self, value: str) -> None:
        assert "is missing" in refusal("String", value)

    @pytest.mark.parametrize("value", [8, 8.5, True, [], {}, b"a"])
    def test_is_no_other_type(self, value: object) -> None:
        assert type(value).__name__ in refusal("String", value)


class TestInteger:
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (8, 8),
            (-8, -8),
            ("8", 8),
            ("-8", -8),
            ("007", 7),
            ("-0", 0),
            ("9" * 255, 10**255 - 1),
            (10**255 - 1, 10**255 - 1),
            (1 - 10**254, 1 - 10**254),
        ],
    )
    def test_is_a_whole_number_or_its_digits(self, value: object, sent: int) -> None:
        found = canonical(AttributeType.Integer, value)
        assert found == sent
        assert type(found) is int

    @pytest.mark.parametrize(
        "value",
        ["", "-", "+8", " 8", "8 ", "8\n", "8.0", "1e3", "1_000", "٨", "８", "0x8", "eight"],
    )
    def test_is_no_other_text(self, value: str) -> None:
        assert "Integer" in refusal("Integer", value)

    @pytest.mark.parametrize("value", [True, False, 8.0, Decimal(8), [8], b"8"])
    def test_is_no_other_type(self, value: object) -> None:
        assert type(value).__name__ in refusal("Integer", value)

    @pytest.mark.parametrize("value", ["9" * 256, "-" + "9" * 255, 10**255, -(10**254)])
    def test_has_at_most_255_characters(self, value: object) -> None:
        assert "255" in refusal("Integer", value)

    def test_too_long_even_for_python_to_write_is_refused_alike(self) -> None:
        assert "255" in refusal("Integer", 10**6000)


class TestDecimal:
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (8, 8.0),
            (12.5, 12.5),
            (0.1, 0.1),
            (-0.0, 0.0),
            (1e300, 1e300),
            (5e-324, 5e-324),
            (Decimal("0.1"), 0.1),
            (Decimal("1E+2"), 100.0),
            (Decimal("0E+999999"), 0.0),
            ("12.50", 12.5),
            (".5", 0.5),
            ("-1e-7", -1e-7),
            ("1E+3", 1000.0),
        ],
    )
    def test_is_a_double_where_that_says_exactly_what_was_given(
        self, value: object, sent: float
    ) -> None:
        found = canonical(AttributeType.Decimal, value)
        assert repr(found) == repr(sent)

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
            ("12345678901234567890", "12345678901234567890"),
            (2**53 + 1, "9007199254740993"),
            ("-00.10000000000000000010", "-0.1000000000000000001"),
            (Decimal("12345678901234567891E+3"), "12345678901234567891000"),
        ],
    )
    def test_is_its_digits_where_a_double_would_lose_some(self, value: object, sent: str) -> None:
        assert canonical(AttributeType.Decimal, value) == sent

    @pytest.mark.parametrize(
        "value",
        [float("inf"), -float("inf"), Decimal("Infinity"), Decimal("-Infinity")],
    )
    def test_is_finite(self, value: object) -> None:
        assert "finite" in refusal("Decimal", value)

    @pytest.mark.parametrize("value", [float("nan"), Decimal("NaN"), Decimal("-sNaN")])
    def test_that_is_not_a_number_is_missing(self, value: object) -> None:
        assert refusal("Decimal", value) == "is missing: this is NaN"

    @pytest.mark.parametrize(
        "value", [Decimal("1E+999999999999"), Decimal("1E-999999999999"), "1e400", 10**300 + 1]
    )
    def test_has_at_most_255_characters_written_out(self, value: object) -> None:
        assert "255" in refusal("Decimal", value)

    @pytest.mark.parametrize(
        "value",
        ["", "-", ".", "5.", "1,5", "+1", "1 000", "1_0", "NaN", "inf", "٨.٥", "0x1p3", "1e"],
    )
    def test_is_no_other_text(self, value: str) -> None:
        assert "Decimal" in refusal("Decimal", value)

    @pytest.mark.parametrize("value", [True, [1.5], b"1.5"])
    def test_is_no_other_type(self, value: object) -> None:
        assert type(value).__name__ in refusal("Decimal", value)

    @given(st.decimals(allow_nan=False, allow_infinity=False) | st.floats(allow_nan=False))
    @settings(deadline=None)
    def test_loses_nothing(self, value: Decimal | float) -> None:
        try:
            sent = canonical(AttributeType.Decimal, value)
        except InvalidJob:
            assert value in (float("inf"), -float("inf")) or len(format(Decimal(value), "f")) > 255
            return
        given_exactly = Decimal(repr(value)) if isinstance(value, float) else value
        assert Decimal(str(sent)) == given_exactly


class TestTimestamp:
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("2016-01-31T00:00:00Z", "2016-01-31T00:00:00Z"),
            ("2016-01-31 00:00:00 UTC", "2016-01-31T00:00:00Z"),
            ("2016-01-31t00:00:00z", "2016-01-31T00:00:00Z"),
            ("2016-01-31T00:00:00.000Z", "2016-01-31T00:00:00Z"),
            ("2016-01-31", "2016-01-31T00:00:00Z"),
            ("20160131", "2016-01-31T00:00:00Z"),
            ("20160131T133000Z", "2016-01-31T13:30:00Z"),
            ("2016-01-31T13", "2016-01-31T13:00:00Z"),
            ("2016-01-31T13:30", "2016-01-31T13:30:00Z"),
            ("2016-01-31T13:30+01", "2016-01-31T12:30:00Z"),
            ("2016-01-31 13:30:00 +0100", "2016-01-31T12:30:00Z"),
            ("2016-01-31T13:30:00-05:30", "2016-01-31T19:00:00Z"),
            ("2016-01-31T13:30:00−05:30", "2016-01-31T19:00:00Z"),
            ("2016-01-31T13:30:00,25Z", "2016-01-31T13:30:00.250Z"),
            ("2016-01-31T13:30:00.000001Z", "2016-01-31T13:30:00.000001Z"),
            ("2016-01-31T13:30:00.123456789Z", "2016-01-31T13:30:00.123456Z"),
            ("2016-W04-7", "2016-01-31T00:00:00Z"),
            ("2016W047T10:00Z", "2016-01-31T10:00:00Z"),
            ("2016-W05", "2016-02-01T00:00:00Z"),
            ("2016-031", "2016-01-31T00:00:00Z"),
            ("2016366", "2016-12-31T00:00:00Z"),
            ("2016-01-31T24:00:00Z", "2016-02-01T00:00:00Z"),
            ("2016-12-31T24:00+01:00", "2016-12-31T23:00:00Z"),
            ("0999-01-01", "0999-01-01T00:00:00Z"),
            (date(2016, 1, 31), "2016-01-31T00:00:00Z"),
            (datetime(2016, 1, 31, 13, 30), "2016-01-31T13:30:00Z"),
            (datetime(2016, 7, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")), "2016-07-01T00:00:00Z"),
            (datetime(2016, 1, 31, microsecond=250_000), "2016-01-31T00:00:00.250Z"),
        ],
    )
    def test_is_any_iso_8601_and_is_sent_in_utc_with_its_zone(
        self, value: object, sent: str
    ) -> None:
        assert canonical(AttributeType.Timestamp, value) == sent
        assert canonical(AttributeType.Timestamp, sent) == sent

    @pytest.mark.parametrize(
        "value",
        [
            *("", "2016", "2016-01", "31.01.2016", "01/31/2016", "yesterday", "1454198400"),
            *("2016-01-31T", "2016-01-31Z", "2016-01-31x00:00", "2016-01-31T00:00:00.Z"),
            *("2016-01-31T00:00.5", "2016-01-31T00:00:00 CET", "2016-01-31\n", "٢٠١٦-٠١-٣١"),
        ],
    )
    def test_is_no_other_notation(self, value: str) -> None:
        assert "ISO 8601" in refusal("Timestamp", value)

    @pytest.mark.parametrize(
        "value",
        [
            *("2016-02-30", "2016-13-01", "2015-366", "2016-W54-1", "0000-01-01"),
            *("2016-01-31T25:00", "2016-01-31T24:01", "2016-01-31T23:59:61Z"),
            *("2016-01-31T00:00:00+99:00", "9999-12-31T24:00"),
        ],
    )
    def test_is_a_day_and_time_that_exist(self, value: str) -> None:
        assert "does not exist" in refusal("Timestamp", value)

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2016-12-31 23:59:60 UTC", "2017-01-01T00:00:00Z"),
            ("20161231T235960.25Z", "2017-01-01T00:00:00.250Z"),
            ("2016-12-31T23:59:60", "2017-01-01T00:00:00Z"),
            ("2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"),
            ("2015-06-30T18:59:60-05:00", "2015-07-01T00:00:00Z"),
        ],
    )
    def test_may_be_a_leap_second_which_is_the_second_after_it(self, value: str, sent: str) -> None:
        assert canonical(AttributeType.Timestamp, value) == sent

    @pytest.mark.parametrize(
        "value", ["2016-12-31T12:00:60Z", "2016-12-30T23:59:60Z", "2016-12-31T23:59:60+01:00"]
    )
    def test_is_no_leap_second_where_none_can_be(self, value: str) -> None:
        assert "at the end of a month" in refusal("Timestamp", value)

    def test_of_a_leap_second_after_the_year_9999_does_not_exist(self) -> None:
        assert "does not exist" in refusal("Timestamp", "9999-12-31T23:59:60Z")

    @pytest.mark.parametrize("value", [1454198400, 1.5, True, []])
    def test_is_no_other_type(self, value: object) -> None:
        assert type(value).__name__ in refusal("Timestamp", value)

    def test_outside_the_years_1_to_9999_once_in_utc_is_refused(self) -> None:
        early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
        assert "years" in refusal("Timestamp", early)
        assert "years" in refusal("Timestamp", early.isoformat())

    @given(st.datetimes(timezones=st.none() | st.timezones()))
    @settings(deadline=None)
    def test_keeps_the_point_in_time_to_the_microsecond(self, moment: datetime) -> None:
        try:
            sent = canonical(AttributeType.Timestamp, moment)
        except InvalidJob:
            assert moment.year in (1, 9999)
            return
        expected = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        assert datetime.fromisoformat(str(sent)) == expected.astimezone(UTC)


class TestBoolean:
    @pytest.mark.parametrize("value", ["TRUE", "true", "t", "1", True, 1])
    def test_true(self, value: object) -> None:
        assert canonical(AttributeType.Boolean, value) is True

    @pytest.mark.parametrize("value", ["FALSE", "false", "f", "0", False, 0])
    def test_false(self, value: object) -> None:
        assert canonical(AttributeType.Boolean, value) is False

    @pytest.mark.parametrize(
        "value",
        ["True", "False", "T", "F", "yes", "no", "on", "", " true", "1.0", 2, -1, 1.0, []],
    )
    def test_is_exactly_the_eight_words_of_the_reference(self, value: object) -> None:
        assert "TRUE, true, t, 1, FALSE, false, f, 0" in refusal("Boolean", value)


class TestKey:
    @pytest.mark.parametrize(
        "key", ["channel", "CAC", "convertedAt", "StringKey", "utm_campaign", "_", "9", "k" * 255]
    )
    def test_has_letters_digits_and_underscores(self, key: str) -> None:
        assert attribute_key(key) == key

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("", "empty"),
            ("utm-campaign", "position 4"),
            ("é", "position 1"),
            ("key\n", "position 4"),
            ("٣", "position 1"),
            ("k" * 256, "256"),
            (7, "int"),
            (None, "is missing: this is None"),
        ],
    )
    def test_is_told_what_is_wrong_with_it(self, key: object, said: str) -> None:
        with pytest.raises(InvalidJob, match=said):
            attribute_key(key)


class TestAnAttributeWithItsType:
    @pytest.mark.parametrize(("type_", "value"), [("integer", 8), ("Integer", "eight"), (8, 8)])
    def test_is_judged_where_it_is_made(self, type_: Any, value: object) -> None:
        with pytest.raises(InvalidJob):
            Attribute.of(type_, value)


@given(
    st.sampled_from(AttributeType),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(exclude_categories=()), max_size=300)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.binary()
    | st.lists(st.integers()),
)
@settings(deadline=None, max_examples=300)
def test_a_canonical_form_is_json_and_its_own_canonical_form(
    type_: AttributeType, value: object
) -> None:
    try:
        sent = canonical(type_, value)
    except InvalidJob:
        return
    assert type(sent) in (str, int, float, bool)
    json.dumps(sent, allow_nan=False).encode()
    again = canonical(type_, sent)
    assert (type(again), again) == (type(sent), sent)
