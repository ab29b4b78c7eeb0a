"""The Lua scripts as texts: each can be read on its own, and on one or two screens."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

SCRIPTS = {
    f"{package}/{path.name}": path.read_text("utf-8")
    for package in ("worker.lua", "producers")
    for path in files(f"attribute_courier.{package}").iterdir()
    if path.name.endswith(".lua")
}
TRANSITIONS = {
    name: text for name, text in SCRIPTS.items() if not name.endswith(("common.lua", "pace.lua"))
}


def header(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def test_the_transitions_of_the_design_are_all_here() -> None:
    names = {name.rpartition("/")[2].removesuffix(".lua") for name in TRANSITIONS}
    assert names >= {
        "enqueue", "take", "stage", "reject", "release", "claim", "settle",
        "depart", "late", "observe", "probe", "pause", "resume", "replay", "fare",
    }  # fmt: skip


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_script_opens_by_saying_what_it_takes_and_answers(name: str) -> None:
    text = header(TRANSITIONS[name])
    assert text.startswith(name.rpartition("/")[2].removesuffix(".lua") + ": ")
    assert re.search(r"\bARGV: \S", text)
    assert re.search(r"\bAnswers \S", text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_a_header_and_fewer_than_140_lines(name: str) -> None:
    assert len(header(SCRIPTS[name])) > 20
    assert len(SCRIPTS[name].splitlines()) < 140


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_script_names_no_argument_that_its_header_does_not_count(name: str) -> None:
    """As many are explained, between commas, as the highest number used."""
    text = TRANSITIONS[name]
    used = max((int(number) for number in re.findall(r"ARGV\[(\d+)\]", text)), default=0)
    explained = re.search(r"\bARGV: (.*?) Answers", header(text))
    assert explained
    assert len(re.split(r", |: ", explained[1])) >= used


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_takes_the_time_from_redis_and_builds_keys_from_the_prefix(name: str) -> None:
    text = re.sub(r"--.*", "", SCRIPTS[name])
    assert "os.time" not in text
    assert "os.clock" not in text
    assert not re.search(r"KEYS\[[2-9]", text)
    assert "'courier:" not in text
