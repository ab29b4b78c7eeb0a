"""The columns of tables: which are attributes, of which type, and what a row says.

A key has one type, over all files of an import: what the header or the operator says, else the
narrowest one that all its values have.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from ...jobs.attributes import (
    MAX_ATTRIBUTES,
    MAX_CHARACTERS,
    AttributeType,
    attribute_key,
    canonical,
)
from ...jobs.errors import InvalidJob
from ...jobs.job import END_OF_TIME, EPOCH
from ...jobs.rules import email as check_email
from ...jobs.schema import MAX_WIRE_BYTES
from ...jobs.times import in_utc, instant
from .table import REASON, Row, Table, TableError

MAX_COLUMNS = 1_000
"""Of a file; each row of JSON Lines may bring others."""

_STRING, _INTEGER, _DECIMAL = AttributeType.String, AttributeType.Integer, AttributeType.Decimal
_BOOLEAN, _TIMESTAMP = AttributeType.Boolean, AttributeType.Timestamp


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the operator says of the columns, by their names in the file (without a type)."""

    email: str | None = None
    occurred_at: str | None = None
    types: Mapping[str, AttributeType] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    """Column → key."""


# --- the type of a key -------------------------------------------------------------------------


@dataclass(kw_only=True)
class Key:
    """An attribute key, and what the columns that make it have shown so far."""

    key: str
    column: str
    """The first column that makes it."""
    declared: AttributeType | None = None
    said_by: str = "values"
    """Who said its type: `header`, `--type` or `values`."""
    inferred: AttributeType | None = None
    """None until a value was seen."""
    values: int = 0
    mixed: str = ""
    """Where the first value is that made it a String, after others of another type."""

    @property
    def type(self) -> AttributeType:
        return self.declared or self.inferred or _STRING

    def see(self, value: Any, row: Row, table: Table) -> None:
        """Take a value into account, of a row that makes a job."""
        self.values += 1
        before = self.inferred
        if self.declared is not None or before is _STRING:
            return
        if isinstance(row.raw, str):
            self.inferred = _with_json(before, value)
        else:
            self.inferred = _with_text(before, value)
        if before is not None and self.inferred is _STRING:
            self.mixed = f"{before} until {table.place(row.line)}"


def _with_text(before: AttributeType | None, text: str) -> AttributeType:
    """The narrowest type that a text has, and all values before it."""
    if before is None:
        return next((type_ for type_, looks in _LOOKS.items() if looks(text)), _STRING)
    if _LOOKS[before](text):
        return before
    return _DECIMAL if before is _INTEGER and _LOOKS[_DECIMAL](text) else _STRING


def _with_json(before: AttributeType | None, value: object) -> AttributeType:
    """As JSON says it: a text is a String, whatever it looks like."""
    found = next(type_ for kind, type_ in _JSON_TYPES.items() if isinstance(value, kind))
    if before is None or before is found:
        return found
    return _DECIMAL if {before, found} == {_INTEGER, _DECIMAL} else _STRING


def _looks_like_timestamp(text: str) -> bool:
    if not _DATE_FIRST.match(text):
        return False
    try:
        if len(text) == _DATE_CHARACTERS:  # as `canonical` has it, and quicker
            date.fromisoformat(text)
        else:
            canonical(_TIMESTAMP, text)
    except ValueError:
        return False
    return True


_DATE_CHARACTERS = len("2016-01-31")
_DATE_FIRST = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])")
_WHOLE = r"0|-?[1-9][0-9]{0,14}"
_BOOLEANS = {"true": True, "True": True, "TRUE": True}
_BOOLEANS |= {"false": False, "False": False, "FALSE": False}
# Narrower than what the types accept when they are said, since codes are not to become numbers: no
# leading zero or plus (postcodes, telephones), no exponent (1e5 may be a product), no more digits
# than every reader of JSON keeps, and none of 1, 0, t, f for a Boolean.
_LOOKS: dict[AttributeType, Callable[[str], object]] = {
    _INTEGER: re.compile(_WHOLE).fullmatch,
    _DECIMAL: re.compile(rf"(?:-0|{_WHOLE})(?:\.[0-9]+)|{_WHOLE}").fullmatch,
    _BOOLEAN: _BOOLEANS.__contains__,
    _TIMESTAMP: _looks_like_timestamp,
}
# bool before int: in Python a bool is one.
_JSON_TYPES = {bool: _BOOLEAN, int: _INTEGER, Decimal: _DECIMAL, str: _STRING}


def as_type(type_: AttributeType, value: Any) -> Any:
    """A value in a form that its type reads: a number among texts is text."""
    if type_ is _STRING and not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if type_ is _BOOLEAN and isinstance(value, str):
        return _BOOLEANS.get(value, value)
    return value


# --- what a row says ---------------------------------------------------------------------------


