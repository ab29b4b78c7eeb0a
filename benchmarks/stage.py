"""What a run has to itself: servers, a directory, and an environment without settings."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from attribute_courier.sandbox import EmbeddedRedis, SandboxConfig, SandboxError, SandboxProcess

CUSTOMERS = "*@load.example"
"""Emails that have a customer at the stand-in."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Both servers run, on loopback."""

    home: Path
    server: EmbeddedRedis
    stand_in: SandboxProcess

    def delivered(self) -> int:
        """Requests that the stand-in has carried out so far."""
        return int(self.stand_in.stats()["applied"])


def strict(**more: Any) -> SandboxConfig:
    """ChartMogul's limits, strictly, and a latency that a busy API could have."""
    settings = {
        "rate_limit": 40,
        "max_parallel": 20,
        "latency_s": 0.25,
        "latency_sigma": 0.2,
        "auto_customers": CUSTOMERS,
    }
    return SandboxConfig(**{**settings, **more})


def unlimited(**more: Any) -> SandboxConfig:
    """A stand-in that answers at once, and as often as it is asked."""
    return SandboxConfig(rate_limit=10**6, max_parallel=10**3, auto_customers=CUSTOMERS, **more)


@contextmanager
def staged(config: SandboxConfig) -> Iterator[Stage]:
    """A Redis and a stand-in, in a temporary directory. Left, all of it is gone.

    Raises:
        SandboxError: a server does not start.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="courier-benchmark-")))
        server = stack.enter_context(EmbeddedRedis(home / "redis"))
        stand_in = stack.enter_context(SandboxProcess(config, log=home / "stand-in.log"))
        yield Stage(home=home, server=server, stand_in=stand_in)


@contextmanager
def tidily() -> Iterator[None]:
    """A benchmark that is ended, or whose servers fail, clears away what it has made."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (SandboxError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None


def until(condition: Callable[[], bool], bound_s: float, *, look_every_s: float = 0.05) -> bool:
    """Look again and again; whether it came true within the bound."""
    deadline = time.monotonic() + bound_s
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(look_every_s)
    return true


def forget_settings() -> None:
    """Whatever this terminal is set up for, a benchmark meets none of it."""
    for name in list(os.environ):
        if name.startswith(("COURIER_", "CHARTMOGUL_")):
            del os.environ[name]


def email(number: int) -> str:
    """A customer's."""
    return f"customer-{number}@load.example"
