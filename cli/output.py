"""How rows are printed: for a person on a terminal, or for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config.durations import parse_duration
from ..jobs.outcome import Outcome
from ..jobs.text import printable
from .spreadsheet import csv_line

Format = Literal["table", "plain", "json", "jsonl", "csv"]

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "plain", "json", "jsonl", "csv"]),
    help="Form of the output. Without it: table on a terminal, plain elsewhere.",
)


class Age(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.4
    """How long ago: seconds, or 90s, 15m, 2h, 7d."""

    name = "age"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            age = timedelta(seconds=parse_duration(value))
        except (ValueError, OverflowError):
            self.fail("write seconds, or an age such as 90s, 15m, 2h, 7d", param, ctx)
        return age


_STYLES = {
    "delivered": "green",
    "unchanged": "green",
    "superseded": "cyan",
    "canceled": "cyan",
    "pending": "yellow",
}

_WIDE = 160
"""Columns of a terminal from which on an outcome's cells stand beside each other."""

OUTCOME_COLUMNS = ("when", "email", "attributes", "outcome", "attempts", "customers", "job", "why")
_STACKED_COLUMNS = ("who and what", "outcome", "job")


_WHY = {"asked": "somebody took it back", "forgotten": "its email was forgotten"}
"""Of a canceled job, by its reason."""


def outcome_row(outcome: Outcome) -> dict[str, str]:
    """An outcome in words."""
    when = outcome.settled_at or outcome.accepted_at
    customers = [customer.external_id or customer.uuid or "?" for customer in outcome.customers]
    again = outcome.next_attempt_at
    why = [outcome.message or _WHY.get(outcome.reason), outcome.warning]
    if again and again > datetime.now(UTC):
        why.append(f"next attempt at {again:%Y-%m-%d %H:%M:%S} UTC")
    elif again:
        why.append("due; if it stays so, `courier status` says what holds it back")
    return {
        "when": f"{when:%Y-%m-%d %H:%M:%S}" if when else "",
        "email": outcome.email or "",
        "attributes": ", ".join(outcome.keys),
        "outcome": outcome.status,
        "attempts": str(outcome.attempts),
        "customers": ", ".join(customers),
        "job": outcome.job_id,
        "why": "; ".join(filter(None, why)),
    }


def show_outcomes(
    outcomes: Iterable[Outcome], format_: Format | None, *, header: bool = True
) -> None:
    """Print outcomes: in words for people and CSV, in full for JSON."""
    found = list(outcomes)
    if format_ in ("json", "jsonl"):
        show([outcome.to_dict() for outcome in found], (), format_)
        return
    rows = [outcome_row(outcome) for outcome in found]
    if chosen(format_) == "table" and Console().width < _WIDE:
        show([_stacked(row) for row in rows], _STACKED_COLUMNS, format_, header=header)
    else:
        show(rows, OUTCOME_COLUMNS, format_, header=header)


def _stacked(row: dict[str, str]) -> dict[str, str]:
    """The columns of an outcome above each other, where they do not fit beside each other."""
    attempts = f"{row['attempts']} attempt{'' if row['attempts'] == '1' else 's'}"
    cells = {
        "who and what": (row["email"], row["attributes"], row["when"]),
        "outcome": (row["outcome"], attempts, row["customers"]),
        "job": (row["job"], row["why"]),
    }
    return {name: "\n".join(map(printable, filter(None, cell))) for name, cell in cells.items()}


def show(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    format_: Format | None,
    *,
    header: bool = True,
) -> None:
    """Print rows in the form asked for."""
    _WRITERS[chosen(format_)](rows, columns, header)


def chosen(format_: Format | None) -> Format:
    """The form asked for, or the one that fits where the output goes."""
    if format_ is None:
        return "table" if sys.stdout.isatty() else "plain"
    return format_


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str], header: bool) -> None:
    console = Console()
    stacked = columns is _STACKED_COLUMNS
    table = Table(show_header=header, header_style="bold", show_lines=stacked)
    filled = [name for name in columns if any(row[name] for row in rows)]
    for name in filled:
        # A job's id is there to be copied: its 36 characters are not cut.
        width = max(36, console.width * 45 // 100) if stacked and name == "job" else None
        uncut = name in ("job", "outcome") and not stacked
        table.add_column(name, overflow="fold", no_wrap=uncut, width=width)
    for row in rows:
        status = row.get("outcome", "").partition("\n")[0]
        style = _STYLES.get(status, "red" if status else "")
        cells = [row[name] if stacked else printable(row[name]) for name in filled]
        styles = [style if name == "outcome" else "" for name in filled]
        table.add_row(*map(Text, cells, styles))
    console.print(table)


def _plain(rows: Sequence[dict[str, Any]], columns: Sequence[str], header: bool) -> None:
    lines = [list(columns)] if header else []
    lines += [[printable(row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _json(rows: Sequence[dict[str, Any]], _columns: Sequence[str], _header: bool) -> None:
    click.echo(json.dumps(rows, ensure_ascii=False, indent=2))


def _jsonl(rows: Sequence[dict[str, Any]], _columns: Sequence[str], _header: bool) -> None:
    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=False))


def _csv(rows: Sequence[dict[str, Any]], columns: Sequence[str], header: bool) -> None:
    """CSV is opened in spreadsheets: a cell must not be run as a formula there."""
    lines = [csv_line(columns)] if header else []
    lines += [csv_line(str(row[name]) for name in columns) for row in rows]
    click.echo("".join(lines), nl=False)


_WRITERS: dict[Format, Callable[[Sequence[dict[str, Any]], Sequence[str], bool], None]] = {
    "table": _table,
    "plain": _plain,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
}
