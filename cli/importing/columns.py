"""The columns of tables: which are attributes, of which type, and what a row asks for.

A key has one type over all files of an import: the one that the header or the operator says, else
the narrowest one that all its values have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from ...jobs.attributes import (
    MAX_ATTRIBUTES,
    MAX_CHARACTERS,
    AttributeType,
    attribute_key,
    canonical,
)
from ...jobs.emails import trimmed
from ...jobs.errors import InvalidJob
from ...jobs.job import END_OF_TIME, EPOCH
from ...jobs.rules import email as check_email
from ...jobs.schema import MAX_WIRE_BYTES
from ...jobs.text import printable
from ...jobs.times import in_utc, instant
from .looks import NO_VALUE_WORDS, Looks, amount
from .names import at, listed, made_key, option, quoted, split
from .table import REASON, Row, Table, TableError

T = TypeVar("T")

MAX_COLUMNS = 1_000
"""Of a file; each row of JSON Lines may bring others."""

_STRING, _INTEGER, _DECIMAL = AttributeType.String, AttributeType.Integer, AttributeType.Decimal
_BOOLEAN, _TIMESTAMP = AttributeType.Boolean, AttributeType.Timestamp


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the operator says of the columns.

    A column is named as in the file, without a type; as `column:3`, the third one; and in JSON
    Lines by its path, `customer.email`.
    """

    email: str | None = None
    occurred_at: str | None = None
    types: Mapping[str, AttributeType] = field(default_factory=dict)
    only: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    """Column → key."""
    make_keys: bool = False
    """Whether a name that is no key is made one."""
    no_value: frozenset[str] = frozenset()
    """Texts that mean that there is no value."""
    booleans: Mapping[str, bool] = field(default_factory=dict)
    """Further texts for true and false."""
    date_formats: Mapping[str, str] = field(default_factory=dict)
    """Column → the format of its times, as `datetime.strptime` takes it."""
    decimal_marks: Mapping[str, str] = field(default_factory=dict)
    """Column → what stands before the decimals of its amounts."""

    @property
    def reading(self) -> list[object]:
        """What else decides which values a row's texts stand for; the same for equal choices."""
        pairs = (self.booleans, self.date_formats, self.decimal_marks)
        return [sorted(self.no_value), *(sorted(each.items()) for each in pairs)]


# --- the type of a key -------------------------------------------------------------------------


