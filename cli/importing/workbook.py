"""Excel workbooks (.xlsx), read through openpyxl where it is installed."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable
from datetime import date, datetime
from typing import IO, Any

from .names import listed, option


class WorkbookError(Exception):
    """Raised when a workbook cannot be read as a table; the text says why, and what to do."""


def lines_of(workbook: IO[bytes], sheet: str | None) -> IO[bytes]:
    """The rows of a worksheet, in a temporary file: a JSON array of texts a line, or a blank line.

    A cell's text is what the workbook, saved as CSV, would have there, but days and times are in
    ISO 8601. Of a formula it is the value that the workbook was saved with.

    Args:
        workbook: the file.
        sheet: name of the worksheet; None takes the only one that has something in it.

    Raises:
        WorkbookError: openpyxl is not installed, the workbook cannot be read, or it has no such
            worksheet or several.
    """
    try:
        import openpyxl
    except ImportError:
        raise WorkbookError(
            "it is an Excel workbook; to read it, pip install 'attribute-courier[xlsx]', or save "
            "it as CSV"
        ) from None
    lines: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # the table closes it
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles and the like
            book = openpyxl.load_workbook(workbook, read_only=True, data_only=True)
            try:
                rows = _worksheet(book, sheet).iter_rows(values_only=True)
                for cells in rows:
                    lines.write(_line(cells))
            finally:
                book.close()
    except WorkbookError:
        lines.close()
        raise
    except Exception as error:
        # openpyxl and the reader of XML under it raise many kinds.
        lines.close()
        raise WorkbookError(
            f"it is an Excel workbook that cannot be read ({type(error).__name__}); save it as CSV"
        ) from None
    lines.flush()
    return lines


def _worksheet(book: Any, sheet: str | None) -> Any:
    sheets = {each.title: each for each in book.worksheets}
    for each in sheets.values():
        # What the file says of its size may be wrong or missing.
        each.reset_dimensions()
    if sheet is not None:
        if sheet not in sheets:
            raise WorkbookError(f"it has no worksheet {sheet!r}; {listed(list(sheets))}")
        return sheets[sheet]
    filled = [name for name, each in sheets.items() if _has_content(each)]
    if len(filled) > 1:
        choices = " or ".join(option("--sheet", name) for name in filled)
        raise WorkbookError(f"it has several worksheets; say {choices}")
    if not filled:
        raise WorkbookError("it is empty")
    return sheets[filled[0]]


def _has_content(worksheet: Any) -> bool:
    rows = worksheet.iter_rows(values_only=True)
    return any(cell is not None for cells in rows for cell in cells)


def _line(cells: Iterable[Any]) -> bytes:
    texts = [_text(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return (json.dumps(texts) if texts else "").encode() + b"\n"


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        # A workbook has no whole numbers of their own.
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    if isinstance(cell, datetime):
        at_midnight = cell.time().isoformat() == "00:00:00"
        return cell.date().isoformat() if at_midnight else cell.isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    return str(cell)
