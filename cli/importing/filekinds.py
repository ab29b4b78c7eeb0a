"""What a file looks like by its first bytes, where it is no table of text.

Nothing is guessed from this: the file is refused, with what it looks like and what to do.
"""

from __future__ import annotations

import re
import shlex
import zipfile
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from typing import IO

FIRST_BYTES = 4096
"""So many are looked at."""

WORKBOOK = "xl/workbook.xml"
"""The part that makes a zip archive an Excel workbook."""

_SAVE = "save it as CSV in the program that made it"
_EXPORT = "export it as CSV or JSON Lines"
# First bytes → what begins so. Sources: the formats' specifications and file(1)'s database.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"an old or encrypted Excel workbook (.xls); {_SAVE}"),
    (b"PAR1", f"a Parquet file; {_EXPORT}"),
    (b"Obj\x01", f"an Avro file; {_EXPORT}"),
    (b"ORC", f"an ORC file; {_EXPORT}"),
    (b"ARROW1", f"an Arrow file; {_EXPORT}"),
    (b"FEA1", f"a Feather file; {_EXPORT}"),
    (b"SQLite format 3\x00", f"an SQLite database; {_EXPORT}"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file; {_EXPORT}"),
    (b"\x93NUMPY", f"a NumPy file; {_EXPORT}"),
    (b"\x80\x03", f"a Python pickle; {_EXPORT}"),
    (b"\x80\x04", f"a Python pickle; {_EXPORT}"),
    (b"\x80\x05", f"a Python pickle; {_EXPORT}"),
    (b"%PDF-", "a PDF document; ask for the data as CSV"),
    (b"{\\rtf", f"an RTF document; {_SAVE}"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x7fELF", "a program"),
    (b"-----BEGIN PGP", "an encrypted file; decrypt it first"),
)
# First bytes → the archive, and the program that unpacks it to its standard output.
_PACKED: tuple[tuple[bytes, str, str], ...] = (
    (b"BZh", "a bzip2 archive", "bzcat"),
    (b"\xfd7zXZ\x00", "an xz archive", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "zstdcat"),
    (b"\x04\x22\x4d\x18", "an lz4 archive", "lz4cat"),
    (b"LZIP", "an lzip archive", "lzip -dc"),
    (b"\x1f\x9d", "a compressed file (.Z)", "zcat"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so"),
    (b"Rar!\x1a\x07", "a RAR archive", "unrar p -inul"),
)
_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body|table|meta)\b", re.I)
_XML = re.compile(rb"\s*<\?xml\b")
_DUMP = re.compile(
    rb"(?:--[^\n]*\n|/\*[^\n]*\n|\s)*(?:SET|CREATE TABLE|INSERT INTO|DROP TABLE|BEGIN;|COPY)\s",
    re.I,
)


def described(first: bytes, path: str) -> str | None:
    """What a file that begins so is, and what to do with it; None if it may be a table of text.

    Args:
        first: its first bytes, unpacked if the file is gzipped.
        path: of the file, or `-`, for a command that can be pasted into a shell.
    """
    for begin, kind in _KINDS:
        if first.startswith(begin):
            return f"it is {kind}"
    for begin, kind, program in _PACKED:
        if first.startswith(begin):
            command = f"{program} {_shell(path)} | courier import -"
            return f"it is {kind}; unpack it, as `{command}` does"
    if first[257:262] == b"ustar":
        return (
            f"it is a tar archive; see what is in it with `tar -tf {_shell(path)}`, and unpack it"
        )
    if _PAGE.match(first):
        return "it is a web page, as a log-in page is that was saved in place of the export"
    if _XML.match(first):
        return f"it is an XML document; {_SAVE}"
    if _DUMP.match(first):
        return f"it is a database dump of SQL statements; {_EXPORT}"
    return None


def is_zip(first: bytes) -> bool:
    return first.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"))


def zip_names(content: IO[bytes]) -> list[str]:
    """The names of what is in a zip archive; none if it cannot be read."""
    try:
        with zipfile.ZipFile(content) as archive:
            return [name for name in archive.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def described_zip(names: list[str], path: str) -> str:
    """What a zip archive with these files is, and what to do with it."""
    if "mimetype" in names and "content.xml" in names:
        return f"it is an OpenDocument file, such as a LibreOffice workbook; {_SAVE}"
    if any(name.endswith(".iwa") for name in names):
        return f"it is a Numbers workbook; {_SAVE}"
    if "xl/workbook.bin" in names:
        return f"it is a binary Excel workbook (.xlsb); {_SAVE}"
    if "[Content_Types].xml" in names:
        return f"it is an Office document; {_SAVE}"
    file, inside = _shell(path), [name for name in names if not name.startswith("__MACOSX/")]
    if len(inside) == 1:
        command = f"unzip -p {file} | courier import -"
        return f"it is a zip archive; unpack it, as `{command}` does"
    return f"it is a zip archive; see what is in it with `unzip -l {file}`, and unpack it"


def encoding_of(first: bytes) -> str | None:
    """The encoding that a file which begins so says or shows it has, if that is not UTF-8."""
    if first.startswith(BOM_UTF8):
        return None
    # UTF-32's mark begins with that of UTF-16.
    if first.startswith((BOM_UTF32_LE, BOM_UTF32_BE)):
        return "utf-32"
    if first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return "utf-16"
    # Most names of columns have ASCII letters: each is a zero and a byte in UTF-16.
    start = first[:64]
    if len(start) >= 4 and len(start) % 2 == 0:
        even, odd = start[::2].count(0), start[1::2].count(0)
        most = len(start) // 2 * 0.7
        if odd > most and not even:
            return "utf-16-le"
        if even > most and not odd:
            return "utf-16-be"
    return None


def _shell(path: str) -> str:
    return "-" if path == "-" else shlex.quote(path if not path.startswith("-") else f"./{path}")