class Unfit(Exception):  # noqa: N818  # says what is the matter
    """Raised when a row makes no job. The text holds no value; what is peculiar to this row comes
    after a semicolon."""


class Record(NamedTuple):
    """What a row asks for."""

    email: str
    attributes: list[tuple[Key, Any]]
    occurred_at: datetime | None
    """None where the row does not say it."""


class Layout:
    """What the columns of one table are.

    Args:
        keys: those of all tables of the import, by their names; new ones are added.
        source: the source of all attributes.
        latest: no row may have occurred later.

    Raises:
        TableError: the columns' names do not do, or none has the emails.
    """

    def __init__(
        self,
        table: Table,
        choice: Choice,
        keys: dict[str, Key],
        *,
        source: str | None = None,
        latest: datetime,
    ) -> None:
        self.table = table
        self.columns: dict[str, Key | None] = {}
        """Those seen so far, as the file names them; None for what is no attribute."""
        self._choice = choice
        self._keys = keys
        self._own: dict[str, str] = {}
        self._source_size = len(json.dumps(source))
        self._latest = latest
        self.occurred_at: str | None = None
        """The column that says when a row occurred."""
        first, why = None, "it has no rows"
        for row in islice(table.rows(), _STARTING_ROWS):
            if row.values:
                first = row
                break
            why = f"line {row.line}: {row.fault or 'it is empty'}"
        names = table.header or tuple(first.values if first else ())
        if not names:
            raise TableError(f"{table.name}: no row at its beginning can be read; {why}")
        if table.header and any(_is_email(name) for name in names):
            raise TableError(
                f"{table.name}: its first line has an email; the columns' names belong there"
            )
        self.email, self.email_found = self._email_column(names, first)
        """The column of the emails, and how it was found."""
        if table.header.count(self.email) > 1:
            raise TableError(f"{table.name}: two columns are named {quoted(self.email)}")
        self._add(names)

    def read(self, row: Row) -> Record | None:
        """What a row asks for; None if it has no value.

        Raises:
            Unfit: it makes no job.
            TableError: it has a column whose name does not do (JSON Lines).
        """
        if row.fault is not None:
            raise Unfit(row.fault)
        columns, values, is_json = self.columns, row.values, isinstance(row.raw, str)
        email = values.get(self.email)
        if email not in _EMPTY:
            _check_email(email)
        found: list[tuple[Key, Any]] = []
        filled = False
        for name, value in values.items():
            if value == "" or value is None:
                continue
            filled = True
            if name not in columns:
                self._add([name])
            key = columns[name]
            if key is not None:
                _check_value(key, value, is_json)
                found.append((key, value))
        if filled and email in _EMPTY:
            raise Unfit("email: it is empty")
        if not found:
            return None
        if len(found) > _FEW:
            self._check_size(found)
        return Record(str(email), found, self._time(row) if self.occurred_at is not None else None)

    def _time(self, row: Row) -> datetime | None:
        value = row.values.get(self.occurred_at or "")
        if value in _EMPTY:
            return None
        try:
            moment = in_utc(instant(value))
        except InvalidJob as invalid:
            raise Unfit(f"{self.occurred_at}: {invalid.errors[0].message}") from None
        if not EPOCH <= moment < END_OF_TIME:
            raise Unfit(f"{self.occurred_at}: must lie between {EPOCH:%Y} and {END_OF_TIME:%Y}")
        if moment > self._latest:
            raise Unfit(f"{self.occurred_at}: lies more than 5 minutes in the future")
        return moment

    def _check_size(self, found: list[tuple[Key, Any]]) -> None:
        """What the schema would find only once other rows are sent."""
        if len(found) > MAX_ATTRIBUTES:
            raise Unfit(f"a job has at most {MAX_ATTRIBUTES} attributes; this row {len(found)}")
        values = json.dumps([str(value) for _, value in found], ensure_ascii=False)
        size = len(values.encode(errors="surrogatepass")) + _OVERHEAD
        for key, value in found:
            size += len(key.key) + self._source_size + _OVERHEAD
            if isinstance(value, Decimal) or key.declared is _DECIMAL:
                size += MAX_CHARACTERS  # as long as it may be when written out
        if size > MAX_WIRE_BYTES:
            raise Unfit(f"the job would have more than {MAX_WIRE_BYTES} bytes")

    def _email_column(self, names: Sequence[str], first: Row | None) -> tuple[str, str]:
        table, said = self.table.name, self._choice.email
        if said is not None:
            found = [name for name in names if said in (name, split(name)[0])]
            if not found and self.table.header:
                raise TableError(f"{table}: no column {quoted(said)}; {_listed(names)}")
            return found[0] if found else said, "--email-column"
        words = {name: re.sub("[^a-z]", "", split(name)[0].lower()) for name in names}
        values = first.values if first else {}
        emails = [name for name in names if _is_email(values.get(name))]
        ways = {
            "its name": [name for name, word in words.items() if word in _EMAIL_NAMES],
            "its name and content": [name for name in emails if "email" in words[name]],
            "its content": emails,
        }
        for way, found in ways.items():
            if len(found) == 1:
                return found[0], way
        raise TableError(
            f"{table}: which column has the emails? Say --email-column NAME; {_listed(names)}"
        )

    def _add(self, names: Iterable[str]) -> None:
        """Find out what columns are that were not seen before."""
        choice, invalid = self._choice, []
        for name in names:
            column, header_type = split(name)
            if column == choice.occurred_at:
                self.occurred_at = name
            if (
                name == self.email
                or column in (choice.occurred_at, REASON)
                or column in choice.exclude
                or (choice.only and column not in choice.only)
            ):
                self.columns[name] = None
                continue
            key = choice.rename.get(column, column)
            try:
                attribute_key(key)
            except InvalidJob:
                invalid.append(column)
                continue
            if key in self._own:
                raise TableError(
                    f"{self.table.name}: columns {quoted(self._own[key])} and {quoted(name)} make "
                    "one key; --rename or --exclude one of them"
                )
            self._own[key] = name
            self.columns[name] = self._key(key, column, header_type)
        if invalid:
            raise TableError(self._not_keys(invalid))
        if len(self.columns) > MAX_COLUMNS:
            raise TableError(f"{self.table.name}: more than {MAX_COLUMNS} columns")

    def _key(self, key: str, column: str, header_type: AttributeType | None) -> Key:
        known = self._keys.setdefault(key, Key(key=key, column=column))
        types = self._choice.types
        said = types.get(column) or types.get(key)
        if said is not None:
            known.declared, known.said_by = said, "--type"
        elif header_type is not None and known.declared not in (None, header_type):
            raise TableError(
                f"{self.table.name}: the header says {header_type} for {key}, another file says "
                f"{known.declared}; decide with --type {key}=…"
            )
        elif header_type is not None:
            known.declared, known.said_by = header_type, "header"
        return known

    def _not_keys(self, columns: list[str]) -> str:
        suggestions = []
        for column in columns[:5]:
            key = re.sub("[^A-Za-z0-9]+", "_", column).strip("_").lower() or "key"
            suggestions.append("--rename " + shlex.quote(f"{printable(column)}={key}"))
        more = " …" if len(columns) > len(suggestions) else ""
        return (
            f"{self.table.name}: a key is made of ASCII letters, digits and underscores (and "
            f":{_STRING}, :{_INTEGER}, … may say its type). "
            f"Say {' '.join(suggestions)}{more}, or leave a column out with --exclude"
        )


