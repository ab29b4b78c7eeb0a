"""What the sandbox raises.

SandboxError
├── SandboxConfigError     a setting or fault of the stand-in makes no sense
├── SandboxProcessError    the stand-in's process did not start or does not answer
└── EmbeddedRedisError     no server binary, or the server did not start
"""

from __future__ import annotations


class SandboxError(Exception):
    """Anything that went wrong in the sandbox itself."""


class SandboxConfigError(SandboxError, ValueError):
    """A setting has the wrong type or a value outside its range; the message names it."""


class SandboxProcessError(SandboxError):
    """The stand-in's process did not start in time, has ended, or refused a control request."""


class EmbeddedRedisError(SandboxError):
    """No server binary was found, its data directory is in use, or the server did not start."""
