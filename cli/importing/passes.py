"""Importing tables: a first pass finds out everything, a second one makes the jobs."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ...jobs.build import MAX_AHEAD
from ...jobs.emails import normalized_email
from ...producers.bulk import Batch
from .columns import Choice, Key, Layout, Unfit
from .names import listed, quoted
from .table import Row, Table, TableError

FIRST_PLACES = 5
"""Of the rows that were rejected for a reason, so many are named."""
MAX_REASONS = 100
_EVERY_ROWS = 1_000
_COMPACT_AT = 1_024

OnRejected = Callable[[Layout, Row, str], None]
"""Takes a row and the reason why it makes no job."""


@dataclass
class Reason:
    """Rows rejected for one reason."""

    rows: int = 0
    places: list[str] = field(default_factory=list)
    """Of the first ones."""


@dataclass
class Tally:
    """What a pass has found."""

    rows: int = 0
    without_values: int = 0
    short: int = 0
    """Rows whose last cells are missing; they are taken as empty."""
    first_short: str = ""
    """Where the first of those is."""
    reasons: dict[str, Reason] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        return sum(reason.rows for reason in self.reasons.values())

    @property
    def valid(self) -> int:
        return self.rows - self.without_values - self.rejected

    def reject(self, text: str, place: str) -> None:
        text = text.partition(";")[0]  # what differs from row to row comes after it
        if text not in self.reasons and len(self.reasons) >= MAX_REASONS:
            text = "other reasons"
        reason = self.reasons.setdefault(text, Reason())
        reason.rows += 1
        if len(reason.places) < FIRST_PLACES:
            reason.places.append(place)


class Distinct:
    """Counts distinct texts in 8 bytes each, or at most twice that: by their hashes."""

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(64)]
        self._full_at = [_COMPACT_AT] * 64

    def add(self, text: str) -> None:
        value = hash(text)
        at = value & 63
        part = self._parts[at]
        part.append(value)
        if len(part) >= self._full_at[at]:
            self._parts[at] = part = array("q", set(part))
            self._full_at[at] = max(_COMPACT_AT, 2 * len(part))

    def __len__(self) -> int:
        return sum(len(set(part)) for part in self._parts)


class Import:
    """The rows of some tables, as jobs.

    Call `survey` first, then `items`.

    Args:
        tables: each has columns of its own; a key has one type in all of them.
        choice: what the operator says of the columns.
        source: where all attributes were made.
        only_changed: what the jobs will be made with.
        started: the time of the rows that do not say theirs: the last row's, and the rows before
            it are a microsecond older each.
        run_id: makes the jobs' ids, with the rows' numbers, instead of the files' content.

    Raises:
        TableError: the columns do not do.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        choice: Choice,
        *,
        source: str | None = None,
        only_changed: bool = False,
        started: datetime,
        run_id: str | None = None,
    ) -> None:
        self.keys: dict[str, Key] = {}
        latest = started + MAX_AHEAD
        self.layouts = [
            Layout(table, choice, self.keys, source=source, latest=latest) for table in tables
        ]
        self.tally = Tally()
        """What `survey` found."""
        self.emails = Distinct()
        """Those of the rows that make a job."""
        self._choice = choice
        self._source = source
        self._only_changed = only_changed
        self.started = started
        self._run_id = run_id
        self._digests = [hashlib.sha256() for _ in tables]
        self._sent: deque[tuple[Layout, Row]] = deque()
        self._answered = 0
        if all(table.names for table in tables):
            self._check_options()

    def survey(self, advance: Callable[[int], None] = lambda _bytes: None) -> Tally:
        """Read everything once: counts the rows, and finds the types of the columns.

        Args:
            advance: is called now and then with the bytes read so far.

        Raises:
            TableError: a file cannot be read, or its columns do not do.
        """
        tally, before = self.tally, 0
        for layout, digest in zip(self.layouts, self._digests, strict=True):
            table = layout.table
            for row in table.rows(digest):
                tally.rows += 1
                if row.short:
                    tally.short += 1
                    tally.first_short = tally.first_short or table.place(row.line)
                if layout.unnamed:
                    layout.note_unnamed(row)
                if not tally.rows % _EVERY_ROWS:
                    advance(before + table.position)
                try:
                    record = layout.read(row)
                except Unfit as unfit:
                    tally.reject(str(unfit), table.place(row.line))
                    continue
                if record is None:
                    tally.without_values += 1
                    continue
                self.emails.add(normalized_email(record.email))
                for key, value in record.attributes:
                    key.see(value, row, table)
            before += table.size
            advance(before)
        self._check_options()
        return tally

    def rejected(self) -> Iterator[tuple[Layout, Row, str]]:
        """The rows that make no job, and why."""
        for layout in self.layouts:
            for row in layout.table.rows():
                try:
                    layout.read(row)
                except Unfit as unfit:
                    yield layout, row, str(unfit)

    def items(self, rejected: OnRejected) -> Iterator[dict[str, Any]]:
        """The items for `add_many`, one for each row that makes a job.

        Raises:
            TableError: a file cannot be read any more, or has changed.
        """
        # Before the start, all of them: a live job that comes in meanwhile is newer.
        occurred_at = self.started - self.tally.rows * _MICROSECOND
        extra = {} if self._source is None else {"source": self._source}
        types = {key.key: key.type.value for key in self.keys.values()}
        lines_before = 0
        for layout, digest in zip(self.layouts, self._digests, strict=True):
            tail = self._id_tail(layout, digest.digest())
            line = 0
            for row in layout.table.rows():
                occurred_at += _MICROSECOND
                line = row.line
                try:
                    record = layout.read(row)
                except Unfit as unfit:
                    rejected(layout, row, str(unfit))
                    continue
                if record is None:
                    continue
                attributes = []
                for key, value in record.attributes:
                    name = types[key.key]
                    document = {"type": name, "key": key.key, "value": key.read(value)}
                    attributes.append(document)
                self._sent.append((layout, row))
                yield {
                    "email": record.email,
                    "attributes": attributes,
                    "occurred_at": record.occurred_at or occurred_at,
                    "job_id": _job_id(lines_before + line, tail),
                    **extra,
                }
            if self._run_id is not None:
                lines_before += line

    def answered(self, batch: Batch, rejected: OnRejected) -> None:
        """Take note of what became of the items of one batch, in their order."""
        rows = [self._sent.popleft() for _ in batch.job_ids]
        for each in batch.rejected:
            layout, row = rows[each.position - self._answered]
            rejected(layout, row, str(each.errors[0]))
        self._answered += len(rows)

    def _id_tail(self, layout: Layout, content: bytes) -> str:
        """What the ids of a table's rows share: the digest of what makes their jobs."""
        if self._run_id is not None:
            origin: list[Any] = ["run", self._run_id]
        else:
            columns = [[name, key.key, key.type.value] for name, key in layout.keys.items() if key]
            origin = ["content", content.hex(), layout.email, self._choice.occurred_at]
            origin += [self._source, self._only_changed, sorted(columns), self._choice.reading]
        digest = hashlib.sha256(json.dumps(origin).encode()).hexdigest()
        # RFC 9562, version 8: 4 bits of version, 2 of variant, the rest is ours.
        return f"-8{digest[:3]}-{'89ab'[int(digest[3], 16) % 4]}{digest[4:7]}-{digest[7:19]}"

    def _check_options(self) -> None:
        """Whether the columns that the operator speaks of are there, and all names make keys.

        Raises:
            TableError: no; the text has all that is to be decided.
        """
        questions = [
            f"{layout.table.name}: {each}"
            for layout in self.layouts
            for each in self._asked(layout)
        ]
        questions += self._unknown_names()
        if not questions and not self.keys:
            questions.append("no column is left for an attribute, beside the email")
        if questions:
            raise TableError("\n".join(questions))

    def _asked(self, layout: Layout) -> list[str]:
        questions = layout.questions()
        if questions and layout.unnamed and layout.table.names and not self.tally.rows:
            # The operator is to be asked once: look now which of these columns have values.
            for row in layout.table.rows():
                layout.note_unnamed(row)
            questions = layout.questions()
        return questions

    def _unknown_names(self) -> list[str]:
        choice = self._choice
        columns = [column for layout in self.layouts for column in layout.columns.values()]
        known = {word for column in columns for word in column.words}
        objects = {path for column in columns for path in column.objects}
        named: dict[str, str] = {
            **dict.fromkeys(choice.rename, "--rename"),
            **dict.fromkeys(choice.date_formats, "--date-format"),
            **dict.fromkeys(choice.decimal_marks, "--decimal-mark"),
            **dict.fromkeys(choice.types, "--type"),
            **dict.fromkeys(sorted(choice.only), "--only"),
            **dict.fromkeys(sorted(choice.exclude), "--exclude"),
        }
        if choice.occurred_at is not None:
            named[choice.occurred_at] = "--occurred-at-column"
        texts = list(dict.fromkeys(column.address for column in columns))
        unknown = []
        for name, option in named.items():
            of_key = name in self.keys and option in _BY_KEY
            in_object = name in objects and option in ("--only", "--exclude")
            if not (name in known or of_key or in_object):
                unknown.append(f"{option}: no column {quoted(name)}; {listed(texts)}")
        return unknown


_BY_KEY = ("--type", "--date-format", "--decimal-mark")
"""Options that may say the key in place of the column."""
_MICROSECOND = timedelta(microseconds=1)


def _job_id(line: int, tail: str) -> str:
    """The id of the job of a line: a UUID, version 8, which sorts after those of lines before."""
    return f"{line >> 16:08x}-{line & 0xFFFF:04x}{tail}"
