"""A real Redis whose clock steps, by libfaketime (Debian: `apt-get install faketime`)."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest
import redis

from attribute_courier.sandbox import EmbeddedRedis

from .waiting import wait_until

PLACES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
REQUIRED = "COURIER_TESTS_NEED_FAKETIME"
"""When this variable is set, a test whose library is missing fails instead of being skipped."""
_IS_REQUIRED = bool(os.environ.get(REQUIRED))  # before the tests scrub their environment


def find_library() -> Path | None:
    """libfaketime, where Debian and others install it, or as LIBFAKETIME says."""
    named = os.environ.get("LIBFAKETIME")
    if named:
        return Path(named)
    found = [path for place in PLACES for path in Path("/").glob(place.lstrip("/"))]
    return found[0] if found else None


class SteppedRedis(EmbeddedRedis):
    """An embedded server with a clock of its own, so many seconds off this machine's.

    Where the library is missing, the clock is the machine's and cannot be set.
    """

    @property
    def can_step(self) -> bool:
        return find_library() is not None

    def step_to(self, offset_s: float) -> None:
        """Let the clock be so many seconds ahead of this machine's, or behind it where below 0."""
        new = self._stamp.with_suffix(".new")
        new.write_text(f"{offset_s:+g}")
        new.replace(self._stamp)

    @property
    def _stamp(self) -> Path:
        return self.data_dir / "clock"

    def _binary(self) -> Path:
        binary, library = super()._binary(), find_library()
        if library is None:
            return binary
        if not self._stamp.exists():
            self._stamp.write_text("+0")
        variables = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": self._stamp,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        }
        words = [f"{name}={content}" for name, content in variables.items()]
        script = self.data_dir / "server"
        script.write_text(
            f'#!/bin/sh\nexec env {shlex.join(words)} {shlex.quote(str(binary))} "$@"\n'
        )
        script.chmod(0o700)
        return script


def need_faketime() -> None:
    """Skip the test where the library is missing, or fail where it must not be."""
    if find_library() is None:
        why = "libfaketime is missing: apt-get install faketime"
        if _IS_REQUIRED:
            pytest.fail(why)
        pytest.skip(why)


def offset_s(client: redis.Redis) -> float:
    """How far Redis's clock is ahead of this machine's."""
    seconds, microseconds = client.time()  # type: ignore[misc]
    return float(seconds) + float(microseconds) / 1e6 - time.time()


def wait_for_step(client: redis.Redis, wanted_s: float) -> None:
    wait_until(lambda: abs(offset_s(client) - wanted_s) < 0.5, what="the clock has stepped")
