"""A short run in which things go wrong, as part of all tests; `make chaos` runs longer ones."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .run import ROOT


@pytest.mark.long
@pytest.mark.timeout(180)
def test_no_promise_is_broken_while_workers_redis_and_chartmogul_fail() -> None:
    argv = [sys.executable, "-m", "tests.chaos", "--seconds", "10", "--seed", "12"]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("kept") == 11
    for fault in (
        "worker killed",
        "worker stopped",
        "burst of 429",
        "revoked",
        "damaged",
    ):
        assert fault in run.stdout
