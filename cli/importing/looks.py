"""What the texts of a column look like that no type stands for: told, and never acted on.

Days as 31/01/2026, yes and no, amounts with a currency, words for "no value", versions: each is
sent as text (or a number) unless the operator gives the option that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

NO_VALUE_WORDS = frozenset(
    [
        *("NULL", "null", "Null", "(null)", "<null>", "[null]", "\\N", "nil", "Nil", "undefined"),
        *("NaN", "nan", "NAN", "-nan", "NaT", "<NA>", "NA", "N/A", "n/a", "n.a.", "#N/A", "#NA"),
        *("None", "none", "<none>", "#NULL!", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?"),
        *("-", "--", "?"),
    ]
)
"""As databases, spreadsheets and data frames write that there is no value."""

MAX_TEXTS = 2_000
"""So many distinct texts of a column are tried as days or amounts."""

_TRUE = frozenset(["yes", "y", "on", "ja", "j", "oui", "o", "si", "sí", "s", "sim", "x", "✓", "t"])
_FALSE = frozenset(["no", "n", "off", "nein", "non", "não", "f"])
_SURE = frozenset(["yes", "no", "ja", "nein", "oui", "non"])
"""Such a word is enough alone."""
_DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%Y%m%d"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y"),
)
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_MAY_BE_A_DAY = re.compile(r"(?=.*[0-9]{2}).{6,30}")
_YEAR_FIRST = re.compile(r"(?:19|20)[0-9]{6}")
_CURRENCY = (
    r"(?i:EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BGN|BRL|MXN|ARS|CLP|"
    r"COP|ZAR|NGN|KES|EGP|TRY|UAH|RUB|KRW|TWD|SGD|HKD|ILS|AED|SAR|THB|IDR|MYR|PHP|VND|"
    r"(?:US|CA|AU|NZ|HK|R|C|A|S)?\$|kr\.?|zł|kč|ft|lei|rs\.?|fr\.?|[€£¥₹₩₺₽฿₫₴₦₪₱])"
)
_AMOUNT = re.compile(
    rf"(?P<sign>[-+−])?\s*(?P<before>{_CURRENCY})?\s*(?P<sign2>[-+−])?\s*"
    r"(?P<number>[0-9]+(?:[.,' \u00a0\u202f’][0-9]+)*)\s*"
    rf"(?P<after>{_CURRENCY})?"
)
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:([.,' \u00a0\u202f’])[0-9]{3})(?:\1[0-9]{3})*|[0-9]+")
_POINT = re.compile(r"-?[0-9]+\.([0-9]+)")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a column looks like."""

    text: str
    """Such as "looks like yes and no"."""
    options: tuple[tuple[str, str], ...]
    """Names and values of the options that read it; COLUMN stands for the column. Where there are
    several of one name, the operator chooses, or gives all of them (`--true`, `--false`)."""
    choose: bool = False
    """Whether one of the options is to be chosen."""