_STARTING_ROWS = 100
"""Among so many there is one that can be read, or it is no table."""
_EMPTY = ("", None)
_EMAIL_NAMES = ("email", "emailaddress", "mail")
_FEW = 15
"""So many attributes stay below the schema's limits, whatever is in them."""
_OVERHEAD = 100
"""Bytes of an attribute's document beside key, value and source, and of a job's beside those."""


def split(name: str) -> tuple[str, AttributeType | None]:
    """A column's name and type: `age:Integer` says both."""
    column, colon, type_ = name.rpartition(":")
    if colon and type_ in _TYPE_NAMES:
        return column, AttributeType(type_)
    return name, None


_TYPE_NAMES = frozenset(type_.value for type_ in AttributeType)


def printable(text: str) -> str:
    """What stands in a file must not steer the terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)


def quoted(name: str) -> str:
    """A column's name in a text for people."""
    return f'"{printable(name)}"'


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"there are {', '.join(map(quoted, names[:20]))}{more}"


def _check_email(email: object) -> None:
    try:
        check_email(email)
    except InvalidJob as invalid:
        raise Unfit(f"email: {invalid.errors[0].message}") from None


def _is_email(value: object) -> bool:
    try:
        _check_email(value)
    except Unfit:
        return False
    return True


def _check_value(key: Key, value: Any, is_json: bool) -> None:
    """Whether the value is right, whatever its column's type turns out to be."""
    type_ = key.declared
    if is_json:
        if not isinstance(value, str | int | Decimal):
            raise Unfit(f"{key.column}: a JSON object or array is no value")
        type_ = type_ or _with_json(None, value)
    length = len(value if isinstance(value, str) else str(value))
    if length > MAX_CHARACTERS:
        raise Unfit(
            f"{key.column}: must have at most {MAX_CHARACTERS} characters; this has {length}"
        )
    if type_ is not None:
        try:
            canonical(type_, as_type(type_, value))
        except InvalidJob as invalid:
            raise Unfit(f"{key.column}: {invalid.errors[0].message}") from None
