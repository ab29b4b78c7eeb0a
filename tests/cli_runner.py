"""click's runner in a form that every click has from 8.1 on."""

from __future__ import annotations

import inspect
from typing import Any

from click import testing

_MERGES = "mix_stderr" in inspect.signature(testing.CliRunner).parameters
"""Before click 8.2, stderr is kept apart only where asked for, and is no part of `output` then."""


class Result(testing.Result):
    """`output` holds stdout and stderr, as it does since click 8.2, one after the other."""

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class CliRunner(testing.CliRunner):
    """Keeps stdout and stderr apart."""

    def __init__(self) -> None:
        super().__init__(**({"mix_stderr": False} if _MERGES else {}))

    def invoke(self, *args: Any, **options: Any) -> testing.Result:
        result = super().invoke(*args, **options)
        if _MERGES:
            result.__class__ = Result
        return result
