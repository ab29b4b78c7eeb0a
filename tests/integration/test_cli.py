"""The `courier` command as people run it: processes, signals, terminals, and what they leave."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attribute_courier.sandbox import DEFAULT_API_KEY

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"
COURIER = [sys.executable, "-m", "attribute_courier.cli"]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COURIER, *arguments],
        env={**os.environ, "COURIER_ENQUEUE_TIMEOUT": "10", **environ},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@contextlib.contextmanager
def running(
    *arguments: str, cwd: Path | None = None, **environ: str
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command that goes on, and the lines that it has written so far."""
    process = subprocess.Popen(
        [*COURIER, *arguments],
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "COURIER_ENQUEUE_TIMEOUT": "10",
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        reader.join(20)
        process.stdout.close()


def descendants(pid: int) -> set[int]:
    """All processes that a process has started, and those that these have."""
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(waiting.pop())],
            capture_output=True,
            text=True,
            check=False,
        )
        children = {int(word) for word in listed.stdout.split()} - found
        found |= children
        waiting += children
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


class TestWithAWorker:
    def test_add_and_outcomes(self, courier: Courier) -> None:
        courier.start_worker()
        done = run("add", ADA, "channel=Facebook", "age:Integer=8", "--wait", "30")
        assert done.returncode == 0, done.stderr
        assert "delivered" in done.stdout
        assert courier.custom(ADA) == {"channel": "Facebook", "age": 8}

        unmatched = run("add", "nobody@example.com", "a=b", "--wait", "30", "--format", "json")
        assert unmatched.returncode == 1
        [outcome] = json.loads(unmatched.stdout)
        assert outcome["status"] == "unmatched"

        shown = run("outcomes", ADA, "--format", "jsonl")
        assert [json.loads(line)["status"] for line in shown.stdout.splitlines()] == ["delivered"]
        one = run("outcomes", "--job", outcome["job_id"], "--format", "csv")
        assert one.stdout.splitlines()[1].count("nobody@example.com") == 1
        latest = run("outcomes", "--status", "unmatched", "--since", "10m", "--format", "json")
        assert json.loads(latest.stdout) == [outcome]
        assert run("outcomes", "--status", "failed").returncode == 1
        assert run("ping").returncode == 0

        self._follow(courier)

    @staticmethod
    def _follow(courier: Courier) -> None:
        with running("outcomes", "--follow", "--format", "csv", "--status", "delivered") as (
            process,
            lines,
        ):
            sent = 0

            def two_followed() -> bool:
                nonlocal sent
                sent += 1
                courier.wait(courier.producer.add_attributes(ADA, {"n": sent}))
                assert process.poll() is None, lines
                return len(lines) >= 3

            wait_until(two_followed, timeout_s=40)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        assert lines[0].startswith("when,email,")
        assert [line.count("delivered") for line in lines[1:]] == [1] * (len(lines) - 1)
        assert lines[1:].count(lines[0]) == 0, "one header"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    script = subprocess.run(
        [Path(sys.executable).with_name("courier")],
        env={**os.environ, "_COURIER_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "_COURIER_COMPLETE" in script.stdout


def test_completion_knows_commands_and_choices() -> None:
    def completed(words: str) -> str:
        return subprocess.run(
            [Path(sys.executable).with_name("courier")],
            env={
                **os.environ,
                "_COURIER_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(words.count(" ")),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout

    assert "plain,outcomes" in completed("courier o")
    assert "plain,unmatched" in completed("courier outcomes --status unm")


@pytest.mark.long
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_everything_until_it_is_stopped(tmp_path: Path, stop: signal.Signals) -> None:
    up_environ = {"COURIER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    arguments = ["up", "--data", str(tmp_path / "data"), "--sandbox-port", "0"]
    with running(*arguments, cwd=tmp_path, **up_environ) as (process, lines):
        wait_until(lambda: any(" ready." in line for line in lines), timeout_s=40)
        [printed] = re.findall(r"export (COURIER_REDIS_URL=.*)", "".join(lines))
        shell = subprocess.run(
            ["sh", "-c", f'{printed}; echo "$COURIER_REDIS_URL"'], capture_output=True, text=True
        )
        environ = {"COURIER_REDIS_URL": shell.stdout.strip()}
        assert run("outcomes", **up_environ).returncode == 3, "it asks for a password"
        added = run("add", ADA, "channel=Facebook", "age:Integer=8", "--wait", "30", **environ)
        assert added.returncode == 0, added.stderr
        assert "delivered" in added.stdout
        started = descendants(process.pid)
        assert len(started) >= 3, "a server, a stand-in and a worker"
        process.send_signal(stop)
        assert process.wait(60) == 0
    assert lines[-1] == "Stopped.\n"
    wait_until(lambda: not [pid for pid in started if alive(pid)], what="all have ended")
    assert not any("Traceback" in line for line in lines)
    assert DEFAULT_API_KEY not in "".join(lines)
    assert environ["COURIER_REDIS_URL"].partition("@")[0] not in "".join(lines), "no password"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]

    # The data stays: what was said before is known the next time.
    if stop == signal.SIGINT:
        with running(*arguments, cwd=tmp_path, **up_environ) as (process, lines):
            wait_until(lambda: any("Worker " in line for line in lines), timeout_s=40)
            shown = run("outcomes", ADA, "--format", "json", **environ)
            assert [each["status"] for each in json.loads(shown.stdout)] == ["delivered"]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_up_is_for_its_owner_alone_and_found_in_its_directory(tmp_path: Path, umask: int) -> None:
    """Whatever the umask: folders 0700, files 0600, a password that no list of processes shows."""
    redis_url = f"redis://localhost:{free_port()}/0"
    before = os.umask(umask)
    try:
        with running("up", "--sandbox-port", "0", cwd=tmp_path, COURIER_REDIS_URL=redis_url) as (
            process,
            lines,
        ):
            wait_until(lambda: any(" ready." in line for line in lines), timeout_s=40)
            done = subprocess.run(
                [*COURIER, "add", ADA, "channel=Facebook", "--wait", "30"],
                cwd=tmp_path,
                env={**os.environ, "COURIER_REDIS_URL": redis_url},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            password = (tmp_path / ".courier" / "redis-sandbox" / "password").read_text()
            listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
            assert password
            assert password not in listed
            found = [tmp_path / ".courier", *(tmp_path / ".courier").rglob("*")]
            modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in found}
            assert len(found) > 6
            assert modes == {
                str(path.relative_to(tmp_path)): 0o700 if path.is_dir() else 0o600 for path in found
            }
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert not (tmp_path / ".courier" / "redis-url").exists()
    finally:
        os.umask(before)


def test_up_starts_no_server_where_others_would_have_to_reach_it(tmp_path: Path) -> None:
    done = run(
        "up",
        *("--data", str(tmp_path / "data"), "--sandbox-port", "0"),
        COURIER_REDIS_URL=f"rediss://:s3cr3t@127.0.0.1:{free_port()}/0",
        COURIER_ENQUEUE_TIMEOUT="1",
    )
    assert done.returncode == 3
    assert "start yours, or unset COURIER_REDIS_URL" in done.stderr
    assert "s3cr3t" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.long
def test_the_demo_twice_in_a_row_leaves_nothing_behind(tmp_path: Path) -> None:
    """Once for a program, and once on a terminal."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    # Whatever the terminal is set up for, the demo meets none of it.
    environ = {
        "TMPDIR": str(temporary),
        "COURIER_REDIS_URL": "redis://127.0.0.1:1/0",
        "CHARTMOGUL_API_KEY": "a-real-key",
        "CHARTMOGUL_API_URL": "https://api.chartmogul.com/v1",
    }
    for check, terminal in ((check_the_rows, False), (check_the_table, True)):
        show = on_a_terminal if terminal else running
        arguments = ["demo"] if terminal else ["demo", "--format", "csv"]
        with show(*arguments, cwd=home, **environ) as (process, lines):
            started: set[int] = set()

            def ended(process: Any = process, started: set[int] = started) -> bool:
                started |= descendants(process.pid)
                return process.poll() is not None

            wait_until(ended, timeout_s=60)
        text = "".join(lines)
        assert process.returncode == 0, text
        check(lines)
        assert '"source": "integration"' in text, "the request, as ChartMogul received it"
        assert "a-real-key" not in text
        assert len(started) >= 3
        wait_until(lambda p=started: not [pid for pid in p if alive(pid)], what="all have ended")
        assert list(home.iterdir()) == list(temporary.iterdir()) == []


def check_the_rows(lines: list[str]) -> None:
    rows = [line for line in lines if line.count(",") >= 5]
    assert rows[0] == "email,attributes,outcome,attempts,customers,why\n"
    statuses = {row.split("@")[0]: row for row in rows[1:]}
    assert "delivered,1,cus_0001" in statuses["ada"]
    assert sum(",delivered,1," in row for row in rows) == 2
    for status in ("superseded", "unmatched", "invalid"):
        assert sum(f",{status}," in row for row in rows) == 1


def check_the_table(lines: list[str]) -> None:
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip("\r\n") for line in lines]
    table = [line for line in plain if line.startswith(("│", "┃", "┏", "└"))]
    assert {len(line) for line in table} == {100}, "as wide as the terminal"
    for status in ("delivered", "superseded", "unmatched", "invalid"):
        assert any(f" {status} " in line for line in table)


@contextlib.contextmanager
def on_a_terminal(
    *arguments: str, cwd: Path, **environ: str
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """As `running`, with a pseudo-terminal of 100 columns for output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COURIER, *arguments],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **environ},
        stdout=theirs,
        stderr=theirs,
        text=True,
        cwd=cwd,
    )
    os.close(theirs)
    shown: list[str] = []

    def read() -> None:
        pieces = b""
        with contextlib.suppress(OSError):  # Linux's way to say that it is closed
            while piece := os.read(ours, 65_536):
                pieces += piece
        shown.extend(pieces.decode().splitlines(keepends=True))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield process, shown
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        reader.join(20)
        os.close(ours)
