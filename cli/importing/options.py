"""The options of `courier import`: what they may say, and one value that holds them."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from ...jobs.attributes import AttributeType, attribute_key, attribute_type, text
from ...jobs.errors import InvalidJob
from ...jobs.job import Lane
from ..output import Format
from .columns import Choice


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the operator asks for; the names are those of the command's parameters."""

    files: tuple[str, ...]
    dry_run: bool
    wait: bool
    rejects_path: str | None
    strict: bool
    email_column: str | None
    types: dict[str, AttributeType]
    only: tuple[str, ...]
    exclude: tuple[str, ...]
    rename: dict[str, str]
    make_keys: bool
    no_value: tuple[str, ...]
    true_words: tuple[str, ...]
    false_words: tuple[str, ...]
    date_formats: dict[str, str]
    decimal_marks: dict[str, str]
    source: str | None
    occurred_at_column: str | None
    only_changed: bool
    lane: Lane
    run_id: str | None
    delimiter: str | None
    encoding: str | None
    sheet: str | None
    account: str | None
    format_: Format | None

    def check(self) -> None:
        """Whether the options go together.

        Raises:
            click.UsageError: they do not.
        """
        if self.files.count("-") > 1:
            raise click.UsageError("the standard input can be read once")
        if self.strict and self.rejects_path is not None:
            raise click.UsageError("--strict imports all rows or none; --rejects is for some")
        both = set(self.true_words) & set(self.false_words)
        if both:
            raise click.UsageError(f"--true and --false both say {min(both)!r}")
        if self.source is not None:
            try:
                text(self.source)
            except InvalidJob as invalid:
                raise click.UsageError(f"--source {invalid.errors[0].message}") from None

    @property
    def choice(self) -> Choice:
        """What the options say of the columns."""
        return Choice(
            email=self.email_column,
            occurred_at=self.occurred_at_column,
            types=self.types,
            only=frozenset(self.only),
            exclude=frozenset(self.exclude),
            rename=self.rename,
            make_keys=self.make_keys,
            no_value=frozenset(self.no_value),
            booleans=dict.fromkeys(self.true_words, True) | dict.fromkeys(self.false_words, False),
            date_formats=self.date_formats,
            decimal_marks=self.decimal_marks,
        )


def parse_types(
    _ctx: click.Context, _param: click.Parameter, said: Sequence[str]
) -> dict[str, AttributeType]:
    """`--type`."""
    found = {}
    for each in said:
        name, type_ = _pair(each, "COLUMN=TYPE, such as age=Integer")
        try:
            found[name] = attribute_type(type_)
        except InvalidJob:
            raise click.BadParameter(f"{each!r}: a TYPE is {', '.join(AttributeType)}") from None
    return found


def parse_keys(_ctx: click.Context, _param: click.Parameter, said: Sequence[str]) -> dict[str, str]:
    """`--rename`."""
    found = {}
    for each in said:
        name, key = _pair(each, "COLUMN=KEY, such as 'First name=first_name'")
        try:
            found[name] = attribute_key(key)
        except InvalidJob as invalid:
            raise click.BadParameter(f"{each!r}: {invalid.errors[0].message}") from None
    return found


def parse_date_formats(
    _ctx: click.Context, _param: click.Parameter, said: Sequence[str]
) -> dict[str, str]:
    """`--date-format`."""
    found = {}
    for each in said:
        name, format_ = _pair(each, "COLUMN=FORMAT, such as since=%d/%m/%Y")
        # A format that cannot write a day and read it again, or has no year, makes no time.
        day = datetime(2026, 1, 31)
        reread = None
        if re.search("%[YyGcDx]", format_):
            with contextlib.suppress(ValueError):
                reread = datetime.strptime(day.strftime(format_), format_)
        if reread is None or reread.date() != day.date():
            raise click.BadParameter(
                f"{each!r}: a FORMAT says where day, month and year are: %d, %m, %Y (four digits) "
                "or %y, and for a time %H:%M:%S or %I:%M %p"
            )
        found[name] = format_
    return found


def parse_decimal_marks(
    _ctx: click.Context, _param: click.Parameter, said: Sequence[str]
) -> dict[str, str]:
    """`--decimal-mark`."""
    found = {}
    for each in said:
        name, mark = _pair(each, "COLUMN=MARK, such as price=,")
        if mark not in (",", "."):
            raise click.BadParameter(f"{each!r}: a MARK is a comma or a point")
        found[name] = mark
    return found


def parse_words(
    _ctx: click.Context, _param: click.Parameter, said: Sequence[str]
) -> tuple[str, ...]:
    """`--true` and `--false`."""
    for each in said:
        if each in ("true", "True", "TRUE", "false", "False", "FALSE"):
            raise click.BadParameter(f"{each!r} is read without being said")
        if each.strip() != each or not each:
            raise click.BadParameter(f"{each!r}: a WORD has no blanks around it")
        if each[0].isdigit() or each[0] in "+-":
            raise click.BadParameter(
                f"{each!r} could be a number; say --type COLUMN=Boolean, which reads 1 and 0"
            )
    return tuple(said)


def parse_delimiter(_ctx: click.Context, _param: click.Parameter, said: str | None) -> str | None:
    """`--delimiter`."""
    said = {"tab": "\t", "\\t": "\t"}.get(said or "", said)
    if said is not None and (len(said) != 1 or said.isalnum() or said in '"\r\n'):
        raise click.BadParameter("one character, or tab")
    return said


def parse_encoding(_ctx: click.Context, _param: click.Parameter, said: str | None) -> str | None:
    """`--encoding`."""
    if said is None:
        return None
    try:
        info: Any = codecs.lookup(said)
        "é".encode().decode(said, "replace")  # raises for what is no encoding of text
        codecs.getincrementaldecoder(said)
    except (LookupError, UnicodeError, ValueError):
        raise click.BadParameter(
            f"{said!r} is no encoding; some are utf-8, utf-16, cp1252, latin-1, mac_roman, "
            "shift_jis, gb18030"
        ) from None
    name: str = info.name
    return name


def _pair(said: str, of: str) -> tuple[str, str]:
    name, equals, value = said.rpartition("=")
    if not equals:
        raise click.BadParameter(f"{said!r} is not {of}")
    return name, value
