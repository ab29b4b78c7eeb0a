"""What `courier import` prints: about the columns, the rows, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from ...jobs.attributes import AttributeType
from ...jobs.emails import redacted_email
from ...jobs.outcome import STATUSES
from ...jobs.text import printable
from ..output import Format, show
from ..progress import duration_phrase
from .columns import Key
from .looks import Look
from .names import option
from .passes import Import, Reason

SAMPLE_CHARACTERS = 24
"""So many of a sample are shown to people."""


class Report:
    """Printed piece by piece for people, and at the end as one document for programs.

    Args:
        work: the import.
        format_: of the output; None is for people.
        samples: whether a value of each column is shown.
    """

    def __init__(self, work: Import, format_: Format | None, *, samples: bool = False) -> None:
        self.work = work
        self.samples = samples
        self.format_ = format_
        self._document: dict[str, Any] = {}

    def columns(self, types_used: Mapping[str, str] | None) -> None:
        """What each column is.

        `types_used`: key → the type that was first used for it from here; None if not known.
        """
        rows: dict[str, dict[str, str]] = {}
        files = []
        for layout in self.work.layouts:
            table = layout.table
            files.append(
                {
                    "file": table.name,
                    "format": table.format,
                    "email_column": layout.email,
                    "email_column_by": layout.email_found,
                }
            )
            for name, key in layout.keys.items():
                column = layout.columns[name]
                row = dict.fromkeys(_COLUMNS, "") | {"column": column.address}
                if key is not None:
                    row |= _key_row(key, types_used)
                elif name == layout.email:
                    row |= {"note": "the email", "by": layout.email_found}
                    row["sample"] = redacted_email(layout.email_sample)
                elif name == layout.occurred_at:
                    row |= {"note": "when it occurred", "by": "--occurred-at-column"}
                elif name in layout.unnamed:
                    row |= {"note": "left out: no name, no values"}
                else:
                    row |= {"note": "left out"}
                rows.setdefault(column.address, row)
        self._document["files"] = files
        self._document["columns"] = [
            {
                "column": key.column,
                "key": key.key,
                "type": key.type,
                "type_by": key.said_by,
                "type_before": (types_used or {}).get(key.key),
                "mixed": key.mixed or None,
                "rows": key.values,
                **({"sample": key.sample} if self.samples else {}),
            }
            for key in self.work.keys.values()
        ]
        shown = [name for name in _COLUMNS if self.samples or name != "sample"]
        self._show(list(rows.values()), tuple(shown))
        self._looks()

    def _looks(self) -> None:
        """What the columns look like, with the options that read it; nothing is converted."""
        looks = [*_word_looks(self.work), *_column_looks(self.work)]
        self._document["looks"] = [
            {"column": column, "text": look.text, "options": options}
            for column, look, options in looks
        ]
        rows = [
            {
                "column": column,
                "looks like": look.text.removeprefix("looks like "),
                "to read it so": (" or " if look.choose else " ").join(options),
            }
            for column, look, options in looks
        ]
        if rows:
            self._show(rows, ("column", "looks like", "to read it so"))

    def rejected(self, reasons: Mapping[str, Reason]) -> None:
        """Why rows make no jobs, and which; and which rows were short."""
        self._document["rejections"] = [
            {"reason": text, "rows": reason.rows, "first": reason.places}
            for text, reason in reasons.items()
        ]
        one_file = len(self.work.layouts) == 1
        rows = []
        for text, reason in sorted(reasons.items(), key=lambda item: -item[1].rows):
            places = [place.rpartition(":")[2] if one_file else place for place in reason.places]
            more = ", …" if reason.rows > len(places) else ""
            rows.append(
                {
                    "rejected": text,
                    "rows": f"{reason.rows:,}",
                    "first lines": ", ".join(places) + more,
                }
            )
        if rows:
            self._show(rows, ("rejected", "rows", "first lines"))
        tally = self.work.tally
        self._document["short_rows"] = tally.short
        if tally.short and self.format_ not in ("json", "jsonl"):
            rows_have = "1 row has" if tally.short == 1 else f"{tally.short:,} rows have"
            click.echo(
                f"{rows_have} fewer cells than the header, first {tally.first_short}: the missing "
                "ones are taken as empty.",
                err=True,
            )

    def plan(self, rate_limit: float) -> None:
        """How many rows there are, and what delivering them takes."""
        tally, requests = self.work.tally, len(self.work.emails)
        seconds = requests / rate_limit
        self._numbers(
            "rows",
            {"rows": tally.rows, "valid": tally.valid, "rejected": tally.rejected,
             "without_values": tally.without_values},
        )  # fmt: skip
        self._document |= {"emails": requests, "requests": requests, "seconds": seconds}
        self._show(
            [
                {"delivering": "emails", "takes": f"{requests:,}"},
                {"delivering": "requests", "takes": f"{requests:,}, one for each email"},
                {
                    "delivering": "time",
                    "takes": f"{duration_phrase(seconds)} at {rate_limit:g} requests a second",
                },
            ],
            ("delivering", "takes"),
        )

    def enqueued(self, enqueued: int, duplicates: int, rejected: int) -> None:
        """What became of the rows."""
        tally = self.work.tally
        self._numbers(
            "rows",
            {"rows": tally.rows, "enqueued": enqueued, "known_already": duplicates,
             "rejected": rejected, "without_values": tally.without_values},
        )  # fmt: skip

    def settled(self, settled: Mapping[str, int], pending: int) -> None:
        """What became of the jobs."""
        found = {status: settled.get(status, 0) for status in (*STATUSES, "unknown")}
        found["pending"] = pending
        self._document["outcomes"] = {status: jobs for status, jobs in found.items() if jobs}
        rows = [{"outcome": status, "jobs": f"{jobs:,}"} for status, jobs in found.items() if jobs]
        self._show(rows, ("outcome", "jobs"))

    def finish(self) -> None:
        """The document, for programs."""
        if self.format_ in ("json", "jsonl"):
            show([self._document], (), self.format_)

    def _numbers(self, what: str, numbers: dict[str, int]) -> None:
        self._document |= numbers
        words = {name: name.replace("_", " ") for name in numbers}
        rows = [{what: words[name], "count": f"{count:,}"} for name, count in numbers.items()]
        rows[0][what] = "in the files" if len(self.work.layouts) > 1 else "in the file"
        self._show(rows, (what, "count"))

    def _show(self, rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
        if self.format_ not in ("json", "jsonl"):
            show(rows, columns, self.format_)
            click.echo()


def _key_row(key: Key, types_used: Mapping[str, str] | None) -> dict[str, str]:
    before = (types_used or {}).get(key.key)
    notes = [key.mixed] if key.mixed else []
    if before is not None and before != key.type:
        notes.append(f"{before} was used before")
    elif before is None and types_used is not None:
        notes.append("not sent before")
    return {
        "key": key.key,
        "type": key.type.value if key.values or key.declared else "",
        "by": key.said_by if key.values or key.declared else "",
        "rows": f"{key.values:,}",
        "sample": _sample(key.sample),
        "note": "; ".join(notes),
    }


def _sample(value: str) -> str:
    text = value if len(value) <= SAMPLE_CHARACTERS else value[: SAMPLE_CHARACTERS - 1] + "…"
    return printable(text)


_COLUMNS = ("column", "key", "type", "by", "rows", "sample", "note")


def _column_looks(work: Import) -> Iterator[tuple[str, Look, list[str]]]:
    for key in work.keys.values():
        if key.declared is not None:
            continue
        for look in key.looks.found(decimal=key.type is AttributeType.Decimal):
            column = key.column if key.column == printable(key.column) else key.key
            options = [
                option(name, value.replace("COLUMN", column, 1)) for name, value in look.options
            ]
            yield key.column, look, options


def _word_looks(work: Import) -> Iterator[tuple[str, Look, list[str]]]:
    """Words for "no value", of all columns together: the option is one for all of them."""
    words: dict[str, None] = {}
    columns = []
    for key in work.keys.values():
        if key.looks.words:
            words |= key.looks.words
            columns.append(key.column)
    if words:
        look = Look(text='looks like words for "no value", which are sent as text', options=())
        yield ", ".join(columns), look, [option("--null", word) for word in words]
