"""A ChartMogul stand-in and an embedded Redis, for development, tests and the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .embedded import EmbeddedRedis
from .errors import (
    EmbeddedRedisError,
    SandboxConfigError,
    SandboxError,
    SandboxProcessError,
)
from .faults import Fault
from .inprocess import InProcessSandbox
from .leash import LeashedProcess
from .process import SandboxProcess
from .settings import DEFAULT_API_KEY, SandboxConfig

if TYPE_CHECKING:
    from .server import serve

__all__ = [
    "DEFAULT_API_KEY",
    "EmbeddedRedis",
    "EmbeddedRedisError",
    "Fault",
    "InProcessSandbox",
    "LeashedProcess",
    "SandboxConfig",
    "SandboxConfigError",
    "SandboxError",
    "SandboxProcess",
    "SandboxProcessError",
    "serve",
]


def __getattr__(name: str) -> Any:
    # The stand-in's server needs Tornado, which the rest does not.
    if name == "serve":
        from .server import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
