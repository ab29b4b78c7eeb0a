"""Arbitrary tables through the import: no undocumented exception, and no lost neighbour.

FUZZ_EXAMPLES says how many examples are tried; `make test` tries a few seconds' worth.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attribute_courier.cli.importing.columns import Choice
from attribute_courier.cli.importing.passes import Import
from attribute_courier.cli.importing.rejects import Rejects
from attribute_courier.cli.importing.report import Report
from attribute_courier.cli.importing.table import Table, TableError
from attribute_courier.jobs.build import build_job

pytestmark = pytest.mark.fuzz

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
GOOD = [f"good{n}@example.com" for n in range(3)]

fuzz = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Characters that mean something somewhere, and any others.
characters = st.one_of(
    st.sampled_from(
        "\"',;\t|\n\r\x00\x1a\x1b\x85\u200b\ufeff\u2028\ud800=+-@.:#%/0129eE€ éß日😀ab"
    ),
    st.characters(),
)
texts = st.one_of(
    st.text(characters, max_size=12),
    st.sampled_from(
        [
            *("", "NULL", "\\N", "nan", "yes", "No", "true", "8", "-5", "1.10", "12.0", "1e999"),
            *("31/01/2026", "2026-01-31", "€ 1.234,50", "=1+1", "column:2", "a.b", "x:Integer"),
            *("email", "E-Mail", "rejected because", "a@b.cc", "sep=;", "{", "[", '"', "x" * 300),
        ]
    ),
)
scalars = st.one_of(
    texts, st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from([10**400, 1e308])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
choices = st.builds(
    Choice,
    make_keys=st.booleans(),
    no_value=st.frozensets(st.sampled_from(["NULL", "nan", "8"]), max_size=2),
    booleans=st.sampled_from([{}, {"yes": True, "No": False}]),
    exclude=st.sampled_from([frozenset(), frozenset({"column:3"})]),
)


def imported(content: bytes, choice: Choice, name: str) -> dict[str, list[Any]] | None:
    """Email → values of the attribute `good`, after all that a command does; None if refused."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as opened:
        path = Path(directory) / name
        path.write_bytes(content)
        try:
            table = opened.enter_context(closing(Table(str(path))))
            work = Import([table], choice, started=NOW)
            tally = work.survey()
            report = Report(work, "json", samples=True)
            report.columns(None)
            report.rejected(tally.reasons)
            rejects = opened.enter_context(
                closing(Rejects(str(Path(directory) / f"rejects-{name}"), work.layouts))
            )
            items = list(work.items(rejects.add))
        except TableError:
            return None
        assert tally.rows == tally.valid + tally.rejected + tally.without_values
        assert len(items) == tally.valid, "both passes judge alike"
        assert rejects.rows == tally.rejected
        found: dict[str, list[Any]] = {}
        for item in items:
            job = build_job(**item)  # the producer refuses none
            good = [each.value for each in job.attributes if each.key == "good"]
            found.setdefault(job.email, []).extend(good)
        return found


class TestTables:
    @fuzz
    @given(content=st.binary(max_size=300), choice=choices, good=st.booleans())
    def test_any_bytes(self, content: bytes, choice: Choice, good: bool) -> None:
        before = b"email,good\n" if good else b""
        for name in ("t.csv", "t.jsonl"):
            imported(before + content, choice, name)

    @fuzz
    @given(
        rows=st.lists(st.lists(texts, max_size=5), max_size=6),
        header=st.lists(texts, max_size=3),
        delimiter=st.sampled_from(",;\t|"),
        end=st.sampled_from(["\n", "\r\n"]),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        choice=choices,
        data=st.data(),
    )
    def test_any_cells_take_no_good_row_with_them(
        self,
        rows: list[list[str]],
        header: list[str],
        delimiter: str,
        end: str,
        quoting: Any,
        choice: Choice,
        data: st.DataObject,
    ) -> None:
        lines: list[list[str]] = [list(row) for row in rows]
        filling = [""] * len(header)
        for email in GOOD:
            at = data.draw(st.integers(0, len(lines)))
            lines.insert(at, [email, "1", *filling])
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerows([["email", "good", *header], *lines])
        content = text.getvalue().encode(errors="replace")
        found = imported(content, choice, "t.csv")
        if found is not None:
            assert all(email in found for email in GOOD)

    @fuzz
    @given(
        garbage=st.lists(st.text(characters, max_size=40), min_size=1, max_size=4),
        choice=choices,
    )
    def test_any_lines_take_no_good_row_with_them(self, garbage: list[str], choice: Choice) -> None:
        """Unless a quote is left open: such a cell goes on until it is closed."""
        lines = ["email,good", f"{GOOD[0]},1"]
        for line in garbage:
            lines += [line, f"{GOOD[1]},2"]
        content = "\n".join([*lines, f"{GOOD[2]},3", ""]).encode(errors="replace")
        found = imported(content, choice, "t.csv")
        if found is not None:
            assert GOOD[0] in found
            if not any('"' in line for line in garbage):
                assert set(GOOD) <= found.keys()

    @fuzz
    @given(
        rows=st.lists(
            st.one_of(st.dictionaries(texts, values, max_size=4), values), min_size=1, max_size=5
        ),
        choice=choices,
    )
    def test_any_json_lines_take_no_good_row_with_them(
        self, rows: list[Any], choice: Choice
    ) -> None:
        lines = [json.dumps({"email": GOOD[0], "good": 1})]
        for row in rows:
            lines += [json.dumps(row), json.dumps({"email": GOOD[1], "good": 2})]
        content = "\n".join(lines).encode()
        found = imported(content, choice, "t.jsonl")
        if found is not None:
            assert set(GOOD[:2]) <= found.keys()
