"""The pages for people cannot drift from the code: what exists is described, and nothing else.

`tests/integration/test_documentation.py` runs their commands and snippets.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from dataclasses import fields
from datetime import date
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import click
import pytest
from ruamel.yaml import YAML

import attribute_courier
from attribute_courier import CourierError
from attribute_courier.cli import main
from attribute_courier.config import Settings, load_settings
from attribute_courier.config.rights import PRODUCER_RIGHTS, watcher_rights, worker_rights
from attribute_courier.jobs.outcome import REASONS, STATUSES, SUCCESSES
from attribute_courier.operate.problems import Code
from attribute_courier.worker.chartmogul import MAX_BODY, Answer, NoAnswer
from attribute_courier.worker.verdicts import judge

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + DOCS
EXAMPLES = ROOT / "examples" / "README.md"
TEXTS = {page.name: page.read_text("utf-8") for page in PAGES}
COMMANDS = main.list_commands(click.Context(main))


def table(page: str, first_heading: str) -> list[list[str]]:
    """The rows of all tables of a page whose first column has this heading."""
    found = re.findall(
        rf"^\| {re.escape(first_heading)} \|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", TEXTS[page], re.M
    )
    assert found, f"{page} has no table of each {first_heading}"
    return [
        [cell.strip() for cell in row.strip("|").split("|")]
        for rows in found
        for row in rows.splitlines()
    ]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def spans(text: str) -> list[str]:
    """What stands between backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", without_blocks(text))


def examples(program: str) -> list[str]:
    """Every command of a program on all pages, in console blocks and in running text."""
    found = []
    for text in TEXTS.values():
        prompts = re.findall(r"^\$ (.*)$", text, re.M)
        found += [re.sub(r"^(?:\w+=\S* )+", "", each) for each in prompts] + spans(text)
    return sorted({text for text in found if text.startswith(f"{program} ")})


# --- the command line --------------------------------------------------------------------------


def test_the_table_of_commands_has_every_command_and_no_other() -> None:
    rows = table("operating.md", "command")
    assert sorted(row[0] for row in rows) == [f"`courier {name}`" for name in COMMANDS]


@pytest.mark.parametrize("text", examples("courier"))
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