_BOOLEANS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(kw_only=True)
class Key:
    """An attribute key, and what the columns that make it have shown so far."""

    key: str
    column: str
    """How options name the first column that makes it."""
    booleans: Mapping[str, bool] = field(default_factory=lambda: _BOOLEANS)
    """The texts for true and false."""
    reader: _Reader | None = None
    """Reads a text as the operator says; raises `InvalidJob`."""
    declared: AttributeType | None = None
    said_by: str = "values"
    """Who said its type: `header`, an option or `values`."""
    inferred: AttributeType | None = None
    """None until a value was seen."""
    values: int = 0
    mixed: str = ""
    """Where the first value is that made it a String, after others of another type."""
    sample: str = ""
    """The first value."""
    looks: Looks = field(default_factory=Looks)

    @property
    def type(self) -> AttributeType:
        return self.declared or self.inferred or _STRING

    def see(self, value: Any, row: Row, table: Table) -> None:
        """Take a value into account, of a row that makes a job."""
        if not self.values:
            self.sample = value if isinstance(value, str) else str(value)
        self.values += 1
        if self.declared is not None:
            return
        before, looks = self.inferred, self.looks
        if isinstance(row.raw, str):
            if before is not _STRING:
                self.inferred = self._with_json(before, value)
        elif before is not _STRING:
            self.inferred = self._with_text(before, value)
        if self.inferred is _STRING:
            if before is not None and before is not _STRING:
                self.mixed = f"{before} until {table.place(row.line)}"
                if before in (_TIMESTAMP, _BOOLEAN):
                    looks.close()
            if isinstance(value, str) and (looks.open or value in NO_VALUE_WORDS):
                looks.see(value)
        elif self.inferred is _DECIMAL:
            looks.see_number(str(value))
        elif self.inferred is _INTEGER and looks.may_be_days:
            looks.see(str(value))

    def read(self, value: Any) -> Any:
        """The value in a form that the key's type reads.

        Raises:
            InvalidJob: it is not as the operator says that it is.
        """
        if self.reader is not None:
            return self.reader(value if isinstance(value, str) else str(value))
        type_ = self.type
        if type_ is _STRING and not isinstance(value, str):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if type_ is _BOOLEAN and isinstance(value, str):
            return self.booleans.get(value, value)
        if type_ is _INTEGER and (found := _POINT_ZERO.fullmatch(str(value))):
            return found[1]
        return value

    def _with_text(self, before: AttributeType | None, text: str) -> AttributeType:
        """The narrowest type that a text has, and all values before it."""
        if before is None:
            for type_, looks in _LOOKS.items():
                if looks(text):
                    return type_
            return _BOOLEAN if text in self.booleans else _STRING
        if before is _BOOLEAN:
            return _BOOLEAN if text in self.booleans else _STRING
        if _LOOKS[before](text):
            return before
        return _DECIMAL if before is _INTEGER and _LOOKS[_DECIMAL](text) else _STRING

    def _with_json(self, before: AttributeType | None, value: object) -> AttributeType:
        """As JSON says it: a text is a String, whatever it looks like, but a word for true or
        false that the operator named."""
        found = _json_type(value)
        if found is _STRING and value in self.booleans and value not in _BOOLEANS:
            found = _BOOLEAN
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
# Narrower than what the types accept when they are said, since codes are not to become numbers: no
# leading zero or plus (postcodes, telephones), no exponent (1e5 may be a product), no more digits
# than every reader of JSON keeps, and none of 1, 0, t, f for a Boolean.
_LOOKS: dict[AttributeType, Callable[[str], object]] = {
    _INTEGER: re.compile(_WHOLE).fullmatch,
    _DECIMAL: re.compile(rf"(?:-0|{_WHOLE})(?:\.[0-9]+)|{_WHOLE}").fullmatch,
    _TIMESTAMP: _looks_like_timestamp,
}
# bool before int: in Python a bool is one.
_JSON_TYPES = {bool: _BOOLEAN, int: _INTEGER, Decimal: _DECIMAL, str: _STRING}


def _json_type(value: object) -> AttributeType:
    return next(type_ for kind, type_ in _JSON_TYPES.items() if isinstance(value, kind))


_POINT_ZERO = re.compile(r"(-?[0-9]+)\.0+")


# --- what a row says ---------------------------------------------------------------------------


class Unfit(Exception):  # noqa: N818  # says what is the matter
    """Raised when a row makes no job. The text holds no value; what differs from row to row comes
    after a semicolon."""


class Record(NamedTuple):
    """What a row asks for."""

    email: str
    attributes: list[tuple[Key, Any]]
    occurred_at: datetime | None
    """None where the row does not say it."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of one table."""

    name: str
    """That no other has; the rows' values stand under it."""
    position: int | None
    """From 1; None in JSON Lines, where each row has its own."""
    text: str
    """Its name as options say it, without a type: "" where the header has none."""
    type: AttributeType | None
    """What the header says."""
    words: tuple[str, ...]
    """All that an option may say to mean it: its position, its name, its header."""
    objects: tuple[str, ...]
    """The paths of the JSON objects that it is in; --only and --exclude may say them."""
    address: str
    """What an option says to mean this column alone, in a form that can be pasted."""

    @property
    def shown(self) -> str:
        """Its name in a text for people."""
        return quoted(self.text) if self.text else f"{self.address} (without a name)"


def _column_of(table: Table, name: str) -> Column:
    if not table.names:
        text, type_ = split(trimmed(name))
        parts = text.split(".")
        objects = tuple(".".join(parts[:end]) for end in range(1, len(parts)))
        return Column(
            name=name, position=None, text=text, type=type_, words=(text,), objects=objects,
            address=text,
        )  # fmt: skip
    position = table.names.index(name) + 1
    header = table.header[position - 1]
    text, type_ = split(header)
    words = [text, header] if text else []
    alone = [split(each)[0] for each in table.header].count(text) == 1
    address = text if alone and text == printable(text) and text else at(position)
    if at(position) not in table.header:  # there it would mean another column
        words.insert(0, at(position))
    return Column(
        name=name, position=position, text=text, type=type_, words=tuple(dict.fromkeys(words)),
        objects=(), address=address,
    )  # fmt: skip


