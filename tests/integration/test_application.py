"""The test-suite of an application, run as its developers run it.

Plain pytest, no Redis, and a guard that lets no socket be opened.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from attribute_courier import add_attributes, add_many


def signed_up(email: str, plan: str) -> str:
    return add_attributes(email, {"plan": plan}, idempotency_key=f"sign-up-{email}").job_id


def survey(scores):
    return add_many((email, {"nps": score}) for email, score in scores)
"""

CONFTEST = """
import socket
import pytest


class Guarded(socket.socket):
    def __new__(cls, *args, **options):
        raise AssertionError("a socket was opened")


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch):
    monkeypatch.setattr(socket, "socket", Guarded)
"""

TESTS = """
import pytest
from app import signed_up, survey
from attribute_courier import IdempotencyConflict, NotConfigured
from attribute_courier.testing import capture, deliver_captured


def test_a_sign_up(captured_attributes):
    signed_up("Ada@example.com", "pro")
    captured_attributes.assert_added("ada@example.com", {"plan": "pro"})
    with pytest.raises(IdempotencyConflict):
        signed_up("Ada@example.com", "free")


def test_each_test_begins_with_nothing(captured_attributes):
    captured_attributes.assert_nothing_added()


def test_a_survey(captured_attributes):
    assert survey([("ada@example.com", 9), ("nobody", 3)]).rejected == 1
    [outcome] = deliver_captured()
    assert outcome.status == "delivered"


@pytest.mark.usefixtures("captured_attributes")
def test_that_only_must_not_send():
    signed_up("ada@example.com", "pro")


def test_that_nobody_thought_of():
    with pytest.raises(NotConfigured):
        signed_up("ada@example.com", "pro")


def test_turned_off(monkeypatch):
    monkeypatch.setenv("COURIER_ENABLED", "false")
    with capture():
        signed_up("ada@example.com", "pro")
    signed_up("ada@example.com", "free")


def test_that_fails(captured_attributes):
    signed_up("ada@example.com", "pro")
    captured_attributes.assert_added("ada@example.com", {"plan": "free"})
"""

STRANGER = """
import sys


def test_a_project_that_does_not_use_it_loads_nothing(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("attribute_courier")
    ours = {name for name in sys.modules if name.startswith("attribute_courier")}
    assert ours == {
        "attribute_courier", "attribute_courier.testing", "attribute_courier.testing.plugin"
    }
    assert not {"redis", "celery", "marshmallow", "fakeredis", "requests"} & sys.modules.keys()
"""


def run_pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ours = ("COURIER_", "CHARTMOGUL_", "PYTEST_")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *arguments],
        cwd=project,
        env={name: text for name, text in os.environ.items() if not name.startswith(ours)},
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.long
def test_a_project_tests_what_it_hands_over(tmp_path: Path) -> None:
    for name, text in {"app.py": APP, "conftest.py": CONFTEST, "test_app.py": TESTS}.items():
        (tmp_path / name).write_text(text)
    done = run_pytest(tmp_path)
    assert "1 failed, 6 passed" in done.stdout, done.stdout + done.stderr
    for shown in (
        "a job for ada@example.com with plan='free' (String) was not added",
        "  ada@example.com: plan='pro' (String)",
    ):
        assert shown in done.stdout
    assert "captured.py" not in done.stdout, "it fails in the line of the test"


@pytest.mark.long
def test_a_project_that_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_stranger.py").write_text(STRANGER)
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    without = run_pytest(tmp_path, "-p", "no:attribute_courier")
    assert "1 failed" in without.stdout, "the plugin can be turned off"
