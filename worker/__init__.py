"""What Celery runs: accepting jobs, delivering them, settling what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .host import install

if TYPE_CHECKING:
    from .standalone import app as app

__all__ = ["app", "install"]


def __getattr__(name: str) -> Any:
    """Make the courier's own app when it is first used: an application's own needs none of it."""
    if name == "app":
        from .standalone import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