class Layout:
    """What the columns of one table are.

    What is wrong with the columns' names is collected in `problems`, so that the
    operator reads all of it at once, and a row with such a column must not be sent.

    Args:
        keys: those of all tables of the import, by their names; new ones are added.
        source: the source of all attributes.
        latest: no row may have occurred later.

    Raises:
        TableError: there is no row or column that can be read.
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
        self.columns: dict[str, Column] = {}
        """Those seen so far, by their names."""
        self.keys: dict[str, Key | None] = {}
        """Column → the key that it makes; None for what is no attribute."""
        self.problems: list[str] = []
        """What the operator has to decide first, each with the options that do it."""
        self.unnamed: dict[str, int | None] = {}
        """Columns without a name, which are left out; → the first line where one has a value."""
        self._not_keys: dict[str, Column] = {}
        self._twice: list[tuple[Column, Column, str]] = []
        self._choice = choice
        self._all_keys = keys
        self._own: dict[str, Column] = {}
        self._no_value = choice.no_value
        self._booleans = {**_BOOLEANS, **choice.booleans} if choice.booleans else _BOOLEANS
        self._source_size = len(json.dumps(source))
        self._latest = latest
        self.occurred_at: str | None = None
        """The column that says when a row occurred."""
        self._read_time: _Reader | None = None
        first, why = None, "it has no rows"
        for row in islice(table.rows(), _STARTING_ROWS):
            if row.values:
                first = row
                break
            why = f"line {row.line}: {row.fault or 'it is empty'}"
        names = table.names or tuple(first.values if first else ())
        if not names:
            raise TableError(f"{table.name}: no row at its beginning can be read; {why}")
        if any(_is_email(text) for text in table.header):
            raise TableError(
                f"{table.name}: its first line has an email; the columns' names belong there"
            )
        columns = [_column_of(table, name) for name in names]
        self.email, self.email_found = self._email_column(columns, first)
        """The column of the emails, and how it was found."""
        self.email_sample = str(first.values.get(self.email, "")) if first else ""
        self._add(columns)

    def read(self, row: Row) -> Record | None:
        """What a row asks for; None if it has no value.

        Raises:
            Unfit: it makes no job.
            TableError: there are too many columns (JSON Lines).
        """
        if row.fault is not None:
            raise Unfit(row.fault)
        keys, values, is_json = self.keys, row.values, isinstance(row.raw, str)
        unsure = is_json or bool(self._no_value)
        email = values.get(self.email)
        if unsure and self._is_no_value(email):
            email = None
        if email not in _EMPTY:
            _check_email(email)
        found: list[tuple[Key, Any]] = []
        filled = False
        for name, value in values.items():
            if value == "" or value is None or (unsure and self._is_no_value(value)):
                continue
            filled = True
            if name not in keys:
                self._add([_column_of(self.table, name)])
            key = keys[name]
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

    def note_unnamed(self, row: Row) -> None:
        """Note whether columns without a name have values, which nobody may leave out unasked."""
        for name, line in self.unnamed.items():
            if line is None and not self._is_no_value(row.values.get(name)):
                self.unnamed[name] = row.line

    def questions(self) -> list[str]:
        """What the operator has to decide first, each with the options that do it."""
        return [*self.problems, *self._name_questions()]

    def _is_no_value(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in self._no_value or not trimmed(value)
        return value is None

    def _time(self, row: Row) -> datetime | None:
        value = row.values.get(self.occurred_at or "")
        if self._is_no_value(value):
            return None
        try:
            if self._read_time is not None:
                value = self._read_time(str(value))
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

    def _email_column(self, columns: Sequence[Column], first: Row | None) -> tuple[str, str]:
        """The column of the emails, and how it was found. Where it cannot be found, a column that
        is not there, and a problem."""
        said = self._choice.email
        if said is not None:
            found = [column for column in columns if said in column.words]
            if len(found) > 1:
                choices = _choices("--email-column", found)
                self.problems.append(
                    f"{len(found)} columns are named {quoted(said)}; say {choices}"
                )
            elif not found and self.table.names:
                texts = [column.address for column in columns]
                self.problems.append(f"no column {quoted(said)}; {listed(texts)}")
            return found[0].name if found else said, "--email-column"
        words = {each.name: re.sub("[^a-z]", "", each.text.lower()) for each in columns}
        values = first.values if first else {}
        emails = [each for each in columns if _is_email(values.get(each.name))]
        named = [each for each in columns if words[each.name] in _EMAIL_NAMES]
        ways = {
            "its name": named,
            "its name and content": [each for each in emails if "email" in words[each.name]],
            "its content": emails,
        }
        for way, found in ways.items():
            if len(found) == 1:
                return found[0].name, way
        likely = named or emails or columns
        choices = _choices("--email-column", likely)
        self.problems.append(f"which column has the emails? Say {choices}")
        return "", ""

    def _add(self, columns: Iterable[Column]) -> None:
        """Find out what columns are that were not seen before."""
        choice = self._choice
        for column in columns:
            self.columns[column.name] = column
            words = {*column.words, *column.objects}
            if self.occurred_at is None and choice.occurred_at in column.words:
                self.occurred_at = column.name
                self._read_time = _reader(choice, column, None)
            if (
                column.name in (self.email, self.occurred_at)
                or column.text == REASON
                or words & choice.exclude
                or (choice.only and not words & choice.only)
            ):
                self.keys[column.name] = None
                continue
            self._add_key(column)
        if len(self.columns) > MAX_COLUMNS:
            raise TableError(f"{self.table.name}: more than {MAX_COLUMNS} columns")

    def _add_key(self, column: Column) -> None:
        self.keys[column.name] = None  # until it is known to make one
        said = _said(self._choice.rename, column)
        key = column.text if said is None else said
        try:
            attribute_key(key)
        except InvalidJob:
            if self._choice.make_keys:
                key = self._made_key(column)
            elif not column.text:
                self.unnamed[column.name] = None
                return
            else:
                self._not_keys[column.name] = column
                return
        if key in self._own:
            if not self._choice.make_keys or said is not None:
                self._twice.append((self._own[key], column, key))
                return
            key = self._made_key(column)
        self._own[key] = column
        self.keys[column.name] = self._key(key, column)

    def _made_key(self, column: Column, taken: Iterable[str] = ()) -> str:
        # The names of other columns are taken too, wherever those stand.
        names = {each.text for each in self.columns.values() if each is not column}
        names |= {split(text)[0] for text in self.table.header} - {column.text}
        otherwise = f"column_{column.position or ''}".rstrip("_")
        return made_key(column.text, {*self._own, *names, *taken}, otherwise)

    def _key(self, key: str, column: Column) -> Key:
        known = self._all_keys.setdefault(
            key, Key(key=key, column=column.address, booleans=self._booleans)
        )
        said = _said(self._choice.types, column) or self._choice.types.get(key)
        reader = _reader(self._choice, column, key)
        if reader is not None:
            known.reader, known.declared, known.said_by = reader, reader.type, reader.option
        elif said is not None:
            known.declared, known.said_by = said, "--type"
        elif column.type is not None and known.declared not in (None, column.type):
            choices = " or ".join(
                option("--type", f"{key}={each}") for each in (known.declared, column.type)
            )
            self.problems.append(
                f"the header says {column.type} for {key}, another file says {known.declared}; "
                f"say {choices}"
            )
        elif column.type is not None:
            known.declared, known.said_by = column.type, "header"
        return known

    def _name_questions(self) -> list[str]:
        made: list[str] = []
        questions = []
        if self._not_keys:
            columns = list(self._not_keys.values())
            what = f"{len(columns)} columns have names that are no keys"
            if len(columns) == 1:
                what = f"the name of {columns[0].shown} is no key"
            questions.append(
                f"{what}: a key is made of ASCII letters, digits and underscores\n"
                + self._ways(columns, made)
            )
        for first, second, key in self._twice:
            questions.append(
                f"columns {first.shown} and {second.shown} make one key, {key}\n"
                + self._ways([second], made)
            )
        filled = {name: line for name, line in self.unnamed.items() if line is not None}
        if filled:
            columns = [self.columns[name] for name in filled]
            lines = ", ".join(
                f"{self.columns[name].address} in line {line}" for name, line in filled.items()
            )
            questions.append(
                f"columns without a name have values ({lines})\n" + self._ways(columns, made)
            )
        return questions

    def _ways(self, columns: Sequence[Column], made: list[str]) -> str:
        """What the operator may say of columns that make no key of their own."""
        renames, excludes = [], []
        for column in columns:
            key = self._made_key(column, made)
            made.append(key)
            address = column.address
            if address != printable(address):  # of JSON Lines: it cannot be named
                continue
            renames.append(option("--rename", f"{address}={key}"))
            excludes.append(option("--exclude", address))
        ways = [] if self._choice.make_keys else ["  make keys of all names:  --make-keys"]
        if renames:
            ways.append(f"  or name the keys:        {' '.join(renames)}")
            if self._own:  # else nothing would be left
                ways.append(f"  or leave them out:       {' '.join(excludes)}")
        return "\n".join(ways)


_STARTING_ROWS = 100
"""Among so many there is one that can be read, or it is no table."""
_EMPTY = ("", None)
_EMAIL_NAMES = ("email", "emailaddress", "mail")
_FEW = 15
"""So many attributes stay below the schema's limits, whatever is in them."""
_OVERHEAD = 100
"""Bytes of an attribute's document beside key, value and source, and of a job's beside those."""


