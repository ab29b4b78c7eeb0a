"""Files as people have them: what `courier import` makes of each, and what it says.

Each class is a kind of case from public bug reports; the cases' sources stand with the project's
issues. The right value is what reaches the inbox.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import shlex
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import redis
from click.testing import Result

from attribute_courier.cli import main
from attribute_courier.producers import producer as producer_module
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.keys import Keys

from ..cli_runner import CliRunner

ADA, TWO = "ada@example.com", "two@example.com"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each command is a process of its own: none finds the producer of the one before."""
    monkeypatch.setattr(producer_module, "_default", None)
    yield
    if producer_module._default is not None:
        producer_module._default.close()


class Files:
    """Files, and what importing them does."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(main, ["import", *arguments], prog_name="courier")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def sent(self, content: str | bytes, *arguments: str, name: str = "t.csv") -> list[Any]:
        """What is in the inbox afterwards: the email and the attributes of each job, in order.

        All rows must have been enqueued."""
        write(content, name)
        result = self.run(name, *arguments)
        assert result.exit_code == 0, result.output
        return self.inbox()

    def inbox(self) -> list[Any]:
        found = self._client.hgetall(Keys("default").inbox)
        self._client.flushall()
        jobs = [json.loads(wire) for _, wire in sorted(found.items())]
        return [
            (job["email"], {each["key"]: each["value"] for each in job["attributes"]})
            for job in jobs
        ]

    def dry(self, content: str | bytes, *arguments: str, name: str = "t.csv") -> dict[str, Any]:
        """The document of a dry run."""
        write(content, name)
        result = self.run(name, "--dry-run", "--format", "json", *arguments)
        assert result.exit_code in (0, 1), result.output
        [document] = json.loads(result.stdout)
        return document  # type: ignore[no-any-return]

    def refused(self, content: str | bytes, *arguments: str, name: str = "t.csv") -> str:
        """Why a file cannot be imported at all. Nothing was sent."""
        write(content, name)
        result = self.run(name, *arguments)
        assert result.exit_code == 2, result.output
        assert self.inbox() == []
        return result.stderr

    def looks(self, values: list[str], *arguments: str) -> list[tuple[str, list[str]]]:
        """What a column named x looks like, and the options that read it."""
        text = io.StringIO()
        csv.writer(text).writerows([["email", "x"], *([ADA, value] for value in values)])
        looks = self.dry(text.getvalue(), *arguments)["looks"]
        return [(look["text"], look["options"]) for look in looks]


def write(content: str | bytes, name: str) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def suggestions(text: str) -> list[list[str]]:
    """The options that each line of a message suggests, as a shell would read them."""
    return [shlex.split(line[line.index("--") :]) for line in text.splitlines() if line[:2] == "  "]


@pytest.fixture
def files(
    server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Files]:
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    monkeypatch.chdir(tmp_path)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield Files(client)


class TestSeparatorLine:
    """FI1"""

    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize(
        ("line", "delimiter"),
        [
            ("sep=;", ";"),
            ("SEP=,", ","),
            ('"sep=;"', ";"),
            ("sep=\t", "\t"),
            ("sep=\\t", "\t"),
            ("sep=|;;", "|"),
            ("sep=^", "^"),
            ("sep=", ";"),
        ],
    )
    def test_is_read_over_and_its_delimiter_used(
        self, files: Files, mark: str, end: str, line: str, delimiter: str
    ) -> None:
        rows = [line, delimiter.join(["email", '"plan,x"']), delimiter.join([ADA, '"p;r"'])]
        if delimiter == ",":
            rows[1:] = ["email,plan", f"{ADA},pro"]
        content = mark + end.join([*rows, ""])
        [(email, values)] = files.sent(content, "--make-keys")
        assert email == ADA
        assert list(values.values()) == ["pro" if delimiter == "," else "p;r"]

    def test_an_option_says_more_than_the_line(self, files: Files) -> None:
        content = f"sep=,\nemail;plan\n{ADA};pro\n"
        assert files.sent(content, "--delimiter", ";") == [(ADA, {"plan": "pro"})]

    def test_a_file_of_rejects_keeps_it(self, files: Files) -> None:
        write(f"sep=^\nemail^a,b^plan\nnobody^1^pro\n{ADA}^2^pro\n", "t.csv")
        assert files.run("t.csv", "--make-keys", "--rejects", "r.csv").exit_code == 1
        files.inbox()
        text = Path("r.csv").read_text().replace("nobody", TWO)
        assert files.sent(text, "--make-keys", name="r.csv") == [(TWO, {"a_b": 1, "plan": "pro"})]


class TestBlankLines:
    """FI2"""

    @pytest.mark.parametrize("blank", ["", " ", "   ", "\t", "\u00a0", "\u200b", "\ufeff", "\x1a"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_are_no_rows(self, files: Files, blank: str, end: str) -> None:
        lines = [blank, "email,plan", blank, f"{ADA},pro", blank, blank, f"{TWO},free", blank]
        assert files.sent(end.join(lines), "--strict") == [
            (ADA, {"plan": "pro"}),
            (TWO, {"plan": "free"}),
        ]

    def test_of_json_lines_are_no_rows(self, files: Files) -> None:
        content = f'\n \t\n{{"email":"{ADA}","plan":"pro"}}\n\u200b\n\n'
        assert files.sent(content, "--strict", name="t.jsonl") == [(ADA, {"plan": "pro"})]

    def test_lines_of_delimiters_have_no_values(self, files: Files) -> None:
        assert files.dry(f"email,plan\n{ADA},pro\n,\n , \n")["without_values"] == 2


class TestCellsTooManyOrFew:
    """FI3 and FI4"""

    @pytest.mark.parametrize("surplus", [",", ",,,", ", ,", ',""', ",\u200b"])
    def test_empty_cells_beyond_the_header_are_nothing(self, files: Files, surplus: str) -> None:
        content = f'email,plan\n{ADA},pro{surplus}\n{TWO},"a\nb"{surplus}\n'
        assert files.sent(content, "--strict") == [(ADA, {"plan": "pro"}), (TWO, {"plan": "a\nb"})]

    def test_a_value_beyond_the_header_rejects_the_row(self, files: Files) -> None:
        write(f"email,plan\n{ADA},pro,,x\n{TWO},free\n", "t.csv")
        assert files.run("t.csv").exit_code == 1
        assert files.inbox() == [(TWO, {"plan": "free"})]

    def test_last_cells_that_are_missing_are_empty_and_told(self, files: Files) -> None:
        content = f'email,plan,note\n{ADA},pro,\n{TWO},free\n{TWO}\n{ADA},"two\nlines"\n'
        assert files.sent(content, "--strict") == [
            (ADA, {"plan": "pro"}),
            (TWO, {"plan": "free"}),
            (ADA, {"plan": "two\nlines"}),
        ]
        said = files.run("t.csv", "--dry-run").stderr
        assert "3 rows have fewer cells than the header, first t.csv:3" in said

    def test_a_quote_that_is_never_closed_swallows_no_row(self, files: Files) -> None:
        write(f'email,plan,note\n{ADA},"pro\n{TWO},free,x\n{ADA},pro,"y"\n', "t.csv")
        assert files.run("t.csv").exit_code == 1
        assert [email for email, _ in files.inbox()] == [TWO, ADA]

    def test_a_short_row_over_several_lines_swallows_no_whole_row(self, files: Files) -> None:
        write(f'email,plan,note\n{ADA},"pro\n{TWO},free,x\nmore"\n', "t.csv")
        assert files.run("t.csv").exit_code == 1
        assert files.inbox() == [(TWO, {"plan": "free", "note": "x"})]

    def test_in_a_file_of_rejects_the_reason_becomes_no_value(self, files: Files) -> None:
        write(f"email,plan,note,rejected because\n{ADA},pro,t.csv:2: why\n", "r.csv")
        assert files.run("r.csv").exit_code == 1
        assert files.inbox() == []

    def test_a_short_row_that_is_rejected_comes_back_as_it_was(self, files: Files) -> None:
        write(f"email,plan,note\nnobody,pro\n{ADA},free,x\n", "t.csv")
        files.run("t.csv", "--rejects", "r.csv")
        files.inbox()
        text = Path("r.csv").read_text().replace("nobody", TWO)
        assert files.sent(text, name="r.csv") == [(TWO, {"plan": "pro"})]


class TestNames:
    """FI5, FI6, FI7 and FI13: what is wrong with names is told at once, in options that work."""

    def test_columns_without_a_name_and_without_values_are_left_out(self, files: Files) -> None:
        assert files.sent(f"email,plan,,\n{ADA},pro,,\n") == [(ADA, {"plan": "pro"})]
        assert files.sent(f"email,plan,\u200b\n{ADA},pro, \n") == [(ADA, {"plan": "pro"})]

    @pytest.mark.parametrize(
        ("content", "ways"),
        [
            (f"email,plan,plan\n{ADA},pro,free\n", [{"plan": "pro", "plan_2": "free"}] * 2),
            (f",email,plan\n0,{ADA},pro\n", [{"column_1": 0, "plan": "pro"}] * 2),
            (
                f"email,Größe in cm,日本,a=b,-x,First name\n{ADA},1,2,3,4,5\n",
                [{"grosse_in_cm": 1, "column_3": 2, "a_b": 3, "x": 4, "first_name": 5}] * 2,
            ),
            (f"email,A b,a_b,A-B\n{ADA},1,2,3\n", [{"a_b_2": 1, "a_b": 2, "a_b_3": 3}] * 2),
            (f"email,x\x1b[2Jy,k\n{ADA},1,2\n", [{"x_2jy": 1, "k": 2}] * 2),
            (f'email,it\'s "so",k,k,\n{ADA},1,2,3,4\n', None),
            (f"email,$HOME `x`,plan\n{ADA},1,pro\n", [{"home_x": 1, "plan": "pro"}] * 2),
            (f"email,plan:Integer,plan\n{ADA},1,2\n", [{"plan": 1, "plan_2": 2}] * 2),
        ],
    )
    def test_every_suggestion_works_when_it_is_pasted(
        self, files: Files, content: str, ways: list[dict[str, Any]] | None
    ) -> None:
        said = files.refused(content)
        lines = suggestions(said)
        make_keys = next(line for line in lines if line == ["--make-keys"])
        renames = [word for line in lines if line[0].startswith("--rename") for word in line]
        excludes = [word for line in lines if line[0].startswith("--exclude") for word in line]
        [(_, made)] = files.sent(content, *make_keys)
        [(_, renamed)] = files.sent(content, *renames)
        assert made == renamed
        if ways is not None:
            assert [made, renamed] == ways
        if excludes:
            [(_, left)] = files.sent(content, *excludes)
            assert left.items() < made.items()

    def test_all_names_are_told_at_once(self, files: Files) -> None:
        names = [f"Field No. {n}" for n in range(1, 13)]
        content = f"Email,{','.join(names)}\n{ADA}{',x' * 12}\n"
        said = files.refused(content)
        assert ["--make-keys"] in suggestions(said)
        [rename] = [line for line in suggestions(said) if line[0] == "--rename"]
        keys = {f"field_no_{n}": "x" for n in range(1, 13)}
        assert files.sent(content, *rename) == [(ADA, keys)]
        assert files.sent(content, "--make-keys") == [(ADA, keys)]

    def test_names_that_come_later_in_json_lines_are_told_at_once(self, files: Files) -> None:
        lines = [f'{{"email":"{ADA}","a b":1}}', f'{{"email":"{ADA}","c d":2,"e f":{{"g":3}}}}']
        content = "\n".join(lines)
        [rename] = [each for each in suggestions(files.refused(content)) if "--rename" in each]
        assert files.sent(content, *rename) == [(ADA, {"a_b": 1}), (ADA, {"c_d": 2, "e_f_g": 3})]

    def test_several_questions_are_asked_in_one_round(self, files: Files) -> None:
        content = f"first,second,A b,k,k,\n{ADA},{TWO},1,2,3,4\n"
        said = files.refused(content)
        assert "--email-column first or --email-column second" in said
        pasted = [word for line in suggestions(said) if "--rename" in line for word in line]
        assert files.sent(content, "--email-column", "second", *pasted) == [
            (TWO, {"first": ADA, "a_b": 1, "k": 2, "k_2": 3, "column_6": 4})
        ]

    def test_two_columns_of_emails_are_told_apart_by_position(self, files: Files) -> None:
        content = f"email,email,plan\n{ADA},{TWO},pro\n"
        assert "--email-column column:1 or --email-column column:2" in files.refused(content)
        sent = files.sent(content, "--email-column", "column:2", "--only", "plan")
        assert sent == [(TWO, {"plan": "pro"})]

    @pytest.mark.parametrize("space", ["\u200b", "\ufeff", "\u00a0", "\u200e", "\u2060", " "])
    def test_invisible_characters_around_a_name_are_no_part_of_it(
        self, files: Files, space: str
    ) -> None:
        header = ",".join(f"{space}{name}{space}" for name in ("email", "plan", "seats:Integer"))
        assert files.sent(f"{header}\n{ADA},pro,8\n") == [(ADA, {"plan": "pro", "seats": 8})]
        lines = f'{{"email":"{ADA}","plan{space}":"pro"}}'
        assert files.sent(lines, name="t.jsonl") == [(ADA, {"plan": "pro"})]

    def test_a_position_is_a_name_in_every_option(self, files: Files) -> None:
        content = f"Email,x,x,x,x,when\n{ADA},1,2,3,4,2026-01-31\n"
        options = "--email-column column:1 --rename column:2=a --exclude column:3 --rename "
        options += "column:4=b --type column:4=String --exclude column:5 "
        options += "--occurred-at-column column:6"
        assert files.sent(content, *options.split()) == [(ADA, {"a": 1, "b": "3"})]


class TestOtherFiles:
    """FI8: what a file is that is no table of text, and what to do."""

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (bz2.compress(b"email,plan\n"), "bzip2 archive; unpack it, as `bzcat t.csv |"),
            (lzma.compress(b"email,plan\n"), "xz archive; unpack it, as `xzcat t.csv |"),
            (b"\x28\xb5\x2f\xfd\x04\x00", "zstd archive"),
            (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z archive"),
            (b"Rar!\x1a\x07\x01\x00", "RAR archive"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbook (.xls); save it as CSV"),
            (b"PAR1\x15\x04", "Parquet"),
            (b"Obj\x01\x04", "Avro"),
            (b"ARROW1\x00\x00", "Arrow"),
            (b"%PDF-1.7\n", "PDF"),
            (b"{\\rtf1\\ansi", "RTF"),
            (b"\x80\x04\x95\x00", "pickle"),
            (b"<!DOCTYPE html>\n<title>Log in", "web page"),
            (b'<?xml version="1.0"?><rows/>', "XML"),
            (b"-- MySQL dump 10.13\nCREATE TABLE users", "dump of SQL"),
            ("email,größe\n".encode("utf-16"), "looks like UTF-16; say --encoding utf-16"),
            ("email,größe\n".encode("utf-16-le"), "say --encoding utf-16-le"),
            ("email,größe\n".encode("utf-16-be"), "say --encoding utf-16-be"),
            ("email,größe\n".encode("utf-32"), "say --encoding utf-32"),
            ("email,größe\n".encode("cp1252"), "say its encoding: --encoding cp1252"),
        ],
        ids=lambda each: each if isinstance(each, str) else "",
    )
    def test_is_named(self, files: Files, content: bytes, words: str) -> None:
        assert words in files.refused(content)
        assert words.partition(";")[0] in files.refused(gzip.compress(content))

    def test_an_sqlite_database_is_named(self, files: Files) -> None:
        with sqlite3.connect("t.csv") as connection:
            connection.execute("create table users (email)")
        connection.close()
        assert "SQLite database" in files.refused(Path("t.csv").read_bytes())

    def test_a_zip_archive_is_named_and_the_command_works(self, files: Files) -> None:
        with zipfile.ZipFile("export file.zip", "w") as archive:
            archive.writestr("customers.csv", f"email,plan\n{ADA},pro\n")
        result = files.run("export file.zip")
        assert result.exit_code == 2
        assert "it is a zip archive; unpack it, as `unzip -p 'export file.zip' |" in result.stderr
        with zipfile.ZipFile("two.zip", "w") as archive:
            archive.writestr("a.csv", "")
            archive.writestr("b.csv", "")
        assert "see what is in it with `unzip -l two.zip`" in files.run("two.zip").stderr

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["mimetype", "content.xml"], "OpenDocument"),
            (["Index/Tables.iwa"], "Numbers"),
            (["[Content_Types].xml", "word/document.xml"], "Office document"),
            (["[Content_Types].xml", "xl/workbook.bin"], "xlsb"),
        ],
    )
    def test_documents_in_zip_archives_are_named(
        self, files: Files, names: list[str], words: str
    ) -> None:
        with zipfile.ZipFile("t.zip", "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        assert words in files.run("t.zip").stderr


class TestEncoding:
    TABLE = f"email,stadt\n{ADA},Zürich\n"

    @pytest.mark.parametrize("name", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8", "UTF8"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_is_that_which_is_said(self, files: Files, name: str, packed: bool) -> None:
        content = self.TABLE.encode(name)
        content = gzip.compress(content) if packed else content
        assert files.sent(content, "--encoding", name) == [(ADA, {"stadt": "Zürich"})]

    def test_the_same_rows_in_another_encoding_are_the_same_jobs(self, files: Files) -> None:
        write(self.TABLE, "a.csv")
        write(self.TABLE.encode("cp1252"), "b.csv")
        assert files.run("a.csv").exit_code == 0
        again = files.run("b.csv", "--encoding", "cp1252", "--format", "json")
        assert json.loads(again.stdout)[0]["known_already"] == 1

    def test_what_does_not_fit_is_an_error_that_says_which_byte(self, files: Files) -> None:
        content = b"email,x\n" + b"a@b.cc,1\n" * 40_000 + b"a@b.cc,\x81\n"
        said = files.refused(content, "--encoding", "cp1252")
        assert f"not cp1252: see byte {len(content) - 2} (0x81)" in said
        assert "is no encoding" in files.refused(self.TABLE, "--encoding", "utf-7-x")
        assert "is no encoding" in files.refused(self.TABLE, "--encoding", "base64")

    def test_a_contradiction_is_told(self, files: Files) -> None:
        bom = self.TABLE.encode("utf-8-sig")
        assert "say --encoding utf-8" in files.refused(bom, "--encoding", "cp1252")
        wide = self.TABLE.encode("utf-16")
        assert "say --encoding utf-16" in files.refused(wide, "--encoding", "cp1252")

    def test_rejects_keep_it(self, files: Files) -> None:
        write("email,stadt\nnobody,Zürich\n".encode("cp1252"), "t.csv")
        files.run("t.csv", "--encoding", "cp1252", "--rejects", "r.csv")
        text = Path("r.csv").read_bytes().replace(b"nobody", ADA.encode())
        sent = files.sent(text, "--encoding", "cp1252", name="r.csv")
        assert sent == [(ADA, {"stadt": "Zürich"})]


class TestNoValue:
    """FI9, and VE6 for files"""

    TABLE = "email,seats,plan\n" + "".join(
        f"{n}@example.com,{seats},{plan}\n"
        for n, (seats, plan) in enumerate(
            [("1", "NULL"), ("NULL", "\\N"), ("NaN", "nan"), ("None", "null"), ("<NA>", "N/A")]
        )
    )

    def test_words_are_told_with_the_options_that_read_them(self, files: Files) -> None:
        [look] = files.dry(self.TABLE)["looks"]
        assert "no value" in look["text"]
        assert look["column"] == "seats, plan"
        options = shlex.split(" ".join(look["options"]))
        assert set(options[1::2]) == {
            *("NULL", "\\N", "NaN", "nan", "None", "null", "<NA>", "N/A"),
        }
        assert files.sent(self.TABLE, *options) == [("0@example.com", {"seats": 1})]

    def test_unasked_they_are_sent_as_they_are(self, files: Files) -> None:
        assert files.sent(self.TABLE)[0] == ("0@example.com", {"seats": "1", "plan": "NULL"})

    def test_they_are_words_of_json_lines_and_emails_too(self, files: Files) -> None:
        lines = f'{{"email":"{ADA}","a":"NULL","b":8}}\n{{"email":"NULL","a":"NULL"}}\n'
        sent = files.sent(lines, "--null", "NULL", name="t.jsonl")
        assert sent == [(ADA, {"b": 8})]

    @pytest.mark.parametrize("blanks", ["   ", "", "\u00a0", "\u200b\ufeff", "\t\n"])
    def test_a_text_of_blanks_is_no_value_in_json_lines_too(
        self, files: Files, blanks: str
    ) -> None:
        rows = [{"email": "a@b.cc", "plan": blanks}, {"email": " b@b.cc ", "plan": "pro "}]
        content = "\n".join(map(json.dumps, rows))
        assert files.sent(content, name="t.jsonl") == [("b@b.cc", {"plan": "pro "})]
        quoted = f'email,plan\na@b.cc,"{blanks}"\nb@b.cc,pro \n'
        assert files.sent(quoted) == [("b@b.cc", {"plan": "pro"})]


class TestLooks:
    """What a column looks like is told with the option that reads it; nothing is converted."""

    @pytest.mark.parametrize(
        ("values", "text", "sent"),
        [
            (["31/01/2026"], "dates as day/month/year", "2026-01-31T00:00:00Z"),
            (["01/31/2026"], "dates as month/day/year", "2026-01-31T00:00:00Z"),
            (["31.01.2026", "1.2.2026"], "dates as day.month.year", "2026-01-31T00:00:00Z"),
            (["31-Jan-26"], "dates as day-month-year", "2026-01-31T00:00:00Z"),
            (["Jan 31, 2026"], "dates as month day, year", "2026-01-31T00:00:00Z"),
            (["20260131"], "dates as year, month and day", "2026-01-31T00:00:00Z"),
            (["2026/01/31 09:30"], "dates as year/month/day with a time", "2026-01-31T09:30:00Z"),
            (["1/31/2026 9:30 PM"], "dates as month/day/year with a", "2026-01-31T21:30:00Z"),
            (["Yes", "No", "no"], "yes and no", True),
            (["ja", "nein"], "yes and no", True),
            (["€ 1.234,50"], "amounts with a currency", 1234.5),
            (["$1,234.50", "$7"], "amounts with a currency", 1234.5),
            (["-12.50 USD"], "amounts with a currency", -12.5),
            (["1 234,50"], "numbers with marks", 1234.5),
            (["1,5"], "numbers with marks", 1.5),
            (["1.10", "1.9"], "sent as numbers: 1.10 becomes 1.1", "1.10"),
            (["12.0", "7.0", ""], "whole numbers with .0", 12),
        ],
    )
    def test_is_told_and_the_option_reads_it(
        self, files: Files, values: list[str], text: str, sent: object
    ) -> None:
        [(said, options)] = files.looks(values)
        assert text in said
        [(_, first), *_] = files.sent(Path("t.csv").read_bytes(), *shlex.split(" ".join(options)))
        assert first == {"x": sent}

    def test_day_and_month_that_cannot_be_told_apart_are_left_open(self, files: Files) -> None:
        [(said, options)] = files.looks(["01/02/2026", "03/04/2026"])
        assert "day/month/year or month/day/year" in said
        assert options == ["--date-format x=%d/%m/%Y", "--date-format x=%m/%d/%Y"]
        assert len(files.looks(["01/02/2026", "13/04/2026"])[0][1]) == 1

    def test_a_mark_that_makes_no_difference_is_not_asked_for(self, files: Files) -> None:
        assert files.looks(["€ 5", "€ 12"])[0][1] == ["--decimal-mark x=."]
        assert len(files.looks(["€ 5", "€ 1,234"])[0][1]) == 2

    @pytest.mark.parametrize(
        "values",
        [
            ["pro", "free"],
            ["31/01/2026", "soon"],
            ["A100", "B200"],
            ["+4930123"],
            ["1.2.3", "1.2.10"],
            ["1.5", "2.25"],
            ["8", "9"],
            ["01234"],
            ["true", "false"],
            ["2026-01-31"],
            ["192.168.0.1"],
            ["yes", "perhaps"],
        ],
    )
    def test_what_looks_like_nothing_else_is_not_told(
        self, files: Files, values: list[str]
    ) -> None:
        assert files.looks(values) == []

    def test_nothing_is_converted_unasked(self, files: Files) -> None:
        content = f"email,a,b,c\n{ADA},31/01/2026,yes,€ 5\n"
        assert files.sent(content) == [(ADA, {"a": "31/01/2026", "b": "yes", "c": "€ 5"})]

    def test_what_does_not_fit_the_option_rejects_the_row(self, files: Files) -> None:
        write(f"email,a,b\n{ADA},31/01/2026,1\n{TWO},2026-01-31,2\n{TWO},,x\n", "t.csv")
        arguments = ("--date-format", "a=%d/%m/%Y", "--decimal-mark", "b=,")
        result = files.run("t.csv", *arguments)
        assert result.exit_code == 1
        assert "a: must be a time as %d/%m/%Y" in result.stdout
        assert 'b: must be an amount with "," before its decimals' in result.stdout
        assert files.inbox() == [(ADA, {"a": "2026-01-31T00:00:00Z", "b": 1})]

    def test_the_time_of_a_row_can_have_a_format(self, files: Files) -> None:
        write(f"email,a,at\n{ADA},1,31/01/2026 10:00\n", "t.csv")
        arguments = ("--occurred-at-column", "at", "--date-format", "at=%d/%m/%Y %H:%M")
        assert files.run("t.csv", *arguments).exit_code == 0
        [wire] = files._client.hgetall(Keys("default").inbox).values()
        assert json.loads(wire)["occurred_at"] == "2026-01-31T10:00:00.000000Z"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--date-format", "a=%d/%m"], "%Y"),
            (["--date-format", "a=day/month"], "%Y"),
            (["--date-format", "a"], "COLUMN=FORMAT"),
            (["--date-format", "b=%Y"], "says where day, month and year are"),
            (["--date-format", "b=%d/%m/%Y"], '--date-format: no column "b"'),
            (["--decimal-mark", "a=;"], "a comma or a point"),
            (["--true", "1"], "--type COLUMN=Boolean"),
            (["--true", "yes", "--false", "yes"], "both say 'yes'"),
        ],
    )
    def test_wrong_options_are_explained(
        self, files: Files, arguments: list[str], words: str
    ) -> None:
        assert words in files.refused(f"email,a\n{ADA},1\n", *arguments)

    def test_a_sample_of_each_column_is_shown_in_a_dry_run_only(self, files: Files) -> None:
        write(f"email,plan,note\n{ADA},pro,{'long ' * 20}\n", "t.csv")
        lines = files.run("t.csv", "--dry-run").stdout.splitlines()
        assert lines[0].split() == ["column", "key", "type", "by", "rows", "sample", "note"]
        assert "a***@example.com" in lines[1], "of an email, as much as is needed to know it again"
        assert " pro " in lines[2]
        assert "long long long long lon…" in lines[3]
        assert "sample" not in files.run("t.csv").stdout


class TestNestedObjects:
    """FI12"""

    LINES = (
        '{"email":"a@example.com","plan":"pro","address":{"city":"Ulm"}}\n'
        '{"type":"identify","userId":"7","traits":{"email":"b@example.com","plan":"pro"}}\n'
        '{"type":"RECORD","stream":"users","record":{"email":"c@example.com","plan":"max"}}\n'
    )

    @pytest.mark.parametrize(
        ("arguments", "email", "plan"),
        [("traits", "b@example.com", "pro"), ("record", "c@example.com", "max")],
    )
    def test_an_email_and_attributes_in_an_object_are_named_by_paths(
        self, files: Files, arguments: str, email: str, plan: str
    ) -> None:
        write(self.LINES, "t.jsonl")
        path = f"{arguments}.plan"
        files.run(
            *("t.jsonl", "--email-column", f"{arguments}.email"),
            *("--only", path, "--rename", f"{path}=plan"),
        )
        assert files.inbox() == [(email, {"plan": plan})]

    def test_what_is_said_of_an_object_is_said_of_all_in_it(self, files: Files) -> None:
        line = f'{{"email":"{ADA}","a":{{"b":1,"c":{{"d":2}}}},"e":3}}'
        assert files.sent(line, "--exclude", "a", name="t.jsonl") == [(ADA, {"e": 3})]
        sent = files.sent(line, "--only", "a.c", "--make-keys", name="t.jsonl")
        assert sent == [(ADA, {"a_c_d": 2})]

    def test_an_email_in_an_object_is_found_where_there_is_one_only(self, files: Files) -> None:
        line = f'{{"event":"x","customer":{{"email":"{ADA}","plan":"pro"}}}}'
        sent = files.sent(line, "--make-keys", name="t.jsonl")
        assert sent == [(ADA, {"event": "x", "customer_plan": "pro"})]

    def test_two_fields_of_one_path_reject_the_row_only(self, files: Files) -> None:
        write(f'{{"email":"{ADA}","a":{{"b":1}},"a.b":2}}\n{{"email":"{ADA}","c":1}}\n', "t.jsonl")
        assert files.run("t.jsonl").exit_code == 1
        assert files.inbox() == [(ADA, {"c": 1})]


class TestWorkbook:
    def make(self, *rows: list[Any], name: str = "t.xlsx", **sheets: list[list[Any]]) -> None:
        book = openpyxl.Workbook()
        book.active.title = "Customers"
        for row in rows:
            book.active.append(row)
        for title, more in sheets.items():
            sheet = book.create_sheet(title)
            for row in more:
                sheet.append(row)
        book.save(name)

    def test_is_read_as_the_csv_that_it_could_be_saved_as(self, files: Files) -> None:
        self.make(
            ["email", "plan", "seats", "price", "since", "at", "paid", "zip", None],
            [ADA, " pro ", 8, 12.5, date(2026, 1, 31), datetime(2026, 1, 31, 9, 30), True, "01234"],
            [None],
            [TWO, "two\nlines", 9.0, None, None, None, False, "10115"],
        )
        result = files.run("t.xlsx", "--strict")
        assert result.exit_code == 0, result.output
        assert files.inbox() == [
            (
                ADA,
                {
                    "plan": "pro",
                    "seats": 8,
                    "price": 12.5,
                    "since": "2026-01-31T00:00:00Z",
                    "at": "2026-01-31T09:30:00Z",
                    "paid": True,
                    "zip": "01234",
                },
            ),
            (TWO, {"plan": "two\nlines", "seats": 9, "paid": False, "zip": "10115"}),
        ]

    def test_lines_are_those_of_the_sheet_and_rejects_are_csv(self, files: Files) -> None:
        self.make(["email", "note"], [ADA, "one\ntwo"], [], ["nobody", "x"])
        result = files.run("t.xlsx", "--rejects", "r.csv")
        assert result.exit_code == 1
        files.inbox()
        text = Path("r.csv").read_text("utf-8-sig")
        assert "t.xlsx:4: " in text
        assert files.sent(text.replace("nobody", TWO), name="r.csv") == [(TWO, {"note": "x"})]

    def test_of_several_worksheets_one_is_said(self, files: Files) -> None:
        self.make(["email", "a"], [ADA, 1], **{"New ones": [["email", "a"], [TWO, 2]]})
        said = files.run("t.xlsx").stderr
        assert "say --sheet Customers or --sheet 'New ones'" in said
        assert files.run("t.xlsx", "--sheet", "New ones").exit_code == 0
        assert files.inbox() == [(TWO, {"a": 2})]
        assert 'there are "Customers", "New ones"' in files.run("t.xlsx", "--sheet", "x").stderr
        write(f"email,a\n{ADA},1\n", "t.csv")
        assert "it is none" in files.run("t.csv", "--sheet", "x").stderr

    def test_without_openpyxl_a_sentence_says_what_to_install(
        self, files: Files, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make(["email", "a"], [ADA, 1])
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        said = files.run("t.xlsx").stderr
        assert "pip install 'attribute-courier[xlsx]', or save it as CSV" in said

    def test_a_damaged_one_is_refused_in_words(self, files: Files) -> None:
        with zipfile.ZipFile("t.xlsx", "w") as archive:
            archive.writestr("[Content_Types].xml", "<oops")
            archive.writestr("xl/workbook.xml", "<oops")
        assert "cannot be read" in files.run("t.xlsx").stderr
        self.make()
        assert "it is empty" in files.run("t.xlsx").stderr


class TestFormulas:
    """PF4: a spreadsheet runs nothing, and the file comes back as it was."""

    CELLS = ("=1+1", "+49301", "-5", "@x", "\t=1", "\r=1", "'=1", "''-5", "'x", "", "a=b", "-")

    def test_rejects_are_defused_and_read_back_unchanged(self, files: Files) -> None:
        text = io.StringIO()
        rows = [[f"nobody{n}", cell] for n, cell in enumerate(self.CELLS)]
        csv.writer(text, lineterminator="\n").writerows([["email", "-x"], *rows])
        write(text.getvalue(), "t.csv")
        arguments = ["--rename", "-x=x"]
        name = "t.csv"
        for n in range(3):
            rejects = f"r{n}.csv"
            assert files.run(name, *arguments, "--rejects", rejects).exit_code == 1
            with open(rejects, newline="") as file:
                written = list(csv.reader(file))
            assert not [cell for row in written for cell in row if cell[:1] in tuple("=+-@\t\r")]
            name = rejects
        corrected = Path(name).read_bytes().decode()
        corrected = re.sub(r"^nobody(\d+)", r"u\1@example.com", corrected, flags=re.M)
        sent = dict(files.sent(corrected, *arguments, name="corrected.csv"))
        plain = text.getvalue().replace("nobody", "u").replace(",", "@example.com,")
        plain = plain.replace("email@example.com", "email", 1)
        assert sent == dict(files.sent(plain, *arguments, name="plain.csv"))
        assert sent["u2@example.com"] == {"x": "-5"}

    def test_a_number_comes_back_as_a_number(self, files: Files) -> None:
        write(f"email,n\n{ADA},7\nnobody,-5\n", "t.csv")
        files.run("t.csv", "--rejects", "r.csv")
        files.inbox()
        text = Path("r.csv").read_text().replace("nobody", TWO)
        assert files.sent(text, name="r.csv") == [(TWO, {"n": -5})]

    def test_an_apostrophe_in_another_file_is_a_part_of_the_value(self, files: Files) -> None:
        assert files.sent(f"email,x\n{ADA},'=1\n") == [(ADA, {"x": "'=1"})]

    def test_csv_output_is_defused(self, files: Files) -> None:
        write("email,=x\nnobody,1\n", "=t.csv")
        result = files.run("=t.csv", "--dry-run", "--make-keys", "--format", "csv")
        rows = list(csv.reader(io.StringIO(result.stdout)))
        assert ["'=x", "x"] in [row[:2] for row in rows]
        assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@")]


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_rejects_are_for_their_owner_alone(
    files: Files, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PF2"""
    import os

    write("email,x\nnobody,1\n", "t.csv")
    Path("there.csv").touch(0o666)
    before = os.umask(umask)
    try:
        for name in ("new.csv", "there.csv"):
            files.run("t.csv", "--rejects", name)
            assert Path(name).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert files.run("t.csv", "--rejects", "/dev/null").exit_code == 1
    assert Path("/dev/null").stat().st_mode & 0o777 == 0o666
