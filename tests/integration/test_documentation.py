"""What the pages say is what happens: every command and every Python snippet of README.md and docs/
runs, each block alone, and what is shown is what is printed.

A command that no test here knows how to run fails the first one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from ruamel.yaml import YAML

from attribute_courier.cli import main
from attribute_courier.sandbox import LeashedProcess

from ..conftest import Courier
from ..waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent

SHELLS = {"console", "bash", "sh", "shell"}
CANNOT_BE_REACHED = "http://127.0.0.1:1/v1"
"""Whatever a command does, it does not reach the real ChartMogul from a test."""


# --- reading the pages --------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command, and what its page shows below it."""

    text: str
    shown: tuple[str, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def argv(self) -> list[str]:
        """Its words, without the variables that it sets."""
        words = shlex.split(self.text, comments=True)
        while re.match(r"\w+=", words[0]):
            del words[0]
        return words

    @property
    def environ(self) -> dict[str, str]:
        """The variables that it sets."""
        words = shlex.split(self.text, comments=True)
        return dict(word.split("=", 1) for word in words[: len(words) - len(self.argv)])


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: Path
    language: str
    file_name: str
    """The file that the block is the content of; mostly none."""
    first_line: int
    """Number of its first line in the page, from 1."""
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}:{self.first_line}"

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block."""
        assert self.lines[0].startswith("$ "), f"{self}: a command stands behind `$ `"
        found = []
        for part in "\n".join(self.lines).removeprefix("$ ").split("\n$ "):
            text, *shown = part.replace("\\\n", "").split("\n")
            found.append(Command(text, tuple(shown)))
        return found


def blocks_of(page: Path) -> Iterator[Block]:
    lines = page.read_text("utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        language, _, rest = lines[start].removeprefix("```").partition(" ")
        yield Block(page, language, rest, start + 2, tuple(lines[start + 1 : end]))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SNIPPETS = [block for block in BLOCKS if block.language == "python" and not block.file_name]
TEXT_OF_PRODUCING = (ROOT / "docs" / "producing.md").read_text("utf-8")
FILES = {
    block.file_name: block for block in BLOCKS if block.language == "python" and block.file_name
}
CONSOLES = [block for block in BLOCKS if block.language in SHELLS and not block.file_name]
"""Sessions with a name, such as `redis-cli`, are run whole by tests of their own."""
COMMANDS = [command for block in CONSOLES for command in block.commands]


def of_kind(kind: str) -> list[Command]:
    return [command for command in COMMANDS if kind_of(command) == kind]


def kind_of(command: Command) -> str | None:
    """How a command is run here; None if nobody knows."""
    match command.argv:
        case ["courier", "up" | "worker" | "sandbox" | "flower" | "metrics", *_]:
            return "serves"
        case ["courier", "outcomes", *options] if "--follow" in options:
            return "serves"
        case ["celery", "-A", "tasks", *_] | ["python", "-m", "pytest", *_]:
            return "host"  # of a project that moves over, in test_from_celery.py
        case ["celery", *_]:
            return "serves"
        case ["courier", *_]:
            return "answers"
        case ["eval", *_]:
            return "completion"
        case ["make" | "docker" as tool, *_]:
            return tool
        case ["cp", *_]:
            return "copies"
        case [name, *_] if Path(name).name in ("pip", "python3"):
            return "installs"
    return None


def test_every_command_is_run_by_one_of_these_tests() -> None:
    assert [str(command) for command in COMMANDS if kind_of(command) is None] == []
    assert {block.language for block in CONSOLES} == {"console"}
    sessions = {block.file_name for block in BLOCKS if block.language in SHELLS} - {""}
    assert sessions == {"redis-cli", "systemd", "kubernetes"}, "each has tests of its own"
    kinds = {kind_of(command) for command in COMMANDS}
    assert kinds >= {"serves", "answers", "make", "docker", "installs"}
    assert len(SNIPPETS) > 5


# --- comparing what is printed -----------------------------------------------------------------

_MASKS = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", "<time>"),
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:<port>"),
    (r"\bpid \d+", "pid <number>"),
    (r"\bversion \d+\.\d+\.\d+", "version <number>"),
    (r"  +", "  "),  # a column is as wide as what stands in it
]


def masked(line: str) -> str:
    """Without what is different each time."""
    for pattern, mask in _MASKS:
        line = re.sub(pattern, mask, line)
    return line.rstrip()


def assert_shown(shown: tuple[str, ...], printed: str) -> None:
    """What was printed is what is shown. There, `…` stands for the rest of a line, or, on a line
    of its own, for any number of lines."""
    pattern = "\n".join(
        "(?s:.*)" if line == "…" else re.escape(masked(line)).replace("…", ".*") for line in shown
    )
    text = "\n".join(masked(line) for line in printed.splitlines())
    assert re.fullmatch(pattern, text.strip("\n")), printed


# --- running -----------------------------------------------------------------------------------


def environment(**environ: str) -> dict[str, str]:
    """A new terminal's, in which `courier` is on the path."""
    ours = ("COURIER_", "CHARTMOGUL_")
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith(ours)},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "CHARTMOGUL_API_URL": CANNOT_BE_REACHED,
        **environ,
    }


