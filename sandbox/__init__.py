"""A ChartMogul stand-in and an embedded Redis, for development, tests and the demo."""

from __future__ import annotations

from .embedded import EmbeddedRedis
from .errors import (
    EmbeddedRedisError,
    SandboxConfigError,
    SandboxError,
    SandboxProcessError,
)
from .faults import Fault
from .leash import LeashedProcess
from .process import SandboxProcess
from .server import serve
from .settings import DEFAULT_API_KEY, SandboxConfig

__all__ = [
    "DEFAULT_API_KEY",
    "EmbeddedRedis",
    "EmbeddedRedisError",
    "Fault",
    "LeashedProcess",
    "SandboxConfig",
    "SandboxConfigError",
    "SandboxError",
    "SandboxProcess",
    "SandboxProcessError",
    "serve",
]