class _Reader:
    """Reads the texts of a column as the operator says that they are."""

    def __init__(self, option: str, type_: AttributeType, read: Callable[[str], Any]) -> None:
        self.option = option
        self.type = type_
        self._read = read

    def __call__(self, text: str) -> Any:
        return self._read(text)


def _reader(choice: Choice, column: Column, key: str | None) -> _Reader | None:
    format_ = _said(choice.date_formats, column) or choice.date_formats.get(key or "")
    if format_ is not None:
        return _Reader("--date-format", _TIMESTAMP, partial(_read_time, format_))
    mark = _said(choice.decimal_marks, column) or choice.decimal_marks.get(key or "")
    if mark is not None:
        return _Reader("--decimal-mark", _DECIMAL, partial(_read_amount, mark))
    return None


def _read_time(format_: str, text: str) -> datetime:
    try:
        return in_utc(datetime.strptime(text, format_))
    except (ValueError, OverflowError):
        raise InvalidJob.of("value", f"must be a time as {format_}") from None


def _read_amount(mark: str, text: str) -> Decimal:
    found = amount(text, mark)
    if found is None:
        raise InvalidJob.of("value", f'must be an amount with "{mark}" before its decimals')
    return found


def _said(options: Mapping[str, T], column: Column) -> T | None:
    """What an option says of a column: of its position, before what it says of its name."""
    return next((options[word] for word in column.words if word in options), None)


def _choices(name: str, columns: Iterable[Column]) -> str:
    words = [column.address for column in columns]
    return " or ".join(option(name, word) for word in words if word == printable(word))


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
    if is_json and not isinstance(value, str | int | Decimal):
        what = "array" if isinstance(value, list) else "object"
        raise Unfit(f"{key.column}: a JSON {what} is no value")
    length = len(value if isinstance(value, str) else str(value))
    if length > MAX_CHARACTERS:
        raise Unfit(
            f"{key.column}: must have at most {MAX_CHARACTERS} characters; this has {length}"
        )
    try:
        if type_ is not None:
            canonical(type_, key.read(value))
        elif is_json:
            canonical(_json_type(value), value)
        elif not value.isprintable():  # control characters, or half of a surrogate pair
            canonical(_STRING, value)
    except InvalidJob as invalid:
        raise Unfit(f"{key.column}: {invalid.errors[0].message}") from None