def run(text: str, cwd: Path, **environ: str) -> str:
    """What a command prints, on both streams."""
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=cwd,
        env=environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
    )
    # Still pending is 4; nothing to show, replay or cancel, or a rejected row of a table, is 1.
    expected = (0, 1) if re.match("courier (replay|import|outcomes|cancel)", text) else (0, 4)
    assert done.returncode in expected, f"exit code {done.returncode}: {text}\n{done.stdout}"
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Served:
    """A command that runs until it is stopped."""

    def __init__(self, command: Command, directory: Path, *more: str, **environ: str) -> None:
        self._log = directory / f"{len(list(directory.iterdir()))}.log"
        argv = [shutil.which(command.argv[0], path=str(BIN)) or "", *command.argv[1:], *more]
        with self._log.open("wb") as log:
            self.process = LeashedProcess(
                argv,
                cwd=directory,
                env=environment(**command.environ | environ),
                stdout=log,
                stderr=log,
            )

    @property
    def printed(self) -> str:
        return self._log.read_text("utf-8")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has printed this."""

        def found() -> list[re.Match[str]]:
            assert self.process.running, self.printed
            return list(re.finditer(pattern, self.printed))

        return wait_until(found, timeout_s=40, what=f"it prints {pattern}")[0]

    def stop(self) -> int:
        """Ctrl-C, or what a process supervisor does. Answers the exit code."""
        self.process.stop(40)
        return self.process.popen.returncode

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()


# --- the commands ------------------------------------------------------------------------------


def answering(block: Block) -> list[Command]:
    return [command for command in block.commands if kind_of(command) == "answers"]


@pytest.mark.parametrize("block", [block for block in CONSOLES if answering(block)], ids=str)
def test_a_second_terminal_shows_what_the_page_shows(block: Block, tmp_path: Path) -> None:
    """`courier up` runs in one terminal, and the block's commands in the other."""
    for each in blocks_of(block.page):
        if each.file_name and each.language == "csv":
            (tmp_path / each.file_name).write_text("\n".join(each.lines) + "\n", "utf-8")
    [make_up] = [command for command in of_kind("make") if command.argv == ["make", "up"]]
    redis_url = f"redis://localhost:{free_port()}/0"
    up = Command("courier up", make_up.shown)
    with Served(up, tmp_path, "--sandbox-port", "0", COURIER_REDIS_URL=redis_url) as terminal:
        terminal.wait_for(r" ready\.")
        assert_shown(up.shown, terminal.printed)
        [stand_in] = re.findall(r"a stand-in at http://(\S+)/v1", terminal.printed)
        for command in answering(block):
            text = command.text.replace("127.0.0.1:8181", stand_in)
            printed = run(text, tmp_path, COURIER_REDIS_URL=redis_url)
            assert_shown(command.shown, printed)
        assert terminal.stop() == 0
        assert terminal.printed.endswith("Stopped.\n")


@pytest.mark.parametrize("command", of_kind("serves"), ids=str)
def test_a_command_that_goes_on_starts_is_used_and_stops(
    command: Command, courier: Courier, tmp_path: Path
) -> None:
    directory = tmp_path / "terminal"
    directory.mkdir()
    match command.argv:
        case ["courier", "up", *_]:
            _use_up(command, directory)
        case ["courier", "worker", *_] | ["celery", *_]:
            _use_worker(command, directory, courier)
        case ["courier", "sandbox", *_]:
            _use_sandbox(command, directory, courier)
        case ["courier", "flower", *_]:
            _use_flower(command, directory, courier)
        case ["courier", "metrics", *_]:
            _use_metrics(command, directory, courier)
        case ["courier", "outcomes", *_]:
            _use_follow(command, directory, courier)
        case _:
            pytest.fail(f"nobody knows how to use it: {command}")


