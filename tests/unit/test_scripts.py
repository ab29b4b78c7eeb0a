"""The Lua scripts as texts: each can be read on its own."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from attribute_courier.state.scripts import source

TEXTS = {
    path.name.removesuffix(".lua"): path.read_text("utf-8")
    for path in files("attribute_courier.state.lua").iterdir()
    if path.name.endswith(".lua")
}
TRANSITIONS = {name: text for name, text in TEXTS.items() if not name.startswith("_")}


def header(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def without_comments(text: str) -> str:
    return re.sub(r"--.*", "", text)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_script_opens_by_saying_what_it_takes_and_answers(name: str) -> None:
    text = header(TRANSITIONS[name])
    assert text.startswith(f"{name}: ")
    assert re.search(r"\barg: \S", text)
    assert re.search(r"\bAnswers \S", text)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_script_names_its_includes_and_they_come_first(name: str) -> None:
    (included,) = re.findall(r"^-- include: (.+)$", TRANSITIONS[name], re.M)
    whole = source(name)
    for part in included.split():
        assert TEXTS[f"_{part}"] in whole
    assert whole.endswith(TRANSITIONS[name])


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_script_names_the_arguments_that_it_reads(name: str) -> None:
    used = set(re.findall(r"\barg\.(\w+)", without_comments(TRANSITIONS[name])))
    missing = {each for each in used if not re.search(rf"\b{each}\b", header(TRANSITIONS[name]))}
    assert missing == set()


@pytest.mark.parametrize("name", TEXTS)
def test_a_script_takes_the_time_from_redis_and_builds_keys_from_the_prefix(name: str) -> None:
    text = without_comments(TEXTS[name])
    assert len(header(TEXTS[name])) > 20
    assert "os.time" not in text
    assert "os.clock" not in text
    assert not re.search(r"KEYS\[[2-9]", text)
    assert "'courier:" not in text
    assert ("'TIME'" in text) == (name == "_common"), "one place reads Redis's clock"