@pytest.mark.parametrize("text", examples("make"))
def test_an_example_of_make_has_a_target_that_exists(text: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert text.split()[1] in targets


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    module = import_module("attribute_courier.cli.main")
    codes = {value for name, value in vars(module).items() if name.startswith("EXIT_")} | {0}
    assert {int(row[0]) for row in table("operating.md", "exit code")} == codes
    in_help = re.findall(r"^  (\d)  ", main.epilog or "", re.M)
    assert {int(code) for code in in_help} == codes


# --- the Python API ----------------------------------------------------------------------------


def test_the_table_of_errors_has_every_error_that_is_offered() -> None:
    offered = {
        name
        for name in attribute_courier.__all__
        if isinstance(getattr(attribute_courier, name), type)
        and issubclass(getattr(attribute_courier, name), Exception)
    }
    listed = {row[0].strip("`") for row in table("producing.md", "error")}
    assert listed == offered - {CourierError.__name__} | {"TimeoutError"}


# --- the settings ------------------------------------------------------------------------------

TLS = Path(__file__).parents[1] / "tls"
SAMPLES = {
    "CHARTMOGUL_API_KEY": "key",
    "CHARTMOGUL_API_URL": "https://example.com/v1",
    "COURIER_ACCOUNT": "eu",
    "COURIER_ACCOUNTS": "eu,us",
    "COURIER_ALLOW_EVICTION": "true",
    "COURIER_ALLOW_HTTP": "true",
    "COURIER_BROKER_URL": "amqp://mq",
    "COURIER_BULK_SHARE": "0.2",
    "COURIER_CONCURRENCY": "7",
    "COURIER_CONFIRM": "match",
    "COURIER_ENABLED": "false",
    "COURIER_ENQUEUE_TIMEOUT": "1s",
    "COURIER_FLOWER_BASIC_AUTH": "ada:secret",
    "COURIER_GIVE_UP_AFTER": "1h",
    "COURIER_HOOK_BROKER_URL": "redis://app",
    "COURIER_HOOK_EMAIL": "true",
    "COURIER_HOOK_QUEUE": "outcomes",
    "COURIER_HOOK_RETENTION": "1d",
    "COURIER_HOOK_SECRET": "whsec_" + "QUFB" * 8,
    "COURIER_HOOK_STATUSES": "failed,refused",
    "COURIER_HOOK_TASK": "shop.on_outcome",
    "COURIER_HOOK_TIMEOUT": "5s",
    "COURIER_HOOK_URL": "https://app.example/hook",
    "COURIER_KEEP_DELIVERED": "1d",
    "COURIER_LOG_FORMAT": "json",
    "COURIER_OUTBOX_URL": "sqlite:///app.db",
    "COURIER_MAX_ATTRIBUTES": "10",
    "COURIER_MAX_PARALLEL": "5",
    "COURIER_MAX_REQUEST_BYTES": "10000",
    "COURIER_PROBE_DELAYS": "1s",
    "COURIER_RATE_LIMIT": "10",
    "COURIER_REDIS_CA_FILE": str(TLS / "ca.pem"),
    "COURIER_REDIS_CERT_FILE": str(TLS / "client.pem"),
    "COURIER_REDIS_KEY_FILE": str(TLS / "client.key"),
    "COURIER_REDIS_URL": "redis://localhost:6380/1",
    "COURIER_RETENTION": "40d",
    "COURIER_SENTINEL_PASSWORD": "hush",
    "COURIER_STRICT_TYPES": "true",
    "COURIER_TIMEOUT": "5s",
    "COURIER_UNCONFIRMED_DELAYS": "5s",
    "COURIER_UNMATCHED_DELAYS": "5s",
    "COURIER_WAIT_REPLICAS": "1",
    "COURIER_WITH_ASSOCIATED_EMAILS": "true",
}
"""For variables of the page: a value that is not the default."""


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
    """Variable → default, as the page says."""
    return {
        name: row[1].strip("`")
        for row in table("settings.md", "variable")
        for name in re.findall(r"`([^`]+)`", row[0])
    }


def test_the_page_has_every_variable_that_is_read_and_no_other(
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
        assert re.search(r"KEY|AUTH|ACCOUNTS|HOOK|OUTBOX|BROKER|PASSWORD|_FILE", name), (
            f"{name} has a default: write it down"
        )
        return
    without = load_settings()
    monkeypatch.setenv(name, default)
    assert load_settings() == without


def test_every_field_of_the_settings_has_a_variable_on_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = load_settings()
    changed = set()
    for name in set(documented()) & set(SAMPLES):
        with monkeypatch.context() as context:
            if name.startswith("COURIER_REDIS_") and name.endswith("_FILE"):
                context.setenv("COURIER_REDIS_URL", "rediss://redis")
                context.setenv("COURIER_REDIS_CERT_FILE", SAMPLES["COURIER_REDIS_CERT_FILE"])
                context.setenv("COURIER_REDIS_KEY_FILE", SAMPLES["COURIER_REDIS_KEY_FILE"])
            context.setenv(name, SAMPLES[name])
            found = load_settings()
        differs = {
            each.name
            for each in fields(Settings)
            if getattr(found, each.name) != getattr(without, each.name)
        }
        assert differs, f"{name} changes no setting"
        changed |= differs
    assert changed == {each.name for each in fields(Settings)}
    of_a_file_or_account = {name for name in documented() if "_FILE" in name or "<NAME>" in name}
    assert set(documented()) - set(SAMPLES) == of_a_file_or_account - set(SAMPLES)


def test_fields_have_the_names_of_their_variables_but_for_those_listed() -> None:
    others = {
        re.findall(r"`([A-Z_]+)`", row[0])[0]: re.findall(r"`(\w+)`", row[1])[0]
        for row in table("settings.md", "instead of")
    }
    for each in fields(Settings):
        variable = vars(Settings)[each.name].variable
        name = re.sub("^(COURIER|CHARTMOGUL)_", "", variable).lower()
        assert each.name in (others.get(variable), name, f"{name}_s"), variable
        assert (others.get(variable) == each.name) is (each.name not in (name, f"{name}_s"))


@pytest.mark.parametrize(
    ("who", "rights"),
    [
        ("producer", PRODUCER_RIGHTS),
        ("worker", worker_rights()),
        ("watcher", watcher_rights()),
    ],
)
def test_the_rights_in_redis_are_those_that_are_needed(who: str, rights: str) -> None:
    [listed] = re.findall(rf"^```text {who}\n(.*?)^```$", TEXTS["redis.md"], re.M | re.S)
    assert listed.split() == rights.split()


# --- outcomes and answers ----------------------------------------------------------------------


def test_the_table_of_outcomes_has_every_status_and_says_which_end_well() -> None:
    rows = table("outcomes.md", "status")
    statuses = (*STATUSES, "disabled")
    assert [row[0] for row in rows] == [f"`{status}`" for status in statuses]
    endings = {status: "yes" if status in SUCCESSES else "no" for status in statuses}
    assert {row[0].strip("`"): row[2] for row in rows} == endings | {"pending": ""}


def test_the_table_of_reasons_has_every_reason() -> None:
    rows = table("outcomes.md", "reason")
    assert [row[0] for row in rows] == [f"`{reason}`" for reason in REASONS if reason]


CUSTOMER = {"entries": [{"uuid": "cus_1", "attributes": {"custom": {"age": 8}}}]}
REFUSAL = {"code": 1, "message": "said", "param": None}


def answer(status: int, document: object = "") -> Answer:
    return Answer(status=status, body=json.dumps(document).encode() if document != "" else b"")


EMPTY: list[object] = ["", None, {}, [], {"entries": []}, {"entries": None}]

ANSWERS: list[tuple[str, list[Answer | NoAnswer]]] = [
    ("our own side", [NoAnswer(reason="no proxy", sent=False, own_side=True), answer(407)]),
    ("3xx", [answer(301), answer(308, REFUSAL)]),
    (
        "429; 503 that speaks",
        [answer(429), answer(503, REFUSAL | {"message": "Too many parallel"})],
    ),
    ("2xx, the values are shown", [answer(200, CUSTOMER), answer(202, CUSTOMER)]),
    ("2xx, larger than", [Answer(status=200, body=b'{"entries": [' + b" " * MAX_BODY)]),
    ("2xx whose body is an error", []),
    ("2xx with customers", [answer(200, {"entries": [{"uuid": "cus_1"}]})]),
    ("202, 204 without values", [answer(202, {}), answer(204)]),
    ("any other 2xx with something", [Answer(status=200, body=b"<html>Hello</html>")]),
    (
        "any other 2xx without customers",
        [
            *map(partial(answer, 200), EMPTY),
            answer(404, REFUSAL | {"message": "Can't find any customers with email", "code": 404}),
        ],
    ),
    ("413", [answer(413), answer(413, REFUSAL)]),
    ("any other 4xx but", [Answer(status=status, body=b"<p>No") for status in (400, 401, 404)]),
    ("404 that does not speak", [answer(404, {"error": "Not found"})]),
    ("401, 402, 403", [answer(status, REFUSAL) for status in (401, 402, 403)]),
    ("400, 422 and every", [answer(status, REFUSAL) for status in (400, 422, 409, 418)]),
    (
        "408, 425, 5xx",
        [
            *(answer(status, REFUSAL) for status in (408, 425, 500, 502, 503, 504, 520, 524)),
            NoAnswer(reason="the connection failed", sent=True),
        ],
    ),
]
"""For each row of the page's table, by its first words: answers that it is about."""


def test_the_table_of_answers_is_the_one_that_the_worker_goes_by() -> None:
    rows = table("outcomes.md", "answer")
    for (words, answers), row in zip(ANSWERS, rows, strict=True):
        assert row[0].startswith(words)
        assert {judge(each).kind.value for each in answers} <= {row[1]}, words


def test_the_page_says_of_each_problem_what_to_do() -> None:
    rows = table("troubleshooting.md", "problem")
    assert sorted(row[0].strip("`") for row in rows) == sorted(get_args(Code))
    assert all(row[1] in ("error", "warning", "error, warning") and row[3] for row in rows)


def test_a_promise_names_a_test_that_exists() -> None:
    rows = table("README.md", "promise")
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row[-1])]
    assert len(names) >= len(rows), "no promise without its test"
    code = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in names if not re.search(rf"^ *(class|def) {name}\b", code, re.M)]
    assert not missing