def _use_up(command: Command, directory: Path) -> None:
    redis_url = f"redis://localhost:{free_port()}/0"
    with Served(command, directory, "--sandbox-port", "0", COURIER_REDIS_URL=redis_url) as up:
        up.wait_for(r" ready\.")
        job = run("courier add ada@example.com plan=pro", directory, COURIER_REDIS_URL=redis_url)
        if "CHARTMOGUL_API_KEY" in command.environ:
            assert f"ChartMogul  {CANNOT_BE_REACHED}\n" in up.printed, "the one that is set"
            assert up.printed.splitlines()[0].endswith("/redis"), "apart from the stand-in's"
            up.wait_for(rf"attempt .* pending={job.strip()}")
        else:
            up.wait_for(rf"attempt .* delivered={job.strip()}")
        assert up.stop() == 0


def _use_worker(command: Command, directory: Path, courier: Courier) -> None:
    if "shop" in command.argv:  # an application's own
        (directory / "shop.py").write_text("\n".join(FILES["shop.py"].lines))
        courier.environ["BROKER_URL"] = courier.server.url
    receipt = courier.producer.add_attributes("ada@example.com", {"plan": "pro"})
    with Served(command, directory, **courier.environ) as worker:
        assert courier.wait(receipt, timeout_s=60)[0].status == "delivered", worker.printed
        assert worker.stop() == 0


def _use_sandbox(command: Command, directory: Path, courier: Courier) -> None:
    with Served(command, directory, "--port", "0") as sandbox:
        url, key = sandbox.wait_for(r"stand-in at (\S+), key (\S+)\n").groups()
        assert_shown(command.shown, sandbox.printed)
        environ = courier.environ | {"CHARTMOGUL_API_URL": url, "CHARTMOGUL_API_KEY": key}
        assert "the API key is valid" in run("courier ping", directory, **environ)
        assert sandbox.stop() == 0


def _use_flower(command: Command, directory: Path, courier: Courier) -> None:
    port = free_port()
    # On loopback whatever the page says, since this machine may not be alone.
    here = ("--port", str(port), "--host", "127.0.0.1")
    with Served(command, directory, *here, **courier.environ) as flower:
        flower.wait_for("Visit me at")
        wait_until(lambda: _status(f"http://127.0.0.1:{port}/healthcheck") == 200)
        protected = "COURIER_FLOWER_BASIC_AUTH" in command.environ
        assert _status(f"http://127.0.0.1:{port}/workers") == (401 if protected else 200)
        flower.stop()


def _use_metrics(command: Command, directory: Path, courier: Courier) -> None:
    # On loopback whatever the page says, since this machine may not be alone.
    here = ("--port", "0", "--host", "127.0.0.1")
    with Served(command, directory, *here, **courier.environ) as metrics:
        [url] = metrics.wait_for(r"Metrics at (\S+)\n").groups()
        if command.shown:
            assert_shown(command.shown, metrics.printed)
        assert _status(url) == 200
        assert _status(url.replace("/metrics", "/healthz")) == 200
        assert metrics.stop() == 0


