"""Reading tables: rows of CSV and JSON Lines, what their columns are, and the jobs they make."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier.cli.importing.columns import Choice, Layout
from attribute_courier.cli.importing.passes import Distinct, Import
from attribute_courier.cli.importing.rejects import Rejects
from attribute_courier.cli.importing.table import (
    MAX_LINE_BYTES,
    MAX_LINES_CHARACTERS,
    REASON,
    Row,
    Table,
    TableError,
)
from attribute_courier.jobs.attributes import AttributeType
from attribute_courier.jobs.build import build_job
from attribute_courier.jobs.errors import FieldError, InvalidJob
from attribute_courier.jobs.ids import is_job_id
from attribute_courier.producers.bulk import Batch, Rejected

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Any]:
    """Makes a table of a content."""
    with contextlib.ExitStack() as opened:

        def make(content: str | bytes, name: str = "table.csv", **options: Any) -> Table:
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            return opened.enter_context(closing(Table(str(path), **options)))

        yield make


def rows(table: Table) -> list[tuple[int, Any]]:
    """The line of each row, and its values, or why it has none."""
    return [(row.line, row.fault or row.values) for row in table.rows()]


# --- reading -----------------------------------------------------------------------------------


class TestCsv:
    @pytest.mark.parametrize(
        ("line", "cells"),
        [
            ("a@b.cc,pro,8", ["a@b.cc", "pro", "8"]),
            ("a@b.cc, pro ,8", ["a@b.cc", "pro", "8"]),
            ('a@b.cc,"pro, max",8', ["a@b.cc", "pro, max", "8"]),
            ('"a@b.cc","say ""hi""",8', ["a@b.cc", 'say "hi"', "8"]),
            ('a@b.cc,5" pipe,8', ["a@b.cc", '5" pipe', "8"]),
            ("a@b.cc,,", ["a@b.cc", "", ""]),
            ("a@b.cc,Zoë 日本,8", ["a@b.cc", "Zoë 日本", "8"]),
        ],
    )
    @pytest.mark.parametrize("end", ["\n", "\r\n", ""])
    def test_a_row_is_its_cells(self, table: Any, line: str, cells: list[str], end: str) -> None:
        found = table(f"email,plan,age\n{line}{end}")
        assert rows(found) == [(2, dict(zip(("email", "plan", "age"), cells, strict=True)))]

    def test_a_quoted_cell_may_have_several_lines(self, table: Any) -> None:
        found = table('email,note\r\na@b.cc,"one\r\ntwo\r\n\r\nfour"\r\nc@d.ee,x\r\n')
        assert rows(found) == [
            (2, {"email": "a@b.cc", "note": "one\ntwo\n\nfour"}),
            (6, {"email": "c@d.ee", "note": "x"}),
        ]

    def test_blank_lines_are_no_rows_but_count_as_lines(self, table: Any) -> None:
        assert rows(table("\n\na,b\n\n1,2\n\n\n3,4\n\n")) == [
            (5, {"a": "1", "b": "2"}),
            (8, {"a": "3", "b": "4"}),
        ]

    @pytest.mark.parametrize(
        ("bad", "fault"),
        [
            ("1,2,3", "not as many cells as the header; 3 instead of 2"),
            ('1,"2', "a quote is never closed"),
            ('"1,2', "a quote is never closed"),
            ('1,"2"x', "a quote is out of place"),
            ('"1,2,3\n"x', "a quote is never closed"),
        ],
    )
    @pytest.mark.parametrize("good", ["8,9", '"8",9', '8,"nine\nten"', '8,""'])
    def test_a_bad_row_spoils_itself_only(
        self, table: Any, bad: str, fault: str, good: str
    ) -> None:
        found = rows(table(f"a,b\n{good}\n{bad}\n{good}\n{good}\n"))
        faults = [each for each in found if isinstance(each[1], str)]
        assert faults[0] == (3 + good.count("\n"), fault)
        assert [each[1] for each in found if not isinstance(each[1], str)] == [found[0][1]] * 3

    def test_a_row_over_several_lines_needs_the_right_width(self, table: Any) -> None:
        assert rows(table('a,b\n1,2,"3\n4,5"\n6,"7\n8"\n')) == [
            (2, "a quote is never closed"),
            (3, {"a": "4", "b": '5"'}),
            (4, {"a": "6", "b": "7\n8"}),
        ]

    def test_looks_only_so_far_for_the_end_of_a_cell(self, table: Any) -> None:
        filling = "x,y\n" * (MAX_LINES_CHARACTERS // 4 + 10)
        found = rows(table(f'a,b\n1,"2\n{filling}3"\n'))
        assert found[0] == (2, "a quote is never closed")
        assert len(found) == filling.count("\n") + 2

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_the_delimiter_is_found_in_the_header(self, table: Any, delimiter: str) -> None:
        found = table(f'email{delimiter}"a,b;c|d\te"\n1{delimiter}2\n')
        assert found.delimiter == delimiter
        assert rows(found)[0][1] == {"email": "1", "a,b;c|d\te": "2"}

    def test_the_delimiter_can_be_said(self, table: Any) -> None:
        assert rows(table("a,b:c\n1:2\n", delimiter=":")) == [(2, {"a,b": "1", "c": "2"})]

    def test_a_tsv_file_has_tabs_whatever_else_is_there(self, table: Any) -> None:
        assert table("a,b,c\td\n", "table.tsv").header == ("a,b,c", "d")
        assert table("a,b,c\td\n", "table.tsv.gz").header == ("a,b,c", "d"), "not gzipped at all"


class TestJsonLines:
    def test_a_row_is_an_object(self, table: Any) -> None:
        lines = '{"a": "x", "b": 8, "c": 1.50, "d": true, "e": null}\n\n  \n{"f": "Zo\\u00eb"}'
        assert rows(table(lines)) == [
            (1, {"a": "x", "b": 8, "c": Decimal("1.50"), "d": True, "e": None}),
            (4, {"f": "Zoë"}),
        ]

    @pytest.mark.parametrize(
        ("bad", "fault"),
        [
            ('{"a": 1', "not JSON; see character 8"),
            ("[1]", "not a JSON object"),
            ("8", "not a JSON object"),
            (
                '{"a": 1, "a": 2}',
                "not JSON as RFC 8259 advises; an object has two fields of the same name",
            ),
            ('{"a": NaN}', "not JSON; it has NaN or Infinity"),
            ('{"a": ' + "9" * 5_000 + "}", "not readable; a number has too many digits"),
            ('{"a": 1e99999999999999999999}', "not readable; a number has too many digits"),
            ('{"a": ' + "[" * 99_999 + "}", "not readable; it is nested too deeply"),
        ],
    )
    def test_a_bad_line_spoils_itself_only(self, table: Any, bad: str, fault: str) -> None:
        found = rows(table(f'{{"a": 1}}\n{bad}\n{{"a": 2}}\n'))
        assert found == [(1, {"a": 1}), (2, fault), (3, {"a": 2})]

    def test_the_name_says_what_it_is_when_the_first_line_does_not(self, table: Any) -> None:
        assert table("oops\n", "table.jsonl").format == "jsonl"
        assert table("oops\n", "table.ndjson.gz").format == "jsonl"
        assert table('{"a": 1}\n', "table.txt").format == "jsonl"

    def test_an_array_is_not_json_lines(self, table: Any) -> None:
        with pytest.raises(TableError, match="one object a line"):
            table('[{"a": 1}]', "table.json")


class TestFiles:
    @pytest.mark.parametrize("name", ["table.csv.gz", "table"])
    def test_gzip_is_known_by_its_content(self, table: Any, name: str) -> None:
        assert rows(table(gzip.compress(b"a,b\n1,2\n"), name)) == [(2, {"a": "1", "b": "2"})]

    def test_a_gzip_file_that_is_cut_off_is_an_error(self, table: Any) -> None:
        content = "a,b\n" + "".join(f"{n},{n * n}\n" for n in range(60_000))
        found = table(gzip.compress(content.encode())[:-30_000])
        with pytest.raises(TableError, match="not a whole gzip file"):
            rows(found)

    def test_a_byte_order_mark_is_no_part_of_the_header(self, table: Any) -> None:
        found = table(b"\xef\xbb\xbfa,b\n1,2\n")
        assert found.header == ("a", "b")
        assert found.encoding == "utf-8-sig"

    @pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("filling", [0, 100_000], ids=["early", "late"])
    def test_what_is_not_utf_8_is_an_error_that_says_which_byte(
        self, table: Any, before: bytes, filling: int
    ) -> None:
        content = before + b"a,b\n" + b"1,2\n" * filling + b"3,caf\xe9\n"
        place = f"see byte {len(content) - 2} (0xe9), in line {filling + 2}."
        with pytest.raises(TableError, match="not UTF-8") as caught:
            rows(table(content))
        assert place in str(caught.value)

    @pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_utf_16_is_an_error(self, table: Any, codec: str) -> None:
        with pytest.raises(TableError):
            Layout(table("email,é\n".encode(codec)), Choice(), {}, latest=NOW)

    def test_utf_16_is_named(self, table: Any) -> None:
        with pytest.raises(TableError, match="it looks like UTF-16; say --encoding utf-16"):
            table("email,é\n".encode("utf-16"))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "it is empty"),
            (b"\n \n", "it is empty"),
            (b"a,b\r1,2\r", "end with CR alone"),
            (b'a,"b\n1,2\n', "a quote is out of place"),
        ],
    )
    def test_what_is_no_table_is_an_error(self, table: Any, content: bytes, words: str) -> None:
        with pytest.raises(TableError, match=words):
            table(content)

    def test_a_file_that_cannot_be_opened_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(TableError, match=r"nothing\.csv: No such file"):
            Table(str(tmp_path / "nothing.csv"))
        with pytest.raises(TableError, match="directory"):
            Table(str(tmp_path))

    def test_the_standard_input_is_read_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,2\n")))
        with closing(Table("-")) as found:
            assert rows(found) == rows(found) == [(2, {"a": "1", "b": "2"})]
            assert found.place(2) == "standard input:2"

    def test_a_file_that_changes_between_the_passes_is_an_error(self, table: Any) -> None:
        found = table("a,b\n1,2\n")
        with open(found.name, "a") as file:
            file.write("3,4\n")
        with pytest.raises(TableError, match="changed"):
            rows(found)

    @pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzip bomb"])
    def test_a_line_without_end_is_an_error_and_no_burden(self, table: Any, gzipped: bool) -> None:
        content = b"a,b\n1," + b"2" * (64 * MAX_LINE_BYTES)
        found = table(gzip.compress(content) if gzipped else content)
        del content
        tracemalloc.start()
        try:
            with pytest.raises(TableError, match=f"line 2 is longer than {MAX_LINE_BYTES} bytes"):
                rows(found)
            assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
        finally:
            tracemalloc.stop()

    def test_a_line_of_the_greatest_length_is_read(self, table: Any) -> None:
        cell = "2" * (MAX_LINE_BYTES - 2)
        assert rows(table(f"a,b\n1,{cell}\n3,4\n"))[0] == (2, {"a": "1", "b": cell})
        with pytest.raises(TableError, match="line 2 is longer"):
            rows(table(f"a,b\n1,{cell}x\n3,4\n", "longer.csv"))


