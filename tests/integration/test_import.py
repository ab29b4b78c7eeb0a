"""`courier import` as people run it: a real file, a real worker, and the stand-in."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..conftest import Courier
from ..waiting import wait_until

COURIER = [sys.executable, "-m", "attribute_courier.cli"]
TABLE = """\
email,plan,age,zip,since
ada@example.com,pro,36,01234,2026-01-31
two@example.com,free,,99999,2026-02-01
grace,free,1,1,2026-02-01
two@example.com,pro,7,,
nobody@example.com,pro,8,,
"""


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COURIER, "import", *arguments],
        cwd=cwd,
        env={**os.environ, "COURIER_ENQUEUE_TIMEOUT": "10"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(*arguments: str, cwd: Path) -> tuple[int, dict[str, Any]]:
    """The exit code, and the document that is printed."""
    with running(*arguments, "--format", "json", cwd=cwd) as process:
        out, err = process.communicate(timeout=90)
        assert "Traceback" not in err
        [document] = json.loads(out)
        return process.returncode, document


def test_a_table_is_imported_and_waited_for(courier: Courier, tmp_path: Path) -> None:
    courier.start_worker()
    (tmp_path / "customers.csv").write_text(TABLE, "utf-8")

    code, found = run("customers.csv", "--wait", "--rejects", "rejects.csv", cwd=tmp_path)
    assert code == 1
    assert {name: found[name] for name in ("rows", "enqueued", "rejected")} == {
        "rows": 5,
        "enqueued": 4,
        "rejected": 1,
    }
    outcomes = found["outcomes"]
    assert outcomes.pop("unmatched") == 1
    assert sum(outcomes.values()) == 3
    assert outcomes.keys() <= {"delivered", "superseded"}
    assert courier.custom("ada@example.com") == {
        "plan": "pro",
        "age": 36,
        "zip": "01234",
        "since": "2026-01-31T00:00:00.000Z",
    }
    two = courier.custom("two@example.com")
    assert (two["plan"], two["age"], two["zip"]) == ("pro", 7, "99999"), "the later row wins"

    # The same file again: the jobs that are known answer for its rows.
    requests = len(courier.posts())
    code, again = run("customers.csv", "--wait", cwd=tmp_path)
    assert (again["enqueued"], again["known_already"]) == (0, 4)
    assert again["outcomes"] == outcomes | {"unmatched": 1}
    assert len(courier.posts()) == requests

    # The keys are known by now, with their types.
    code, dry = run("customers.csv", "--dry-run", "--type", "age=Decimal", cwd=tmp_path)
    assert code == 1
    assert {each["key"]: (each["type"], each["type_before"]) for each in dry["columns"]} == {
        "plan": ("String", "String"),
        "age": ("Decimal", "Integer"),
        "zip": ("String", "String"),
        "since": ("Timestamp", "Timestamp"),
    }

    # The rejected row, corrected.
    rejects = tmp_path / "rejects.csv"
    rejects.write_text(rejects.read_text("utf-8").replace("grace,", "ada@example.com,"), "utf-8")
    code, corrected = run("rejects.csv", "--wait", cwd=tmp_path)
    assert (code, corrected["outcomes"]) == (0, {"delivered": 1})
    assert courier.custom("ada@example.com")["zip"] == "1", "a String, as in the whole table"


def test_only_what_changed_is_sent(courier: Courier, tmp_path: Path) -> None:
    courier.start_worker()
    first = "email,plan\nada@example.com,pro\ntwo@example.com,free\n"
    (tmp_path / "first.csv").write_text(first, "utf-8")
    assert run("first.csv", "--wait", cwd=tmp_path)[0] == 0
    requests = len(courier.posts())

    (tmp_path / "second.csv").write_text(first.replace("free", "team"), "utf-8")
    code, found = run("second.csv", "--wait", "--only-changed", cwd=tmp_path)
    assert code == 0
    assert found["outcomes"] == {"unchanged": 1, "delivered": 1}
    assert len(courier.posts()) == requests + 1
    assert courier.custom("two@example.com") == {"plan": "team"}


def test_ctrl_c_while_waiting_leaves_the_jobs_and_says_how_to_ask_again(
    courier: Courier, tmp_path: Path
) -> None:
    (tmp_path / "customers.csv").write_text("email,plan\nada@example.com,pro\n", "utf-8")
    with running("customers.csv", "--wait", cwd=tmp_path) as process:
        wait_until(lambda: courier.outcomes.waiting() == 1, what="the row is enqueued")
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        next(line for line in lines if line.startswith("enqueued"))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert re.search(r"^pending +1$", out, re.M)
    assert "The same command again waits on" in err
    courier.start_worker()
    code, found = run("customers.csv", "--wait", cwd=tmp_path)
    assert (code, found["outcomes"]) == (0, {"delivered": 1})
    assert len(courier.posts()) == 1
