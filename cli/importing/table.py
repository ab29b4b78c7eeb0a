"""Tables in files: CSV, TSV, JSON Lines (gzipped or not) and workbooks, read row by row.

A file is read more than once and never held in memory. A row that cannot be read is rejected
alone; a file that is no table at all is a `TableError`.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import IO, Any, Literal, NamedTuple

from ...jobs.emails import trimmed
from ...jobs.strict_json import StrictJSONError, parse_json
from ..spreadsheet import restored
from . import filekinds
from .names import unique_names
from .workbook import WorkbookError, lines_of

MAX_LINE_BYTES = 1024 * 1024
"""A longer line is no row of a table."""
MAX_LINES_CHARACTERS = 64 * 1024
"""How far the end of a quoted cell is looked for over the lines; spreadsheets hold 32 Ki a cell."""
REASON = "rejected because"
"""The last column of a file of rejected rows. It is no valid key, so it hides no attribute."""

_BLOCK = 256 * 1024
_SHORT = 4
"""A line of fewer characters may be the mark that ends files of old systems, or zeros."""
_DELIMITERS = (",", ";", "\t", "|")
_BOM = codecs.BOM_UTF8
# As spreadsheets write it before the header: sep=; (some add delimiters behind it).
_SEPARATOR_LINE = re.compile(r'"?sep=(\\t|[^\w" ])?"?[\s,;|]*', re.I)

Format = Literal["csv", "jsonl"]


class TableError(Exception):
    """Raised when a file cannot be read as a table; the text names the file, and what to do."""


class Row(NamedTuple):
    """One row of a table, or what stands in its place."""

    line: int
    """The line of the file on which it begins, from 1."""
    raw: list[str] | str
    """As it was: the cells of a CSV row (as many as the header has, unless there is a fault), the
    line of a JSON one."""
    values: dict[str, Any]
    """Column → value: of CSV text without the blanks around it, else as JSON says it. A field of
    a JSON object inside the row has a path for a name: `customer.email`."""
    fault: str | None = None
    """Why it is no row; what differs from row to row comes after a semicolon."""
    short: bool = False
    """Whether its last cells were missing, and were taken as empty."""


class Table:
    """One file of rows. `-` is the standard input.

    What is no regular file is first copied to a temporary one, as it can be read only once.

    Args:
        name: path of the file, or `-`.
        delimiter: between cells of CSV; None finds it in the header, or takes that of a first line
            `sep=;`.
        encoding: of the text; None is UTF-8. Nothing is guessed.
        sheet: name of the worksheet of a workbook, if several have something in them.

    Raises:
        TableError: there is no such file, or it is no table.
    """

    format: Format
    delimiter: str
    header: tuple[str, ...]
    """The first row as it stands there, without the blanks and invisible characters around each
    name; () for JSON Lines, where each row has its own names."""
    names: tuple[str, ...]
    """The columns' names, none twice: those of the header; `column:3` for the third where that
    has none or one that a column before it has."""

    def __init__(
        self,
        name: str,
        delimiter: str | None = None,
        *,
        encoding: str | None = None,
        sheet: str | None = None,
    ) -> None:
        self.name = "standard input" if name == "-" else name
        self._path = name
        self.position = 0
        """Bytes of the file that have been read in this pass."""
        self.separator_line = False
        """Whether the file begins with a line such as `sep=;`."""
        self.from_rejects = False
        """Whether `--rejects` wrote it: spreadsheet formulas in it are defused."""
        self._spooled: IO[bytes] | None = None
        self._is_workbook = False
        self.encoding = encoding or "utf-8"
        """With which a program that wrote this file reads another: "utf-8-sig" has a BOM."""
        self._codec = None if encoding is None or _is_utf_8(encoding) else encoding
        try:
            if name == "-":
                self._spooled = _spooled(sys.stdin.buffer)
            elif not stat.S_ISREG(os.stat(name).st_mode):
                with open(name, "rb") as stream:
                    self._spooled = _spooled(stream)
            self._look(sheet)
        except OSError as error:
            self.close()
            raise TableError(f"{self.name}: {error.strerror}") from None
        except BaseException:
            self.close()
            raise
        try:
            self._sniff(delimiter)
        except BaseException:
            self.close()
            raise

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
        self._read_header(lines)
        if self._is_workbook:
            return _sheet_rows(lines, self.names)
        return _csv_rows(lines, self.delimiter, self.names, from_rejects=self.from_rejects)

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

    def _look(self, sheet: str | None) -> None:
        """Find out what kind of file it is, by its first bytes."""
        with self._opened() as stream:
            self._note_state(stream)
            self._gzipped = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            if not self._gzipped and filekinds.is_zip(stream.read(4)):
                stream.seek(0)
                names = filekinds.zip_names(stream)
                if filekinds.WORKBOOK not in names:
                    raise self._error(filekinds.described_zip(names, self._path))
                stream.seek(0)
                try:
                    lines = lines_of(stream, sheet)
                except WorkbookError as error:
                    raise self._error(str(error)) from None
                if self._spooled is not None:
                    self._spooled.close()
                self._spooled, self._is_workbook, self._codec = lines, True, None
                self._note_state(lines)
                self.encoding = "utf-8-sig"  # by which a spreadsheet knows UTF-8
                return
        if sheet is not None:
            raise self._error("--sheet is for Excel workbooks (.xlsx), and it is none")
        first = next(self._blocks(), b"")[: filekinds.FIRST_BYTES]
        if filekinds.is_zip(first):
            raise self._error("it is a gzipped zip archive; unpack it")
        kind = filekinds.described(first, self._path)
        if kind is not None:
            raise self._error(kind)
        looks_like = filekinds.encoding_of(first)
        if looks_like is not None and not _is_wide(self._codec):
            raise self._error(
                f"not {self._codec or 'UTF-8'}: it looks like {looks_like.upper()}; say --encoding "
                f"{looks_like}"
            )
        if first.startswith(_BOM):
            if self._codec is not None:
                raise self._error(
                    f"it begins with the mark of UTF-8, so it is not {self._codec}; say "
                    "--encoding utf-8"
                )
            self.encoding = "utf-8-sig"

    def _note_state(self, stream: IO[bytes]) -> None:
        found = os.fstat(stream.fileno())
        self.size = found.st_size
        """Bytes of the file, compressed if it is."""
        self._stamp = (found.st_ino, found.st_size, found.st_mtime_ns)

    def _error(self, text: str) -> TableError:
        return TableError(f"{self.name}: {text}")

    def _sniff(self, delimiter: str | None) -> None:
        """Find out what kind of table this is, by its name and its beginning."""
        suffixes = [suffix for suffix in PurePath(self._path).suffixes if suffix != ".gz"]
        suffix = suffixes[-1].lower() if suffixes else ""
        starts = (line for _, line in self._lines() if trimmed(line))
        start = next(starts, None)
        if start is None:
            raise self._error("it is empty")
        if self._is_workbook:
            self.format, self.delimiter = "csv", ","
            self._read_header(_Lines(self._lines()))
            return
        separator = _SEPARATOR_LINE.fullmatch(start)
        if separator is not None:
            self.separator_line = True
            said = separator[1]
            start = next(starts, "")
            if delimiter is None and said is not None:
                delimiter = "\t" if said == "\\t" else said
        first = trimmed(start)[:1]
        if first == "{" or suffix in (".jsonl", ".ndjson", ".json"):
            if first == "[":
                command = f"jq -c '.[]' {shlex.quote(self._path)} | courier import -"
                raise self._error(f"a JSON array; write one object a line, as `{command}` does")
            self.format, self.delimiter, self.header, self.names = "jsonl", "", (), ()
            return
        if "\r" in start:
            raise self._error("its lines end with CR alone; save it with LF or CRLF")
        if delimiter is None:
            outside_of_quotes = re.sub('"[^"]*"', "", start)
            # The first of those that stand there most often.
            delimiter = max(_DELIMITERS, key=outside_of_quotes.count)
            if suffix in (".tsv", ".tab"):
                delimiter = "\t"
        self.format, self.delimiter = "csv", delimiter
        self._read_header(_Lines(self._lines()))

    def _read_header(self, lines: _Lines) -> None:
        """Read over what comes before the rows, and note the columns."""
        while (found := lines.next()) is not None:
            if not trimmed(found[1]):
                continue
            if self.separator_line and _SEPARATOR_LINE.fullmatch(found[1]):
                continue
            break
        if found is None:
            raise self._error("it has no header")
        if self._is_workbook:
            cells = json.loads(found[1])
        else:
            cells, _, fault = _quoted(found[1], lines, self.delimiter)
            if fault:
                raise self._error("the header is not CSV: a quote is out of place")
        header = [trimmed(cell) for cell in cells]
        self.from_rejects = not self._is_workbook and REASON in header
        if self.from_rejects:
            header = [restored(name) for name in header]
        self.header = tuple(header)
        self.names = unique_names(header)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self._spooled is not None:
            self._spooled.seek(0)
            yield self._spooled
        else:
            with open(self._path, "rb") as stream:
                yield stream

    def _blocks(self) -> Iterator[bytes]:
        """The file's content, unpacked."""
        try:
            with self._opened() as stream:
                self._check_unchanged(stream)
                reader: Any = gzip.GzipFile(fileobj=stream) if self._gzipped else stream
                while block := reader.read(_BLOCK):
                    self.position = stream.tell()
                    yield block
                self._check_unchanged(stream)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise self._error("it is not a whole gzip file") from None
        except OSError as error:
            raise self._error(error.strerror or str(error)) from None

    def _utf_8_blocks(self) -> Iterator[bytes]:
        """The content in UTF-8, of whatever encoding the operator says it is."""
        if self._codec is None:
            yield from self._blocks()
            return
        decoder = codecs.getincrementaldecoder(self._codec)()
        read = 0
        try:
            for block in self._blocks():
                read += len(block)
                yield decoder.decode(block).encode(errors="surrogatepass")
            yield decoder.decode(b"", final=True).encode(errors="surrogatepass")
        except UnicodeDecodeError as error:
            byte = read - len(error.object) + error.start
            raise self._error(
                f"not {self._codec}: see byte {byte} (0x{error.object[error.start]:02x}); say "
                "another --encoding"
            ) from None
        except UnicodeError:  # UTF-16 and UTF-32 without a mark of their byte order
            raise self._error(
                f"it does not begin with the mark of {self._codec}; say --encoding "
                f"{self._codec}-le or --encoding {self._codec}-be"
            ) from None

    def _check_unchanged(self, stream: IO[bytes]) -> None:
        found = os.fstat(stream.fileno())
        if (found.st_ino, found.st_size, found.st_mtime_ns) != self._stamp:
            raise TableError(f"{self.name}: it changed while it was read")

    def _lines(self, digest: Any = None) -> Iterator[tuple[int, str]]:
        """The lines with their numbers, from 1, without their ends. At most one block at once."""
        number, offset, rest = 0, 0, b""
        for block in self._utf_8_blocks():
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
            raise self._error(
                f"not UTF-8: see byte {offset + start} (0x{data[start]:02x}), in line {line}. "
                "Save the file as UTF-8, or say its encoding: --encoding cp1252 is what Excel on "
                "Windows writes in western Europe and America; --dry-run shows how it reads"
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


def _is_utf_8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _is_wide(encoding: str | None) -> bool:
    """Whether a character takes at least two bytes in it."""
    return encoding is not None and codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _spooled(stream: IO[bytes]) -> IO[bytes]:
    spool = tempfile.TemporaryFile()  # noqa: SIM115  # the table closes it
    shutil.copyfileobj(stream, spool, _BLOCK)
    spool.flush()
    return spool


# --- CSV ---------------------------------------------------------------------------------------


def _csv_rows(
    lines: _Lines, delimiter: str, names: tuple[str, ...], *, from_rejects: bool
) -> Iterator[Row]:
    width = len(names)
    take = lines.next
    while (found := take()) is not None:
        number, line = found
        if not line or line.isspace() or (len(line) < _SHORT and not trimmed(line)):
            continue
        fault, ahead = None, list[tuple[int, str]]()
        if '"' not in line:
            cells = line.split(delimiter)
            if len(cells) == width and line.isascii() and not from_rejects:  # most rows
                texts = map(str.strip, cells)
                yield Row(number, cells, dict(zip(names, texts, strict=True)))
                continue
        else:
            cells, ahead, fault = _quoted(line, lines, delimiter)
        short = len(cells) < width and not fault
        if len(cells) > width and not fault and not any(map(trimmed, cells[width:])):
            del cells[width:]  # delimiters too many: nothing is in those cells
        if ahead and (
            fault or len(cells) > width or (short and _holds_rows(ahead, delimiter, width))
        ):
            # It is the quote that is wrong, more likely than the lines that follow: each of them
            # is read as a row of its own.
            lines.give_back(ahead)
            cells, fault = _roughly(line, delimiter), "a quote is never closed"
        # In a file of rejects the reason is the last cell: a row of too few would lose it.
        if fault is None and (len(cells) > width or (short and from_rejects)):
            fault = f"not as many cells as the header; {len(cells)} instead of {width}"
        if from_rejects:
            cells = [restored(cell) for cell in cells]
        if fault is not None:
            yield Row(number, cells, {}, fault)
            continue
        if not trimmed(line):
            continue  # invisible characters that Python does not count as white space
        if short:
            cells += [""] * (width - len(cells))
        yield Row(number, cells, dict(zip(names, map(_text, cells), strict=True)), None, short)


def _text(cell: str) -> str:
    """A cell without the blanks around it; nothing, if all of it is invisible."""
    text = cell.strip()
    return text if trimmed(text) else ""


def _holds_rows(lines: list[tuple[int, str]], delimiter: str, width: int) -> bool:
    """Whether one of these lines looks like a row by itself."""
    return any(line.count(delimiter) >= width - 1 for _, line in lines)


def _sheet_rows(lines: _Lines, names: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a workbook: each line an array of cells, without the last empty ones."""
    width = len(names)
    while (found := lines.next()) is not None:
        number, line = found
        if not line:
            continue
        cells: list[str] = json.loads(line)
        if len(cells) > width:
            count = len(cells)
            yield Row(number, cells, {}, f"more cells than the header; {count} instead of {width}")
            continue
        cells += [""] * (width - len(cells))
        yield Row(number, cells, dict(zip(names, map(_text, cells), strict=True)))


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
            found = parse_json(line)
            if isinstance(found, dict) and any(isinstance(each, dict) for each in found.values()):
                found = _flattened(found)
        except StrictJSONError as error:
            what, _, where = str(error).partition(": ")
            fault = f"{what}; {where}"
        if fault is not None:
            if trimmed(line):
                yield Row(number, line, {}, fault)
        elif not isinstance(found, dict):
            yield Row(number, line, {}, "not a JSON object")
        elif found.keys() != {REASON}:
            yield Row(number, line, found)


def _flattened(found: dict[str, Any]) -> dict[str, Any]:
    """The fields of objects within the object, with their paths as names: `customer.email`."""
    flat: dict[str, Any] = {}
    waiting = [("", found)]
    for prefix, each in waiting:
        for name, value in each.items():
            path = f"{prefix}{name}"
            if isinstance(value, dict):
                waiting.append((f"{path}.", value))
            elif path in flat:
                raise StrictJSONError("not a row: two of its fields make one path")
            else:
                flat[path] = value
    return flat
