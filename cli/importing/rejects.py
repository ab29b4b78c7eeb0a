"""A file of the rows that were rejected, to be corrected and imported again."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import IO

from ..spreadsheet import csv_line
from .columns import Layout
from .names import split
from .table import REASON, Row, TableError


class Rejects:
    """Rejected rows, as they were.

    CSV keeps its header, with the types that the import found; a last column has the reasons.
    Cells that a spreadsheet would run as formulas are defused, and an import restores them. JSON
    Lines has each reason in a line of its own, below the row. An import reads over the reasons.

    The file is made with the first row, for its owner alone: it has emails.

    Args:
        path: of the file; what is there is replaced.
        layouts: those of the tables that the rows come from.

    Raises:
        TableError: the tables differ too much for one file, or the file is one of them.
    """

    def __init__(self, path: str, layouts: list[Layout]) -> None:
        self.path = path
        self.rows = 0
        self._file: IO[str] | None = None
        self._first = first = layouts[0]
        for layout in layouts:
            if layout.table.is_file(path):
                raise TableError(f"--rejects: {path} is imported; choose another name")
            if layout.table.header != first.table.header:
                raise TableError(
                    "--rejects: the files have different columns; import them one by one"
                )
        there = path if os.path.exists(path) else os.path.dirname(os.path.abspath(path))
        if os.path.isdir(path) or not os.access(there, os.W_OK):
            raise TableError(f"--rejects: {path} cannot be written")

    def add(self, layout: Layout, row: Row, reason: str) -> None:
        """Write a row, and why it was rejected."""
        try:
            if self._file is None:
                self._file = self._opened()
            why = f"{layout.table.place(row.line)}: {reason}"
            if isinstance(row.raw, str):
                self._file.write(f"{row.raw}\n{json.dumps({REASON: why}, ensure_ascii=False)}\n")
            else:
                self._put(self._file, [*self._without_reason(row.raw), why])
        except OSError as error:
            raise TableError(f"--rejects: {self.path}: {error.strerror}") from None
        self.rows += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _opened(self) -> IO[str]:
        table = self._first.table
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # no terminal, pipe or /dev/null
            os.fchmod(descriptor, 0o600)
        # Reasons may have characters that the encoding of the table lacks.
        file = open(  # noqa: SIM115
            descriptor, "w", encoding=table.encoding, errors="backslashreplace", newline=""
        )
        if table.names:
            if table.separator_line:
                file.write(f"sep={table.delimiter}\n")
            self._put(file, self._header())
        return file

    def _put(self, file: IO[str], cells: list[str]) -> None:
        file.write(csv_line(cells, self._first.table.delimiter))

    def _header(self) -> list[str]:
        """With the types of this import: a few rows alone could look like another type."""
        table, cells = self._first.table, []
        for name, text in zip(table.names, table.header, strict=True):
            key = self._first.keys[name]
            cells.append(f"{split(text)[0]}:{key.type}" if key else text)
        return [*self._without_reason(cells), REASON]

    def _without_reason(self, cells: list[str]) -> list[str]:
        """Without the reason of an import before, also where a row has too few or many cells."""
        if self._first.table.header[-1] == REASON and cells and _WHY.match(cells[-1]):
            return cells[:-1]
        return cells


_WHY = re.compile(rf"{REASON}$|.+:[0-9]+: ")