class Looks:
    """Takes the texts of one column, one after the other."""

    def __init__(self) -> None:
        self.words: dict[str, None] = {}
        """The words for "no value" among them."""
        self._started = False
        self._true: dict[str, None] = {}
        self._false: dict[str, None] = {}
        self._booleans = True
        self._days: list[str] = []
        self._marks: set[str] = set()
        self._marked = self._differ = False
        self._currencies: set[str] = set()
        self._seen: set[str] = set()
        self._whole = True
        self._points = False
        self._trailing: str | None = None
        self.open = True
        """Whether anything is left to be found out, beside words for no value."""

    @property
    def may_be_days(self) -> bool:
        """Whether all texts so far can be days."""
        return not self._started or bool(self._days)

    def close(self) -> None:
        """Nothing is left to be found out: the column also has values of another type."""
        self.open = self._booleans = False
        self._days, self._marks = [], set()

    def see(self, text: str) -> None:
        """Take a text into account."""
        if text in NO_VALUE_WORDS:
            self.words[text] = None
        elif self.open:
            self._see(text)

    def see_number(self, text: str) -> None:
        """Take a number with a decimal point into account."""
        if (found := _POINT.fullmatch(text)) is None:
            return
        self._points = True
        if found[1].strip("0"):
            self._whole = False
            if text[-1] == "0" and self._trailing is None:
                self._trailing = text

    def found(self, *, decimal: bool) -> Iterator[Look]:
        """What the column looks like, after all its texts.

        Args:
            decimal: whether its type is Decimal, found in its values.
        """
        if decimal:
            yield from self._as_decimal()
        elif self._booleans and self._are_booleans():
            options = [("--true", word) for word in self._true]
            options += [("--false", word) for word in self._false]
            yield Look(text="looks like yes and no", options=tuple(options))
        elif self._days:
            yield self._as_days()
        elif self._marks and self._marked:
            yield self._as_amounts()

    def _are_booleans(self) -> bool:
        if self._true and self._false:
            return True
        return bool(_SURE & {word.casefold() for word in (*self._true, *self._false)})

    def _see(self, text: str) -> None:
        if self._booleans:
            word = text.casefold()
            if word in _TRUE:
                self._true[text] = None
            elif word in _FALSE:
                self._false[text] = None
            else:
                self._booleans = False
            self._booleans = self._booleans and len(self._true) + len(self._false) <= 8
        if text in self._seen:
            return
        if len(self._seen) >= MAX_TEXTS:
            self.open = self._booleans
            return
        if not self._started:
            self._started = True
            self._days = [each for each in _formats() if _is_day(text, each)]
            self._marks = {",", "."}
        elif self._days:
            self._days = [each for each in self._days if _is_day(text, each)]
        if self._marks:
            self._see_amount(text)
        if self._days or self._marks:
            self._seen.add(text)
        else:
            self._seen.clear()
            self.open = self._booleans

    def _see_amount(self, text: str) -> None:
        found = _AMOUNT.fullmatch(text)
        amounts = {mark: amount(text, mark) for mark in self._marks}
        self._marks = {mark for mark, value in amounts.items() if value is not None}
        self._differ = self._differ or len(set(amounts.values())) > 1
        if found and self._marks:
            signs = {found["before"], found["after"]} - {None}
            self._currencies |= signs
            number = found["number"]
            self._marked = self._marked or bool(signs) or not re.fullmatch(r"[0-9.]+", number)
            self._marked = self._marked or number.count(".") > 1

    def _as_days(self) -> Look:
        shown = " or ".join(_shown(each) for each in self._days)
        doubt = ", which its values leave open" if len(self._days) > 1 else ""
        return Look(
            text=f"looks like dates as {shown}{doubt}",
            options=tuple(("--date-format", f"COLUMN={each}") for each in self._days),
            choose=len(self._days) > 1,
        )

    def _as_amounts(self) -> Look:
        what = "amounts with a currency" if self._currencies else "numbers with marks"
        if len(self._currencies) > 1:
            what = "amounts in several currencies"
        marks = sorted(self._marks) if self._differ else sorted(self._marks)[-1:]
        doubt = "; which mark stands before the decimals is left open" if len(marks) > 1 else ""
        return Look(
            text=f"looks like {what}{doubt}",
            options=tuple(("--decimal-mark", f"COLUMN={mark}") for mark in marks),
            choose=len(marks) > 1,
        )

    def _as_decimal(self) -> Iterator[Look]:
        if self._trailing is not None:
            sent = self._trailing.rstrip("0")
            yield Look(
                text=f"sent as numbers: {self._trailing} becomes {sent}; versions are text",
                options=(("--type", "COLUMN=String"),),
            )
        elif self._points and self._whole:
            yield Look(
                text="looks like whole numbers with .0, and is sent as Decimal",
                options=(("--type", "COLUMN=Integer"),),
            )


def amount(text: str, mark: str) -> Decimal | None:
    """An amount of money or another number written for people; None if it is none.

    Args:
        text: such as "€ 1.234,50", "-12.50 USD", "1 234".
        mark: what stands before the decimals, `,` or `.`. Other marks between thousands, a
            currency's sign or letters before or after the number are dropped.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return None
    whole, _, decimals = found["number"].partition(mark)
    if (decimals and not (decimals.isascii() and decimals.isdigit())) or (
        mark in found["number"] and not decimals
    ):
        return None
    thousands = _THOUSANDS.fullmatch(whole)
    if thousands is None:
        return None
    digits = re.sub("[^0-9]", "", whole)
    sign = "-" if {found["sign"], found["sign2"]} & {"-", "−"} else ""
    return Decimal(f"{sign}{digits}.{decimals}" if decimals else f"{sign}{digits}")


def _formats() -> Iterator[str]:
    return (day + clock for day in _DAYS for clock in _CLOCKS)


def _is_day(text: str, format_: str) -> bool:
    if not _MAY_BE_A_DAY.fullmatch(text):
        return False
    if format_ == "%Y%m%d" and not _YEAR_FIRST.fullmatch(text):
        return False
    try:
        return 1900 <= datetime.strptime(text, format_).year < 2100
    except ValueError:
        return False


_WORDS = {"%d": "day", "%m": "month", "%Y": "year", "%y": "year", "%b": "month", "%B": "month"}


def _shown(format_: str) -> str:
    """A format in words: `day/month/year`."""
    day, _, clock = format_.partition(" %H" if "%H" in format_ else " %I")
    words = re.sub("%[a-zA-Z]", lambda code: _WORDS[code[0]], day.rstrip(","))
    if format_ == "%Y%m%d":
        words = "year, month and day without marks"
    return f"{words} with a time" if clock else words
