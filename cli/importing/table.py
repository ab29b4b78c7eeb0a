"""Tables in files: CSV, TSV and JSON Lines, gzipped or not, read row by row.

A file is read more than once and never held in memory. A row that cannot be read spoils itself
only; what makes a file no table at all is a `TableError`.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import PurePath
from typing import IO, Any, Literal, NamedTuple

MAX_LINE_BYTES = 1024 * 1024
"""A longer line is no row of a table."""
MAX_LINES_CHARACTERS = 64 * 1024
"""How far the end of a quoted cell is looked for over the lines; spreadsheets hold 32 Ki a cell."""
REASON = "rejected because"
"""The last column of a file of rejected rows. It is no valid key, so it hides no attribute."""

_BLOCK = 256 * 1024
_DELIMITERS = (",", ";", "\t", "|")
_BOM = b"\xef\xbb\xbf"

Format = Literal["csv", "jsonl"]


class TableError(Exception):
    """Raised when a file cannot be read as a table; the text names the file, and what to do."""


class Row(NamedTuple):
    """One row of a table, or what stands in its place."""

    line: int
    """The line of the file on which it begins, from 1."""
    raw: list[str] | str
    """As it was: the cells of a CSV row, the line of a JSON one."""
    values: dict[str, Any]
    """Column → value: of CSV text without the spaces around it, else as JSON says it."""
    fault: str | None = None
    """Why it is no row; what is peculiar to this one comes after a semicolon."""


class Table:
    """One file of rows. `-` is the standard input.

    What is no regular file is first copied to a temporary one, as it can be read only once.

    Args:
        name: path of the file, or `-`.
        delimiter: between cells of CSV; None finds it in the header.

    Raises:
        TableError: there is no such file, or it is no table.
    """

    format: Format
    delimiter: str
    header: tuple[str, ...]
    """The columns' names as they stand there; () for JSON Lines, where each row has its own."""

    def __init__(self, name: str, delimiter: str | None = None) -> None:
        self.name = "standard input" if name == "-" else name
        self._path = name
        self.position = 0
        """Bytes of the file that have been read in this pass."""
        self._spooled: IO[bytes] | None = None
        try:
            if name == "-":
                self._spooled = _spooled(sys.stdin.buffer)
            elif not stat.S_ISREG(os.stat(name).st_mode):
                with open(name, "rb") as stream:
                    self._spooled = _spooled(stream)
            with self._opened() as stream:
                found = os.fstat(stream.fileno())
                self.size = found.st_size
                """Bytes of the file, compressed if it is."""
                self._stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
                self._gzipped = stream.read(2) == b"\x1f\x8b"
            self.encoding = "utf-8"
            """With which a program that wrote this file reads another: "utf-8-sig" has a BOM."""
        except OSError as error:
            raise TableError(f"{self.name}: {error.strerror}") from None
        self._sniff(delimiter)

    def rows(self, digest: Any = None) -> Iterator[Row]:
        """All rows, from the first.

        Args:
            digest: a hash object, which is fed with the file's content.

        Raises:
            TableError: it cannot be read on, or has changed since it was opened.
        """
        if self.format == "jsonl":
            return _json_rows(self._lines(digest))
        lines = _Lines(self._lines(digest))
        _csv_header(lines, self.delimiter)
        return _csv_rows(lines, self.delimiter, self.header)

    def place(self, line: int) -> str:
        """A line of this file, for people."""
        return f"{self.name}:{line}"

    def is_file(self, path: str) -> bool:
        """Whether this is the file that is read."""
        try:
            return self._spooled is None and os.path.samefile(path, self._path)
        except OSError:
            return False

    def close(self) -> None:
        """Give back the temporary file, if there is one."""
        if self._spooled is not None:
            self._spooled.close()

    def _sniff(self, delimiter: str | None) -> None:
        """Find out what kind of table this is, by its name and its beginning."""
        suffixes = [suffix for suffix in PurePath(self._path).suffixes if suffix != ".gz"]
        suffix = suffixes[-1].lower() if suffixes else ""
        if next(self._blocks(), b"").startswith(_BOM):
            self.encoding = "utf-8-sig"
        start = next((line for _, line in self._lines() if line.strip()), None)
        if start is None:
            raise TableError(f"{self.name}: it is empty")
        first = start.lstrip()[0]
        if first == "{" or suffix in (".jsonl", ".ndjson", ".json"):
            if first == "[":
                raise TableError(
                    f"{self.name}: a JSON array; write one object a line, as `jq -c '.[]'` does"
                )
            self.format, self.delimiter, self.header = "jsonl", "", ()
            return
        if "\r" in start:
            raise TableError(f"{self.name}: its lines end with CR alone; save it with LF or CRLF")
        if delimiter is None:
            outside_of_quotes = re.sub('"[^"]*"', "", start)
            # The first of those that stand there most often.
            delimiter = max(_DELIMITERS, key=outside_of_quotes.count)
            if suffix in (".tsv", ".tab"):
                delimiter = "\t"
        self.format, self.delimiter = "csv", delimiter
        header = _csv_header(_Lines(self._lines()), delimiter)
        if header is None:
            raise TableError(f"{self.name}: the header is not CSV: a quote is out of place")
        self.header = tuple(cell.strip() for cell in header)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._spooled is not None:
            self._spooled.seek(0)
            yield self._spooled
        else:
            with open(self._path, "rb") as stream:
                yield stream

    def _blocks(self) -> Iterator[bytes]:
        try:
            with self._opened() as stream:
                self._check_unchanged(stream)
                reader: Any = gzip.GzipFile(fileobj=stream) if self._gzipped else stream
                while block := reader.read(_BLOCK):
                    self.position = stream.tell()
                    yield block
                self._check_unchanged(stream)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise TableError(f"{self.name}: it is not a whole gzip file") from None
        except OSError as error:
            raise TableError(f"{self.name}: {error.strerror}") from None

    def _check_unchanged(self, stream: IO[bytes]) -> None:
        found = os.fstat(stream.fileno())
        if (found.st_ino, found.st_size, found.st_mtime_ns) != self._stamp:
            raise TableError(f"{self.name}: it changed while it was read")

    def _lines(self, digest: Any = None) -> Iterator[tuple[int, str]]:
        """The lines with their numbers, from 1, without their ends. At most one block at once."""
        number, offset, rest = 0, 0, b""
        for block in self._blocks():
            if digest is not None:
                digest.update(block)
            data = rest + block
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            # A line over several blocks is the first of what is read, or what is left.
            if max(len(rest), data.find(b"\n")) > MAX_LINE_BYTES:
                raise TableError(
                    f"{self.name}: line {number + 1} is longer than {MAX_LINE_BYTES} bytes"
                )
            if cut:
                lines = self._text(data[:cut], offset, number).split("\n")
                lines.pop()
                yield from enumerate((_without_cr(line) for line in lines), number + 1)
                number += len(lines)
                offset += cut
        if rest:
            yield number + 1, _without_cr(self._text(rest, offset, number))

    def _text(self, data: bytes, offset: int, lines_before: int) -> str:
        try:
            return data.decode("utf-8-sig" if offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            start = error.start
            if offset == 0 and data.startswith(_BOM):
                start += len(_BOM)  # Python counts from behind it
            line = lines_before + data.count(b"\n", 0, start) + 1
            utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff") and offset == 0
            raise TableError(
                f"{self.name}: not UTF-8: see byte {offset + start} (0x{data[start]:02x}), in line "
                f"{line}. {'It looks like UTF-16; save' if utf_16 else 'Save'} the file as UTF-8"
            ) from None


class _Lines:
    """Lines that can be given back, after looking ahead."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self._ahead: deque[tuple[int, str]] = deque()

    def next(self) -> tuple[int, str] | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def give_back(self, lines: list[tuple[int, str]]) -> None:
        self._ahead.extendleft(reversed(lines))


def _without_cr(line: str) -> str:
    return line[:-1] if line.endswith("\r") else line


def _spooled(stream: IO[bytes]) -> IO[bytes]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # the table closes it
    shutil.copyfileobj(stream, spool, _BLOCK)
    spool.flush()
    return spool


# --- CSV ---------------------------------------------------------------------------------------


def _csv_header(lines: _Lines, delimiter: str) -> list[str] | None:
    """The cells of the first line that is not blank; None if they cannot be read."""
    while (found := lines.next()) is not None:
        if found[1].strip():
            cells, _, fault = _quoted(found[1], lines, delimiter)
            return None if fault else cells
    return None


def _csv_rows(lines: _Lines, delimiter: str, header: tuple[str, ...]) -> Iterator[Row]:
    width = len(header)
    take = lines.next
    while (found := take()) is not None:
        number, line = found
        if not line:
            continue
        fault = None
        if '"' not in line:
            cells = line.split(delimiter)
        else:
            cells, ahead, fault = _quoted(line, lines, delimiter)
            if ahead and (fault or len(cells) != width):
                # It is the quote that is wrong, more likely than the lines that follow: each of
                # them is read as a row of its own.
                lines.give_back(ahead)
                cells, fault = _roughly(line, delimiter), "a quote is never closed"
        if fault is None and len(cells) != width:
            fault = f"not as many cells as the header; {len(cells)} instead of {width}"
        if fault is None:
            values = dict(zip(header, map(str.strip, cells), strict=True))
            yield Row(number, cells, values)
        else:
            yield Row(number, cells, {}, fault)


def _quoted(
    line: str, lines: _Lines, delimiter: str
) -> tuple[list[str], list[tuple[int, str]], str | None]:
    """The cells of a row with quotes, the further lines that it took, and what is wrong with it."""
    ahead: list[tuple[int, str]] = []

    def of_this_row() -> Iterator[str]:
        yield line + "\n"
        room = MAX_LINES_CHARACTERS
        while room > 0 and (found := lines.next()) is not None:
            ahead.append(found)
            room -= len(found[1]) + 1
            yield found[1] + "\n"

    try:
        return next(csv.reader(of_this_row(), delimiter=delimiter, strict=True)), ahead, None
    except csv.Error:
        # With nothing ahead, the file ends within the quotes.
        return _roughly(line, delimiter), ahead, "a quote is out of place"


def _roughly(line: str, delimiter: str) -> list[str]:
    """The cells of a line that is no row, as well as they can be told apart."""
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:
        return [line]


# --- JSON Lines --------------------------------------------------------------------------------


def _json_rows(lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        if not line or line.isspace():
            continue
        fault = None
        try:
            found = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            fault = f"not JSON; see character {error.pos + 1}"
        except _NotJsonError as error:
            fault = f"not JSON; {error}"
        except RecursionError:
            fault = "not JSON; it is nested too deeply"
        except (ValueError, ArithmeticError):
            fault = "not JSON; it has a number of too many digits"
        if fault is not None:
            yield Row(number, line, {}, fault)
        elif not isinstance(found, dict):
            yield Row(number, line, {}, "not a JSON object")
        elif found.keys() != {REASON}:
            yield Row(number, line, found)


class _NotJsonError(ValueError):
    """Raised where Python's reader is more lenient than JSON."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotJsonError("it has two fields of the same name")
    return found


def _no_constant(_: str) -> Any:
    raise _NotJsonError("it has NaN or Infinity")


# Numbers are read as Decimal, since a float would lose digits before a rule could see them.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Decimal, parse_constant=_no_constant
)
