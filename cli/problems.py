"""Problems, as commands print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.padding import Padding
from rich.text import Text

from ..jobs.text import printable
from ..operate.problems import Problem

STYLES = {"ok": "green", "error": "bold red", "warning": "yellow"}


def line(problem: Problem) -> str:
    """A problem in one line, for logs and for whoever reads the first line alone."""
    account = f" account {problem.account}:" if problem.account else ""
    return printable(
        f"{problem.level.upper()} {problem.code}:{account} {problem.text} → {problem.hint}"
    )


def blocks(problems: Iterable[Problem]) -> list[Text | Padding]:
    """Problems for a terminal, with what to do below each."""
    found: list[Text | Padding] = []
    for problem in problems:
        found += said(problem.level, _subject(problem), problem.text, problem.hint)
    return found


def said(level: str, subject: str, text: str, hint: str) -> list[Text | Padding]:
    """A thing that was found, and what to do about it, if anything."""
    mark = {"ok": "✓", "warning": "!", "error": "✗"}[level]
    words = f"{subject}: {text}" if subject else text
    found: list[Text | Padding] = [
        Padding(Text.assemble((f"{mark} ", STYLES[level]), printable(words)), (0, 0, 0, 0))
    ]
    if hint:
        found.append(Padding(Text(f"→ {printable(hint)}", "dim"), (0, 0, 0, 4)))
    return found


def _subject(problem: Problem) -> str:
    return problem.account or ""


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
