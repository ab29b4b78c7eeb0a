"""How rows are shown: to a person on a terminal, or to a program."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..jobs.outcome import Outcome

Format = Literal["table", "plain", "json", "jsonl", "csv"]

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "plain", "json", "jsonl", "csv"]),
    help="Form of the output. Without it: table on a terminal, plain elsewhere.",
)

_STYLES = {
    "delivered": "green",
    "unchanged": "green",
    "superseded": "cyan",
    "pending": "yellow",
}

OUTCOME_COLUMNS = ("when", "email", "attributes", "outcome", "attempts", "customers", "job", "why")


def outcome_row(outcome: Outcome) -> dict[str, str]:
    """An outcome in words."""
    when = outcome.settled_at or outcome.accepted_at
    customers = [customer.external_id or customer.uuid or "?" for customer in outcome.customers]
    again = outcome.next_attempt_at
    why = outcome.message or ""
    if again:
        why = f"{why + '; ' if why else ''}next attempt at {again:%Y-%m-%d %H:%M:%S} UTC"
    return {
        "when": f"{when:%Y-%m-%d %H:%M:%S}" if when else "",
        "email": outcome.email or "",
        "attributes": ", ".join(outcome.keys),
        "outcome": outcome.status,
        "attempts": str(outcome.attempts),
        "customers": ", ".join(customers),
        "job": outcome.job_id,
        "why": why,
    }


def show_outcomes(outcomes: Iterable[Outcome], format_: Format | None) -> None:
    """Print outcomes: in words for people and CSV, in full for JSON."""
    found = list(outcomes)
    if format_ in ("json", "jsonl"):
        show([outcome.to_dict() for outcome in found], (), format_)
    else:
        show([outcome_row(outcome) for outcome in found], OUTCOME_COLUMNS, format_)


def show(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    format_: Format | None,
    *,
    header: bool = True,
) -> None:
    """Print rows in the form asked for."""
    if format_ is None:
        format_ = "table" if sys.stdout.isatty() else "plain"
    _WRITERS[format_](rows, columns, header)


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str], header: bool) -> None:
    table = Table(show_header=header, header_style="bold")
    filled = [name for name in columns if any(row[name] for row in rows)]
    for name in filled:
        # A job's id is there to be copied: it is not cut.
        table.add_column(name, overflow="fold", no_wrap=name in ("job", "outcome"))
    for row in rows:
        style = _STYLES.get(row.get("outcome", ""), "red" if "outcome" in row else "")
        table.add_row(
            *(Text(row[name], style=style if name == "outcome" else "") for name in filled)
        )
    Console().print(table)


def _plain(rows: Sequence[dict[str, Any]], columns: Sequence[str], header: bool) -> None:
    lines = [list(columns)] if header else []
    lines += [[_printable(row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text)


def _json(rows: Sequence[dict[str, Any]], _columns: Sequence[str], _header: bool) -> None:
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2))


def _jsonl(rows: Sequence[dict[str, Any]], _columns: Sequence[str], _header: bool) -> None:
    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=False))


def _csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], header: bool) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    click.echo(text.getvalue(), nl=False)


_WRITERS: dict[Format, Callable[[Sequence[dict[str, Any]], Sequence[str], bool], None]] = {
    "table": _table,
    "plain": _plain,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
}