# --- the pages ---------------------------------------------------------------------------------


def test_the_changelog_leads_from_what_is_not_released_to_the_packages_version() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", TEXTS["CHANGELOG.md"], re.M)
    assert len(headings) == len(re.findall(r"^## ", TEXTS["CHANGELOG.md"], re.M))
    released = [each for each in headings if each != ("Unreleased", "")]
    dates = [date.fromisoformat(day) for _, day in released]
    assert dates == sorted(dates, reverse=True)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert [version for version, _ in released][:1] in ([], [pyproject["project"]["version"]])


def anchors(page: Path) -> set[str]:
    """The names that a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def links(page: Path) -> list[str]:
    """What a page links to, other than other people's pages."""
    found = re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text("utf-8")))
    return [target for target in found if not target.startswith("https://")]


@pytest.mark.parametrize("page", [*PAGES, EXAMPLES], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_readme_leads_to_every_page() -> None:
    pages = {f"docs/{page.name}" for page in DOCS if page.name != "index.md"}
    assert pages <= set(links(ROOT / "README.md"))


def test_the_site_and_its_first_page_lead_to_every_page() -> None:
    config = YAML(typ="safe").load(ROOT / "mkdocs.yml")
    listed = [name for section in config["nav"] for [pages] in [section.values()] for page in pages
              for name in page.values()]  # fmt: skip
    assert sorted(listed) == [page.name for page in DOCS]
    assert config["strict"] is True
    assert set(listed) - {"index.md"} <= set(links(ROOT / "docs" / "index.md"))


def test_the_site_leads_out_of_docs_to_the_repository_and_names_the_files_of_blocks() -> None:
    spec = spec_from_file_location("hook", ROOT / "docs" / "site" / "hook.py")
    assert spec is not None
    assert spec.loader is not None
    hook = module_from_spec(spec)
    spec.loader.exec_module(hook)
    text = "[a](../README.md#install), [b](limits.md)\n```python app.py\n```python\n"
    config = SimpleNamespace(extra={"source": "https://code.example/"})
    assert hook.on_page_markdown(text, page=None, config=config, files=None) == (
        "[a](https://code.example/README.md#install), [b](limits.md)\n"
        '```python title="app.py"\n```python\n'
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    shown = re.findall(r"^```\w+ (\S+\.\w+)$", text, re.M)  # files whose content the page has
    for span in set(spans(text)) - set(shown):
        if re.fullmatch(r"(?:[\w-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|md|txt|toml|yml|lua)", span):
            assert (ROOT / span).exists(), span
