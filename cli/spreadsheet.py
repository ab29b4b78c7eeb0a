"""Cells that a spreadsheet would take for formulas.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return can run a formula when
somebody opens the file (OWASP: CSV injection). An apostrophe before it makes it text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_DANGEROUS = re.compile(r"'*[=+\-@\t\r]")
_DEFUSED = re.compile(r"'+[=+\-@\t\r]")


def csv_line(cells: Iterable[str], delimiter: str = ",") -> str:
    """A row of CSV that a spreadsheet can open without running anything; it ends with LF."""
    line = io.StringIO()
    # The writer quotes the characters of its own line end only, and a lone CR would end the row.
    writer = csv.writer(line, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([defused(cell) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


def defused(cell: str) -> str:
    """The cell with an apostrophe before it if a spreadsheet could run it.

    A cell that already has apostrophes before such a character gets one more, so that `restored`
    finds back every cell.
    """
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def restored(cell: str) -> str:
    """The cell that `defused` was given."""
    return cell[1:] if _DEFUSED.match(cell) else cell
