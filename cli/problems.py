"""Problems, as commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ..jobs.text import printable
from ..operate.problems import Problem

STYLES = {"ok": "green", "error": "bold red", "warning": "yellow", "skipped": "dim"}


def line(problem: Problem) -> str:
    """A problem in one line, for logs and for whoever reads the first line alone."""
    account = f" account {problem.account}:" if problem.account else ""
    return printable(
        f"{problem.level.upper()} {problem.code}:{account} {problem.text} → {problem.hint}"
    )


def grid(problems: Iterable[Problem]) -> Table:
    """Problems for a terminal, with what to do below each."""
    found = _grid()
    for problem in problems:
        _add(found, problem.level, problem.account or "", problem.text, problem.hint)
    return found


def said(level: str, subject: str, text: str, hint: str) -> Table:
    """A thing that was found, and what to do about it, if anything."""
    found = _grid()
    _add(found, level, subject, text, hint)
    return found


def _grid() -> Table:
    return Table.grid(padding=(0, 1))


def _add(to: Table, level: str, subject: str, text: str, hint: str) -> None:
    mark = {"ok": "✓", "warning": "!", "error": "✗", "skipped": "-"}[level]
    words = f"{subject}: {text}" if subject else text
    to.add_row(Text(mark, STYLES[level]), Text(printable(words)))
    if hint:
        to.add_row("", Text(f"→ {printable(hint)}", "dim"))


def documents(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems for a program."""
    return [
        {
            "code": problem.code,
            "level": problem.level,
            "account": problem.account,
            "text": problem.text,
            "hint": problem.hint,
        }
        for problem in problems
    ]
