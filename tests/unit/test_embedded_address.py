"""How commands and applications find the password of the Redis that `courier up` runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attribute_courier.config import load_settings
from attribute_courier.config.embedded import DIRECTORY, announced

URL = "redis://:hush@localhost:6379/0"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    DIRECTORY.mkdir()


def found() -> str:
    return load_settings().redis_url.reveal()


def test_while_it_runs_the_password_is_taken_from_its_directory() -> None:
    with announced(DIRECTORY, URL) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        assert found() == URL
    assert found() == "redis://localhost:6379/0"


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("redis://localhost:6379/0", True),
        ("redis://127.0.0.1:6379/3", True),
        ("redis://localhost:6380/0", False),
        ("redis://redis.example:6379/0", False),
        ("redis://:own@localhost:6379/0", False),
        ("rediss://localhost:6379/0", False),
    ],
)
def test_it_is_taken_for_its_own_address_only(
    monkeypatch: pytest.MonkeyPatch, said: str, taken: bool
) -> None:
    monkeypatch.setenv("COURIER_REDIS_URL", said)
    with announced(DIRECTORY, URL):
        assert ("hush" in found()) is taken


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_that_others_can_open_is_not_trusted(mode: int) -> None:
    with announced(DIRECTORY, URL) as path:
        path.chmod(mode)
        assert "hush" not in found()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with announced(tmp_path / "elsewhere", URL) as path:
        (DIRECTORY / path.name).symlink_to(path)
        assert "hush" not in found()


def test_a_file_that_a_killed_process_left_behind_is_ignored() -> None:
    (DIRECTORY / "redis-url").write_text(URL)
    (DIRECTORY / "redis-url").chmod(0o600)
    assert "hush" not in found()


def test_a_file_of_nonsense_or_a_pipe_is_ignored() -> None:
    with announced(DIRECTORY, "no address"):
        assert found() == "redis://localhost:6379/0"
    os.mkfifo(DIRECTORY / "redis-url", 0o600)
    assert found() == "redis://localhost:6379/0"
