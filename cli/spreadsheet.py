"""Cells that a spreadsheet would take for formulas.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return can run a formula when
somebody opens the file (OWASP: CSV injection). An apostrophe before it makes it text.
"""

from __future__ import annotations

import re

_DANGEROUS = re.compile(r"'*[=+\-@\t\r]")
_DEFUSED = re.compile(r"'+[=+\-@\t\r]")


def defused(cell: str) -> str:
    """The cell with an apostrophe before it if a spreadsheet could run it.

    A cell that already has apostrophes before such a character gets one more, so that `restored`
    finds back every cell.
    """
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def restored(cell: str) -> str:
    """The cell that `defused` was given."""
    return cell[1:] if _DEFUSED.match(cell) else cell