def _status(url: str) -> int | None:
    """The HTTP status; None while nobody answers."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as response:
            found: int = response.status
            return found
    except urllib.request.HTTPError as refusal:
        with refusal:
            return refusal.code
    except OSError:
        return None


def _use_follow(command: Command, directory: Path, courier: Courier) -> None:
    courier.start_worker()
    with Served(command, directory, **courier.environ) as follow:

        def told() -> str:
            # It tells of what comes after its start, and does not say when that is.
            receipt = courier.producer.add_attributes("ada@example.com", {"plan": "pro"})
            courier.wait(receipt)
            return follow.printed

        line = wait_until(told, timeout_s=40, what="an outcome is printed").splitlines()[0]
        assert json.loads(line)["email"] == "ada@example.com"
        follow.stop()


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    [demo] = [command for command in of_kind("make") if command.argv == ["make", "demo"]]
    assert_shown(demo.shown, run("courier demo", tmp_path))
    assert list(tmp_path.iterdir()) == [], "nothing stays behind"


@pytest.mark.parametrize("command", of_kind("make"), ids=str)
def test_a_target_of_make_runs_the_command_of_its_name(command: Command) -> None:
    """Not by `make` itself, which would install from the network."""
    [_, target] = command.argv
    environ = dict(os.environ)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS"):  # perhaps `make` runs this
        environ.pop(name, None)
    done = subprocess.run(
        ["make", "--dry-run", target],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(f".venv/bin/courier {target}")


@pytest.mark.parametrize("command", of_kind("docker"), ids=str)
def test_a_compose_command_names_services_that_exist(command: Command) -> None:
    """Checked and not run: there is no engine."""
    services = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]
    match command.argv:
        case ["docker", "compose", "up", *options]:
            assert set(options) - {"--detach", "--wait", "--scale", "worker=3"} == set()
            assert {"worker", "redis", "flower"} <= services.keys()
        case ["docker", "compose", "--profile", profile, "up", "--detach", "--wait"]:
            assert profile in [
                each for name in services for each in services[name].get("profiles", ())
            ]
        case ["docker", "compose", "exec", service, "courier", name, *arguments]:
            assert service in services
            context = click.Context(main)
            subcommand = main.get_command(context, name)
            assert subcommand is not None
            subcommand.make_context(name, list(arguments), parent=context)
        case ["docker", "compose", "logs", "--follow", service]:
            assert service in services
        case _:
            pytest.fail(f"nobody knows how to check it: {command}")


def test_the_example_of_an_env_file_has_what_compose_asks_for() -> None:
    [copy] = of_kind("copies")
    assert copy.argv == ["cp", ".env.example", ".env"]
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text("utf-8")))
    example = (ROOT / ".env.example").read_text("utf-8")
    assert asked <= set(re.findall(r"^(\w+)=", example, re.M))


@pytest.mark.parametrize("command", of_kind("installs"), ids=str)
def test_an_installation_names_files_options_and_extras_that_exist(command: Command) -> None:
    """Checked and not run: it would install from the network."""
    if command.argv[0] == "python3":
        assert command.argv == ["python3", "-m", "venv", ".venv"]
        return
    [_, install, *arguments] = command.argv
    assert install == "install"
    pip_help = run(f"{shlex.quote(sys.executable)} -m pip install --help", ROOT)
    extras: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for argument in arguments:
        if argument.startswith("--"):
            assert re.search(rf"{argument}\b", pip_help), argument
        elif found := re.fullmatch(r"\.(?:\[(.*)\])?", argument):
            named = set(filter(None, (found[1] or "").split(",")))
            assert named <= extras["optional-dependencies"].keys()
        else:
            assert (ROOT / argument).is_file()


def test_completion_completes(tmp_path: Path) -> None:
    [command] = of_kind("completion")
    assert " courier" in run(f"{command.text}\ncomplete -p courier", tmp_path)


# --- the Python --------------------------------------------------------------------------------


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_a_snippet_prints_what_it_says(snippet: Block, courier: Courier, tmp_path: Path) -> None:
    """It runs alone, as a program of an application that has no API key."""
    code = "\n".join(snippet.lines)
    path = tmp_path / "snippet.py"
    path.write_text("\n" * (snippet.first_line - 1) + code, "utf-8")  # a traceback has its line
    if re.search(r"\.(wait|wait_async|get)\(", code):
        courier.start_worker()
    redis_url = courier.environ["COURIER_REDIS_URL"]
    # Without what is logged, which an application that has no logging set up shows, too.
    command = f"{shlex.quote(sys.executable)} {path} 2> >(grep -v '^job \\|^the courier')"
    printed = run(command, tmp_path, COURIER_REDIS_URL=redis_url)
    said = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.M)
    assert len(said) == code.count("print(")
    assert_shown(tuple(said), printed)


def test_every_file_of_python_is_used_by_one_of_these_tests() -> None:
    assert sorted(FILES) == [
        "mysite/settings.py",
        "mysite/worker.py",
        "shop.py",
        "tasks.py",  # these two in test_from_celery.py
        "test_shop.py",
        "test_sign_up.py",
    ]


def test_the_fixture_does_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "test_sign_up.py").write_text("\n".join(FILES["test_sign_up.py"].lines))
    printed = run(f"{shlex.quote(sys.executable)} -m pytest -p no:cacheprovider", tmp_path)
    assert "1 passed" in printed


def test_a_django_projects_worker_has_the_projects_settings(
    courier: Courier, tmp_path: Path
) -> None:
    pytest.importorskip("django")
    directory = tmp_path / "terminal"
    (directory / "mysite").mkdir(parents=True)
    (directory / "mysite" / "__init__.py").touch()
    for name in ("mysite/settings.py", "mysite/worker.py"):
        (directory / name).write_text("\n".join(FILES[name].lines))
    settings = directory / "mysite" / "settings.py"
    text = settings.read_text()
    redis_url = courier.environ.pop("COURIER_REDIS_URL")
    assert text.count("redis://localhost:6379/0") == 1
    settings.write_text(text.replace("redis://localhost:6379/0", redis_url))
    [command] = re.findall(r"`(celery -A mysite[^`]*)`", TEXT_OF_PRODUCING)
    _use_worker(Command(command, ()), directory, courier)
