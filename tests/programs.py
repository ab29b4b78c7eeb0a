"""Programs that some tests need and `make test` does not bring."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NODE_MODULES = Path(__file__).parents[1] / "build" / "node" / "node_modules"
_PREFIX = "COURIER_TESTS_NEED_"
_REQUIRED = {name for name, value in os.environ.items() if name.startswith(_PREFIX) and value}
"""As it was before the tests scrub their environment."""


def program(name: str, *, thing: str, install: str) -> str:
    """The path of a program. Without it the test skips, or fails where CI says that it is needed.

    Args:
        thing: what the variable COURIER_TESTS_NEED_… calls it.
        install: how to get it.
    """
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed: {install}", thing)
    return found


def missing(why: str, thing: str) -> NoReturn:
    """Skip the test, or fail it where the variable COURIER_TESTS_NEED_… is set."""
    if f"{_PREFIX}{thing}" in _REQUIRED:
        pytest.fail(f"{_PREFIX}{thing} is set, and {why}")
    pytest.skip(why)


def node_with(*packages: str) -> str:
    """The path of Node, which finds these packages (name@version) in `NODE_MODULES`."""
    install = f"npm install --no-package-lock --prefix build/node {' '.join(packages)}"
    node = program("node", thing="NODE", install="https://nodejs.org")
    for each in packages:
        if not (NODE_MODULES / each.rpartition("@")[0]).is_dir():
            missing(f"{each} is not installed: {install}", "NODE")
    return node
