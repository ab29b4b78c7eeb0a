"""What `deploy/` holds for operators, read for the tests of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
MANIFESTS = sorted((ROOT / "deploy/kubernetes").glob("*/*.yaml"))
PAGE = (ROOT / "docs/deployment.md").read_text("utf-8")

STOP_GRACE_S = 60
"""What docs/operating.md, "Stopping", asks for."""
INSTALLED = "/opt/attribute-courier/bin/"
"""Where the units and the page expect the commands."""


def directives(unit: Path) -> dict[str, list[str]]:
    """Name → values, in order, of all sections of a unit."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", unit.read_text("utf-8"), re.M):
        found.setdefault(name, []).append(value)
    return found


def exec_start(unit: Path) -> list[str]:
    """The words of the command that a unit runs, as systemd passes them on in the instance `1`."""
    [line] = directives(unit)["ExecStart"]
    return [word.replace("%i", "1").replace("%%", "%") for word in line.split()]


def environment(unit: Path, *, credentials: Path, etc: Path) -> dict[str, str]:
    """What systemd gives the process.

    Args:
        credentials: what `%d` stands for.
        etc: stands for /etc.
    """
    found = {}
    for name in directives(unit)["EnvironmentFile"]:
        path = etc / Path(name.removeprefix("-")).relative_to("/etc")
        if path.exists() or not name.startswith("-"):
            found |= dict(re.findall(r"^(\w+)=(.*)$", path.read_text("utf-8"), re.M))
    for assignment in directives(unit).get("Environment", ()):
        name, _, value = assignment.partition("=")
        found[name] = value.replace("%d", str(credentials))
    return found


def documents(*paths: Path) -> Iterator[dict[str, Any]]:
    """All objects of some manifests."""
    for path in paths:
        yield from YAML(typ="safe").load_all(path.read_text("utf-8"))


def sessions(name: str) -> list[str]:
    """The commands of the page's console blocks of this name, each in one line."""
    blocks = re.findall(rf"^```console {name}\n(.*?)^```$", PAGE, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [re.sub(r" +", " ", line.removeprefix("$ ")) for line in lines if line[:2] == "$ "]
