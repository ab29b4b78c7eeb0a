"""The pages for people cannot drift from the code: what exists is described, and nothing else."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from attribute_courier.cli import main
from attribute_courier.config import load_settings
from attribute_courier.jobs.outcome import STATUSES, SUCCESSES
from attribute_courier.worker.chartmogul import Answer
from attribute_courier.worker.verdicts import Kind, judge

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = main.list_commands(click.Context(main))

BANNED = re.compile(r"\b(exactly once|simply|robust\w*)\b", re.IGNORECASE)


def table(first_heading: str) -> list[list[str]]:
    """The rows of the README's table whose first column has this heading."""
    (rows,) = re.findall(
        rf"^\| {re.escape(first_heading)} \|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", README, re.M
    )
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def spans(text: str) -> list[str]:
    """What stands between backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", without_blocks(text))


def examples() -> list[str]:
    """Every `courier …` of the README: in console blocks and in running text."""
    prompts = re.findall(r"^\$ (.*)$", README, re.M)
    found = [re.sub(r"^(?:\w+=\S* )+", "", prompt) for prompt in prompts] + spans(README)
    return [text for text in found if text.startswith("courier ")]


# --- the command line --------------------------------------------------------------------------


def test_the_table_of_commands_has_every_command_and_no_other() -> None:
    assert sorted(row[0] for row in table("command")) == [f"`courier {name}`" for name in COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_an_example(name: str) -> None:
    prompts = re.findall(r"^\$ (.*)$", README, re.M)
    assert [text for text in prompts if re.search(rf"\b(courier|make) {name}\b", text)]


@pytest.mark.parametrize("text", examples())
def test_an_example_is_a_command_with_options_that_it_has(text: str) -> None:
    name, *arguments = shlex.split(text)[1:]
    if name == "COMMAND":
        assert arguments == ["--help"]
        return
    assert name in COMMANDS
    if arguments:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, arguments, parent=click.Context(main))


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    module = import_module("attribute_courier.cli.main")
    codes = {value for name, value in vars(module).items() if name.startswith("EXIT_")} | {0}
    assert {int(row[0]) for row in table("exit code")} == codes
    in_help = re.findall(r"^  (\d)  ", main.epilog or "", re.M)
    assert {int(code) for code in in_help} == codes


# --- the settings ------------------------------------------------------------------------------


class Recording(dict[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self, content: dict[str, str]) -> None:
        super().__init__(content)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def documented() -> dict[str, str]:
    """Variable → default, as the table says."""
    return {
        name: row[1].strip("`")
        for row in table("variable")
        for name in re.findall(r"`([^`]+)`", row[0])
    }


def test_the_table_has_every_variable_that_is_read_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = Recording({"COURIER_ACCOUNTS": "one,two"})
    monkeypatch.setattr(os, "environ", environ)
    load_settings()
    read = {
        re.sub(r"^(CHARTMOGUL_API_KEY)_(ONE|TWO)", r"\1_<NAME>", name) for name in environ.asked
    }
    assert read == set(documented())


@pytest.mark.parametrize(("name", "default"), documented().items())
def test_a_variable_set_to_its_documented_default_changes_nothing(
    name: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not default:
        assert re.search(r"KEY|AUTH|ACCOUNTS", name), f"{name} has a default: write it down"
        return
    without = load_settings()
    monkeypatch.setenv(name, default)
    assert load_settings() == without


# --- outcomes and answers ----------------------------------------------------------------------


def test_the_table_of_outcomes_has_every_status_and_says_which_end_well() -> None:
    rows = table("status")
    assert [row[0] for row in rows] == [f"`{status}`" for status in STATUSES]
    endings = {status: "yes" if status in SUCCESSES else "no" for status in STATUSES}
    assert {row[0].strip("`"): row[2] for row in rows} == endings | {"pending": ""}


def test_the_table_of_answers_is_the_one_that_the_worker_goes_by() -> None:
    found = b'{"entries": [{"uuid": "cus_1"}]}'
    said: dict[int, str] = {}
    for answer, whose, _ in table("answer"):
        codes = answer.partition(", or ")[0]
        said |= {int(code): whose for code in re.findall(r"\b\d{3}\b", codes)}
    assert {status: judge(Answer(status=status, body=found)).kind.value for status in said} == said
    for status in set(range(100, 600)) - set(range(200, 300)) - set(said):
        assert judge(Answer(status=status, body=b"")).kind is Kind.SERVER, status
    nobody = judge(Answer(status=200, body=b'{"entries": []}'))
    assert nobody.kind is Kind.UNMATCHED
    many = b'{"code": 503, "message": "Too many parallel connections"}'
    assert judge(Answer(status=503, body=many)).kind is Kind.PACE


def test_a_promise_names_a_test_that_exists() -> None:
    names = [name for row in table("promise") for name in re.findall(r"`(\w+)`", row[-1])]
    assert len(names) >= len(table("promise")), "no promise without its test"
    code = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in names if not re.search(rf"^ *(class|def) {name}\b", code, re.M)]
    assert not missing


# --- the pages ---------------------------------------------------------------------------------


def test_the_newest_version_of_the_changelog_is_the_packages() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", changelog, re.M)
    assert len(headings) == len(re.findall(r"^## ", changelog, re.M)), "## [version] - YYYY-MM-DD"
    if headings[0] == ("Unreleased", ""):
        del headings[0]
    dates = [date.fromisoformat(day) for _, day in headings]
    assert dates == sorted(dates, reverse=True)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert headings[0][0] == pyproject["project"]["version"]


def anchors(page: Path) -> set[str]:
    """The names that a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text("utf-8"))):
        if re.match(r"https://", target):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_is_named_is_there(page: Path) -> None:
    for span in spans(page.read_text("utf-8")):
        if re.fullmatch(r"(?:[\w-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|md|txt|toml|yml|lua)", span):
            assert (ROOT / span).exists(), span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_written_in_the_fields_own_words(page: Path) -> None:
    assert not BANNED.findall(page.read_text("utf-8"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_is_written_in_the_fields_own_words(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    text = command.get_help(click.Context(command, info_name=name))
    assert not BANNED.findall(text)


def test_what_these_tests_look_for_is_there_to_be_found() -> None:
    assert len(examples()) > 15
    assert len(documented()) > 15
    assert len(PAGES) >= 4