GOOD = [f"{n}@example.com,{n}" for n in range(3)]


class TestAnything:
    @given(st.lists(st.one_of(st.binary(), st.text().map(str.encode)), max_size=6))
    def test_bytes_are_rows_or_a_table_error(self, pieces: list[bytes]) -> None:
        for end in (b"\n", b",", b'"', b'{"a": '):
            read_all(end.join(pieces))
            read_all(b"email,a\n" + end.join(pieces))
            read_all(b'{"email": "a@b.cc", "a": 1}\n' + end.join(pieces))

    @given(st.text(alphabet='a,"\n\r;{} \x00é', max_size=30))
    def test_a_row_of_csv_takes_no_good_neighbour_with_it(self, garbage: str) -> None:
        """A quote that is open at the end of a line may go on in the next one only if that makes
        a row of the right width."""
        content = "\n".join(["email,a", *GOOD, garbage, *GOOD, *GOOD, ""])
        found = read_all(content.encode())
        assert found is not None
        kept = [",".join(row.raw) for row in found if row.fault is None]
        if garbage.count('"') % 2 == 0 and "\n" not in garbage:
            assert [line for line in kept if line in GOOD] == GOOD * 3
        assert kept[: len(GOOD)] == GOOD
        assert kept[-len(GOOD) :] == GOOD
        rejected_or_kept = sum(row.fault is not None for row in found) + len(kept)
        assert rejected_or_kept >= 3 * len(GOOD)

    @given(st.text(max_size=30).filter(lambda text: "\n" not in text))
    def test_a_line_of_json_takes_no_neighbour_with_it(self, garbage: str) -> None:
        good = '{"email": "a@b.cc", "a": 1}'
        found = read_all("\n".join([good, garbage, good, good, ""]).encode())
        assert found is not None
        assert [row.raw for row in found if row.raw == good] == [good] * 3

    @given(
        st.lists(
            st.lists(
                st.text(st.characters(exclude_characters="\r", codec="utf-8")),
                min_size=3,
                max_size=3,
            )
        )
    )
    def test_what_a_writer_of_csv_writes_is_read_back(self, table: list[list[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([["a", "b", "c"], *table])
        found = read_all(text.getvalue().encode())
        assert found is not None
        assert [row.raw for row in found] == table


def read_all(content: bytes) -> list[Row] | None:
    """The rows, by all of what an import does with them; None if it is no table."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            with closing(Table(file.name)) as table:
                found = list(table.rows())
                work = Import([table], Choice(), started=NOW)
                tally = work.survey()
                items = list(work.items(lambda *_: None))
        except TableError:
            with contextlib.suppress(TableError), closing(Table(file.name)) as table:
                return list(table.rows())
            return None
        assert tally.rows == len(found)
        assert tally.valid == len(items)
        for item in items:
            build_job(**item)
        return found


# --- columns -----------------------------------------------------------------------------------


def work_on(*tables: Table, run_id: str | None = None, **options: Any) -> Import:
    """An import after its first pass; options that are no choice of columns go to it."""
    others = {name: options.pop(name) for name in ("source", "only_changed") if name in options}
    work = Import(tables, Choice(**options), started=NOW, run_id=run_id, **others)
    work.survey()
    return work


def types(work: Import) -> dict[str, str]:
    return {key.key: key.type.value for key in work.keys.values()}


def items(work: Import) -> list[dict[str, Any]]:
    return list(work.items(lambda *_: None))


def values(work: Import) -> list[Any]:
    """The value of the first attribute of each item."""
    return [item["attributes"][0]["value"] for item in items(work)]


class TestTypes:
    @pytest.mark.parametrize(
        ("cells", "type_"),
        [
            (["8", "-3", "0"], "Integer"),
            (["8", "", "  "], "Integer"),
            (["999999999999999"], "Integer"),
            (["1", "0"], "Integer"),
            (["9999999999999999"], "String"),
            (["8", "08"], "String"),
            (["01234"], "String"),
            (["+4930123"], "String"),
            (["-0"], "String"),
            (["1 000"], "String"),
            (["8.5", "-0.25", "-3"], "Decimal"),
            (["8", "8.5"], "Decimal"),
            (["08.5"], "String"),
            (["1,5"], "String"),
            ([".5"], "String"),
            (["5."], "String"),
            (["1e5"], "String"),
            (["8.5", "n/a"], "String"),
            (["8", "true"], "String"),
            (["true", "FALSE", "True"], "Boolean"),
            (["t", "f"], "String"),
            (["true", "1"], "String"),
            (["2026-01-31", "2026-01-31T10:00:00Z", "2026-01-31 10:00"], "Timestamp"),
            (["2026-02-30"], "String"),
            (["2026-01-31x"], "String"),
            (["20260131"], "Integer"),
            (["31.01.2026"], "String"),
            (["2026-01-31", "8"], "String"),
            (["NaN"], "String"),
            (["٣"], "String"),
            ([""], "String"),
        ],
    )
    def test_a_column_of_text_has_the_narrowest_type_of_all_its_values(
        self, table: Any, cells: list[str], type_: str
    ) -> None:
        lines = "".join(f'a@b.cc,"{cell}"\n' for cell in cells)
        assert types(work_on(table("email,x\n" + lines))) == {"x": type_}

    @pytest.mark.parametrize(
        ("found", "type_", "sent"),
        [
            (["x", "8"], "String", ["x", "8"]),
            ([8, -3], "Integer", [8, -3]),
            ([8, 1.5], "Decimal", [8, Decimal("1.5")]),
            ([True, False], "Boolean", [True, False]),
            ([8, "x"], "String", ["8", "x"]),
            ([True, 8, 1.5], "String", ["true", "8", "1.5"]),
            (["2026-01-31"], "String", ["2026-01-31"]),
            (["8"], "String", ["8"]),
        ],
    )
    def test_json_says_the_type_and_a_mixed_column_is_text(
        self, table: Any, found: list[Any], type_: str, sent: list[Any]
    ) -> None:
        lines = "".join(json.dumps({"email": "a@b.cc", "x": value}) + "\n" for value in found)
        work = work_on(table(lines))
        assert types(work) == {"x": type_}
        assert values(work) == sent

    def test_says_where_a_column_became_mixed(self, table: Any) -> None:
        work = work_on(table("email,x,y\na@b.cc,8,1\na@b.cc,9,1\na@b.cc,n/a,1\na@b.cc,7,1\n"))
        assert work.keys["x"].mixed.endswith("table.csv:4")
        assert work.keys["x"].mixed.startswith("Integer until ")
        assert work.keys["y"].mixed == ""

    def test_a_row_that_is_rejected_has_no_say(self, table: Any) -> None:
        work = work_on(table("email,x\na@b.cc,8\nnobody,n/a\n"))
        assert types(work) == {"x": "Integer"}

    def test_the_header_or_the_operator_says_it(self, table: Any) -> None:
        work = work_on(
            table("email,a:Decimal,b,c:String,d:note\na@b.cc,8,1,t,x\n"),
            types={"b": AttributeType.Boolean, "c": AttributeType.Boolean},
            rename={"d:note": "d"},
        )
        assert types(work) == {"a": "Decimal", "b": "Boolean", "c": "Boolean", "d": "String"}
        assert [key.said_by for key in work.keys.values()] == [
            *("header", "--type", "--type", "values"),
        ]

    def test_a_value_that_is_not_of_its_columns_type_rejects_the_row(self, table: Any) -> None:
        work = work_on(table("email,age:Integer\na@b.cc,8\na@b.cc,eight\na@b.cc,9\n"))
        assert work.tally.valid == 2
        [(reason, rejected)] = work.tally.reasons.items()
        assert reason.startswith("age: an Integer is a whole number")
        assert rejected.places[0].endswith(":3")

    def test_a_text_that_is_too_long_rejects_the_row_whatever_the_type(self, table: Any) -> None:
        content = f"email,x,y\na@b.cc,{'x' * 256},\na@b.cc,{'x' * 255},\na@b.cc,,{'1' * 256}\n"
        assert work_on(table(content)).tally.valid == 1

    @pytest.mark.parametrize("word", ["True", "False", "TRUE", "true", "t", "1"])
    def test_the_words_for_a_boolean_are_read(self, table: Any, word: str) -> None:
        work = work_on(table(f"email,x:Boolean\na@b.cc,{word}\n"))
        [item] = items(work)
        assert build_job(**item).attributes[0].value is (word != "False")

    def test_a_key_has_one_type_over_all_files(self, table: Any) -> None:
        first = table("email,x,y\na@b.cc,8,1\n", "first.csv")
        second = table("y,email,x\n2,a@b.cc,n/a\n", "second.csv")
        assert types(work_on(first)) == {"x": "Integer", "y": "Integer"}
        assert types(work_on(first, second)) == {"x": "String", "y": "Integer"}
        with pytest.raises(TableError, match="--type x="):
            work_on(table("email,x:Integer\n", "3.csv"), table("email,x:Decimal\n", "4.csv"))

    @given(st.text(max_size=20))
    def test_what_a_type_was_inferred_from_is_a_value_of_it(self, text: str) -> None:
        content = io.StringIO()
        csv.writer(content).writerow(["a@b.cc", text])
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            file.write(b"email,x\n" + content.getvalue().encode(errors="replace"))
            file.flush()
            with closing(Table(file.name)) as found:
                work = work_on(found)
                for item in items(work):
                    build_job(**item)


class TestColumns:
    @pytest.mark.parametrize(
        ("header", "column", "by"),
        [
            ("email,x", "email", "its name"),
            ("E-Mail,x", "E-Mail", "its name"),
            ("x,Email Address", "Email Address", "its name"),
            ("EMAIL:String,x", "EMAIL:String", "its name"),
            ("email,customer_email", "email", "its name"),
            ("x,customer_email", "customer_email", "its name and content"),
            ("x,Kontakt", "Kontakt", "its content"),
            ("email_opt_in,Kontakt", "Kontakt", "its content"),
        ],
    )
    def test_the_emails_column_is_found(
        self, table: Any, header: str, column: str, by: str
    ) -> None:
        cells = ["a@b.cc" if name == column else "yes" for name in header.split(",")]
        found = table(f"{header}\n{','.join(cells)}\n")
        layout = Layout(found, Choice(), {}, latest=NOW)
        assert (layout.email, layout.email_found) == (column, by)

    @pytest.mark.parametrize(
        "content",
        [
            "first,second\na@b.cc,c@d.ee\n",
            "first,second\n1,2\n",
            "first_email,second_email\na@b.cc,c@d.ee\n",
            '{"first": 1}\n',
        ],
    )
    def test_where_it_is_in_doubt_the_operator_is_asked(self, table: Any, content: str) -> None:
        with pytest.raises(TableError, match=r"Say --email-column first\w*"):
            work_on(table(content))

    def test_the_operator_says_it(self, table: Any) -> None:
        found = table("first,second\na@b.cc,c@d.ee\n")
        work = work_on(found, email="second")
        assert [item["email"] for item in items(work)] == ["c@d.ee"]
        with pytest.raises(TableError, match='no column "third"'):
            work_on(found, email="third")

    def test_only_exclude_and_rename(self, table: Any) -> None:
        found = table("email,a,B c,d:Integer\na@b.cc,1,2,3\n")
        assert list(work_on(found, rename={"B c": "b"}).keys) == ["a", "b", "d"]
        assert list(work_on(found, exclude=frozenset({"a", "B c"})).keys) == ["d"]
        assert list(work_on(found, only=frozenset({"a", "d"})).keys) == ["a", "d"]
        renamed = work_on(found, only=frozenset({"d"}), rename={"d": "x"})
        assert items(renamed)[0]["attributes"] == [{"type": "Integer", "key": "x", "value": "3"}]

    @pytest.mark.parametrize(
        "content", ["email,First name,a\n", '{"email":"a@b.cc","First name":1}']
    )
    def test_a_name_that_is_no_key_is_an_error_that_suggests_one(
        self, table: Any, content: str
    ) -> None:
        with pytest.raises(TableError, match="--rename 'First name=first_name'"):
            work_on(table(content))

    @pytest.mark.parametrize(
        ("content", "options", "words"),
        [
            ("email,a,a\n", {}, 'columns "a" and "a" make one key'),
            ("email,a,a:Integer\n", {}, "make one key"),
            ("email,a,b\n", {"rename": {"a": "b"}}, "make one key"),
            (
                "email,email,a\n",
                {"email": "email"},
                "say --email-column column:1 or --email-column column:2",
            ),
            ("email\na@b.cc\n", {}, "no column is left"),
            ("a@b.cc,pro\n", {}, "its first line has an email"),
            ("email,a\n", {"only": frozenset({"b"})}, '--only: no column "b"; there are "email"'),
            ("email,a\n", {"exclude": frozenset({"b"})}, '--exclude: no column "b"'),
            ("email,a\n", {"rename": {"b": "c"}}, '--rename: no column "b"'),
            ("email,a\n", {"types": {"b": AttributeType.String}}, '--type: no column "b"'),
            ("email,a\n", {"occurred_at": "b"}, '--occurred-at-column: no column "b"'),
            ('{"email":"a@b.cc","a":1}\n', {"only": frozenset({"b"})}, '--only: no column "b"'),
            ("oops\n", {}, "which column has the emails"),
            ("email,x\x1b[2J\n", {}, "--rename column:2=x_2j"),
        ],
    )
    def test_what_is_wrong_with_the_columns_is_an_error(
        self, table: Any, content: str, options: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(TableError, match=words.replace("[", r"\[")):
            work_on(table(content), **options)

    def test_json_lines_of_which_none_can_be_read_are_an_error(self, table: Any) -> None:
        with pytest.raises(TableError, match="line 1: not JSON; see character 1"):
            work_on(table("oops\n", "table.jsonl"))

    def test_rows_of_json_may_each_have_other_columns(self, table: Any) -> None:
        lines = ['{"email":"a@b.cc","a":1}', '{"b":"x","email":"a@b.cc"}', '{"email":"a@b.cc"}']
        work = work_on(table("\n".join(lines)))
        assert types(work) == {"a": "Integer", "b": "String"}
        assert values(work) == [1, "x"]
        assert work.tally.without_values == 1

    def test_columns_do_not_grow_without_end(self, table: Any) -> None:
        lines = "".join(f'{{"email":"a@b.cc","k{n}":1}}\n' for n in range(1_100))
        with pytest.raises(TableError, match="more than 1000 columns"):
            work_on(table(lines))


class TestRows:
    def test_empty_cells_are_left_alone_and_rows_of_them_counted(self, table: Any) -> None:
        work = work_on(table("email,a,b\na@b.cc,1,\na@b.cc,,\n,,\na@b.cc, ,2\n"))
        assert [[each["key"] for each in item["attributes"]] for item in items(work)] == [
            *(["a"], ["b"]),
        ]
        assert (work.tally.rows, work.tally.without_values, work.tally.valid) == (4, 2, 2)

    @pytest.mark.parametrize(
        "email", ["", "nobody", "a@b", "a b@c.dd", "a@b..cc", "a" * 250 + "@b.cc"]
    )
    def test_a_bad_email_rejects_the_row(self, table: Any, email: str) -> None:
        work = work_on(table(f"email,a\n{email},1\na@b.cc,2\n"))
        assert work.tally.valid == 1
        assert [reason.partition(":")[0] for reason in work.tally.reasons] == ["email"]

    @given(st.one_of(st.emails(), st.text(alphabet="aB1.@-_+ é'\"", max_size=12)))
    def test_an_email_is_judged_as_the_schema_judges_it(self, email: str) -> None:
        try:
            build_job(
                email=email,
                attributes={"a": 1},
                occurred_at=NOW,
            )
            right = True
        except InvalidJob:
            right = False
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            lines = [{"email": "a@b.cc", "a": 1}, {"email": email, "a": 1}]
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            file.flush()
            with closing(Table(file.name)) as found:
                assert work_on(found).tally.valid == 1 + right

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("[]", "a: a JSON array is no value"),
            ('[{"x": 1}]', "a: a JSON array is no value"),
            ('"\\ud800"', "a: has half of a surrogate pair at position 1"),
            ('"' + "x" * 256 + '"', "a: must have at most 255 characters"),
            ("9" * 256, "a: must have at most 255 characters"),
            ("1e999", "a: a Decimal has at most 255 characters when written out"),
        ],
    )
    def test_a_json_value_that_is_no_attribute_rejects_the_row(
        self, table: Any, value: str, reason: str
    ) -> None:
        work = work_on(table(f'{{"email":"a@b.cc","a":{value}}}\n{{"email":"a@b.cc","a":1}}'))
        assert list(work.tally.reasons) == [reason]
        assert work.tally.valid == 1

    def test_a_json_email_that_is_no_text_rejects_the_row(self, table: Any) -> None:
        work = work_on(table('{"email":8,"a":1}\n{"email":"a@b.cc","a":1}\n'))
        assert list(work.tally.reasons) == ["email: must be an email, not int"]

    def test_a_row_of_more_than_a_job_holds_is_rejected_in_the_first_pass(self, table: Any) -> None:
        names = [f"k{n}" for n in range(300)]
        wide = "\n".join([",".join(["email", *names]), ",".join(["a@b.cc", *["1"] * 300])])
        assert list(work_on(table(wide)).tally.reasons) == ["a job has at most 250 attributes"]
        heavy = "\n".join(
            [",".join(["email", *names[:100]]), ",".join(["a@b.cc", *["日" * 250] * 100])]
        )
        work = work_on(table(heavy, "heavy.csv"))
        assert list(work.tally.reasons) == ["the job would have more than 65536 bytes"]

    def test_distinct_emails_are_counted(self, table: Any) -> None:
        content = "email,a\n" + "".join(
            f"u{n % 700}@b.cc,1\nu{n % 700}@B.CC,1\n" for n in range(2_000)
        )
        assert len(work_on(table(content)).emails) == 700

    @given(st.lists(st.text(max_size=3)))
    def test_a_count_of_distinct_texts_is_that_of_a_set(self, texts: list[str]) -> None:
        distinct = Distinct()
        for text in texts * 2:
            distinct.add(text)
        assert len(distinct) == len(set(texts))

    def test_many_texts_take_little_memory(self) -> None:
        tracemalloc.start()
        try:
            distinct = Distinct()
            for n in range(240_000):
                distinct.add(f"{n % 60_000}")
            assert tracemalloc.get_traced_memory()[0] < 24 * 60_000
            assert len(distinct) == 60_000
        finally:
            tracemalloc.stop()


# --- jobs --------------------------------------------------------------------------------------


class TestJobs:
    CONTENT = "email,a,at\n" + "".join(f"u{n}@b.cc,{n},\n" for n in range(3))

    def ids(self, *tables: Table, **options: Any) -> list[str]:
        return [item["job_id"] for item in items(work_on(*tables, **options))]

    def test_an_id_is_a_uuid_of_the_line_and_the_content(self, table: Any) -> None:
        first = self.ids(table(self.CONTENT))
        assert all(map(is_job_id, first))
        assert [each[14] for each in first] == ["8"] * 3
        assert all(each[19] in "89ab" for each in first)
        assert [int(each.replace("-", "")[:12], 16) for each in first] == [2, 3, 4]
        again = self.ids(table(gzip.compress(self.CONTENT.encode()), "again.csv.gz"))
        assert first == again, "the same rows, whatever the file's name and compression"

    @pytest.mark.parametrize(
        "options",
        [
            {"source": "crm"},
            {"only_changed": True},
            {"types": {"a": AttributeType.String}},
            {"rename": {"a": "b"}},
            {"occurred_at": "at"},
        ],
        ids=str,
    )
    def test_what_makes_another_job_makes_another_id(
        self, table: Any, options: dict[str, Any]
    ) -> None:
        found = table(self.CONTENT)
        assert not set(self.ids(found)) & set(self.ids(found, **options))

    def test_another_column_for_a_key_makes_another_id(self, table: Any) -> None:
        found = table("email,a,b\na@b.cc,x,y\n")
        first = self.ids(found, rename={"a": "c"}, exclude=frozenset({"b"}))
        assert first != self.ids(found, rename={"b": "c"}, exclude=frozenset({"a"}))

    def test_another_content_makes_other_ids(self, table: Any) -> None:
        other = table(self.CONTENT.replace("u2", "u3"), "other.csv")
        assert not set(self.ids(table(self.CONTENT))) & set(self.ids(other))

    def test_a_run_id_makes_them_instead_of_the_content(self, table: Any) -> None:
        first, other = table(self.CONTENT), table(self.CONTENT.replace("u2", "u3"), "other.csv")
        assert self.ids(first, run_id="x") == self.ids(other, run_id="x")
        assert not set(self.ids(first, run_id="x")) & set(self.ids(first, run_id="y"))
        both = self.ids(first, other, run_id="x")
        assert both == sorted(set(both)), "rows of the second file come after those of the first"

    def test_ids_sort_as_the_rows_do(self, table: Any) -> None:
        content = "email,a\n" + "\n" * 70_000 + "a@b.cc,1\n" * 2
        assert self.ids(table(content)) == sorted(self.ids(table(content)))

    def test_a_later_row_is_newer_and_none_lies_ahead(self, table: Any) -> None:
        first, second = table(self.CONTENT), table(self.CONTENT.replace("u", "v"), "other.csv")
        times = [item["occurred_at"] for item in items(work_on(first, second))]
        assert times == sorted(set(times))
        assert times[-1] == NOW

    def test_a_column_says_when_a_row_occurred(self, table: Any) -> None:
        ahead = NOW + timedelta(minutes=6)
        lines = [
            *("email,a,at", "a@b.cc,1,2026-01-31", "a@b.cc,1,2026-01-31T12:00:00+02:00"),
            *("a@b.cc,1,", "a@b.cc,1,yesterday", f"a@b.cc,1,{ahead.isoformat()}"),
            "a@b.cc,1,1969-12-31",
        ]
        work = work_on(table("\n".join(lines)), occurred_at="at")
        times = [item["occurred_at"] for item in items(work)]
        assert times[:2] == [
            datetime(2026, 1, 31, tzinfo=UTC),
            datetime(2026, 1, 31, 10, tzinfo=UTC),
        ]
        assert times[2] > NOW - timedelta(seconds=1)
        assert list(work.tally.reasons) == [
            "at: must be ISO 8601, as 2016-01-31T00:00:00Z",
            "at: lies more than 5 minutes in the future",
            "at: must lie between 1970 and 2286",
        ]
        assert list(work.keys) == ["a"]

    def test_the_source_stands_for_all_attributes(self, table: Any) -> None:
        [item, *_] = items(work_on(table(self.CONTENT), source="crm"))
        assert build_job(**item).attributes[0].source == "crm"

    def test_an_item_that_is_rejected_after_all_is_told_with_its_row(self, table: Any) -> None:
        work = work_on(table(self.CONTENT))
        items(work)
        told: list[tuple[int, str]] = []

        def tell(_: Layout, row: Row, reason: str) -> None:
            told.append((row.line, reason))

        error = FieldError(path="email", message="no")
        work.answered(Batch(job_ids=("x", "x"), duplicates=0, rejected=()), tell)
        late = Batch(
            job_ids=(None,), duplicates=0, rejected=(Rejected(position=2, errors=(error,)),)
        )
        work.answered(late, tell)
        assert told == [(4, "email: no")]


# --- rejected rows -----------------------------------------------------------------------------


def rejected(work: Import, path: Path) -> str:
    """The content of the file of rejected rows."""
    with closing(Rejects(str(path), work.layouts)) as rejects:
        for layout, row, reason in work.rejected():
            rejects.add(layout, row, reason)
    return path.read_text("utf-8") if path.exists() else ""


class TestRejects:
    def test_rows_are_written_as_they_were_and_can_be_imported_again(
        self, table: Any, tmp_path: Path
    ) -> None:
        content = (
            'email,zip,"a, b",note\na@b.cc,01234,1,x\n nobody,99,"2","say ""hi"",\nand go"\n'
            'c@d.ee,5,6\ne@f.gg,"7,8,9\nh@i.jj,8,9,10,11\n'
        )
        options = {"rename": {"a, b": "ab"}, "exclude": frozenset({"note"})}
        text = rejected(work_on(table(content), **options), tmp_path / "rejects.csv")
        name = str(tmp_path / "table.csv")
        lines = list(csv.reader(io.StringIO(text)))
        assert lines[0] == ["email", "zip:String", "a, b:Integer", "note", REASON]
        assert [line[:-1] for line in lines[1:]] == [
            [" nobody", "99", "2", 'say "hi",\nand go'],
            ["e@f.gg", "7,8,9"],
            ["h@i.jj", "8", "9", "10", "11"],
        ]
        assert [line[-1].partition(": ")[0] for line in lines[1:]] == [
            f"{name}:{number}" for number in (3, 6, 7)
        ]

        again = work_on(table(text, "rejects.csv"), **options)
        assert again.tally.rejected == 3, "what was not corrected is rejected again"
        assert rejected(again, tmp_path / "again.csv").count(REASON) == 1
        corrected = text.replace(" nobody", "n@o.pp").replace("8,9,10,11", "8,9,10")
        work = work_on(table(corrected, "corrected.csv"), **options)
        assert [item["email"] for item in items(work)] == ["n@o.pp", "h@i.jj"]
        assert types(work) == {"zip": "String", "ab": "Integer"}, "as in the first import"

    def test_rejected_again_and_again_a_row_stays_what_it_was(
        self, table: Any, tmp_path: Path
    ) -> None:
        text = rejected(work_on(table("email,a\nx\na@b.cc,1,2\nx,1\n")), tmp_path / "r0.csv")
        for n in range(1, 4):
            work = work_on(table(text, f"table{n}.csv"))
            assert work.tally.rejected == 3
            text = rejected(work, tmp_path / f"r{n}.csv")
        assert [line[:-1] for line in csv.reader(io.StringIO(text))] == [
            ["email", "a:String"],
            ["x", ""],
            ["a@b.cc", "1", "2"],
            ["x", "1"],
        ]

    def test_json_lines_are_followed_by_the_reason(self, table: Any, tmp_path: Path) -> None:
        lines = ['{"email":"a@b.cc","a":1}', '{"email":"nobody", "a":1}', '{"email":', "8"]
        text = rejected(work_on(table("\n".join(lines))), tmp_path / "rejects.jsonl")
        written = text.splitlines()
        assert written[::2] == lines[1:]
        assert [list(json.loads(line)) for line in written[1::2]] == [[REASON]] * 3
        corrected = text.replace("nobody", "n@o.pp")
        work = work_on(table(corrected, "rejects.jsonl"))
        assert (work.tally.rows, work.tally.valid) == (3, 1)

    def test_no_file_is_made_when_nothing_was_rejected(self, table: Any, tmp_path: Path) -> None:
        work = work_on(table("email,a\na@b.cc,1\n"))
        assert rejected(work, tmp_path / "rejects.csv") == ""
        assert not (tmp_path / "rejects.csv").exists()

    def test_keeps_delimiter_and_byte_order_mark(self, table: Any, tmp_path: Path) -> None:
        rejected(work_on(table(b"\xef\xbb\xbfemail;a\nx;1\n")), tmp_path / "rejects.csv")
        written = (tmp_path / "rejects.csv").read_bytes()
        assert written.startswith(f"\ufeffemail;a:String;{REASON}\nx;1;".encode())

    def test_a_file_that_is_read_is_not_written_over(self, table: Any, tmp_path: Path) -> None:
        work = work_on(table("email,a\na@b.cc\n"))
        with pytest.raises(TableError, match="choose another name"):
            Rejects(work.layouts[0].table.name, work.layouts)

    def test_tables_with_different_columns_do_not_go_into_one_file(
        self, table: Any, tmp_path: Path
    ) -> None:
        work = work_on(table("email,a\na@b.cc,1\n"), table("a,email\n1,a@b.cc\n", "other.csv"))
        with pytest.raises(TableError, match="one by one"):
            Rejects(str(tmp_path / "rejects.csv"), work.layouts)

    @pytest.mark.parametrize("path", [".", "nowhere/rejects.csv"])
    def test_a_file_that_cannot_be_written_is_found_before_anything_is_sent(
        self, table: Any, tmp_path: Path, path: str
    ) -> None:
        work = work_on(table("email,a\na@b.cc,1\n"))
        with pytest.raises(TableError, match="cannot be written"):
            Rejects(str(tmp_path / path), work.layouts)


def test_a_reason_is_given_without_the_value(table: Any) -> None:
    content = "email,a:Integer\nnobody-secret,1\na@b.cc,secret\nsecret,secret,secret\n"
    work = work_on(table(content))
    assert work.tally.rejected == 3
    assert not [reason for *_, reason in work.rejected() if "secret" in reason]
