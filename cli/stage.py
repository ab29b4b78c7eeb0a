"""Real parts in this terminal, for `courier up` and `courier demo`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..sandbox import LeashedProcess


def start_worker(environ: dict[str, str], log: Path | None = None) -> LeashedProcess:
    """A real worker in a process of its own, which ends with this one.

    `environ` is added to this process's environment; `log` takes its output (else it is shown).
    """
    argv = [sys.executable, "-m", "attribute_courier.cli", "worker"]
    if log is None:
        return LeashedProcess(argv, env={**os.environ, **environ})
    with log.open("ab") as stream:
        return LeashedProcess(argv, env={**os.environ, **environ}, stdout=stream, stderr=stream)
