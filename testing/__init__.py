"""For the tests of an application: its jobs are captured, checked and looked at, without Redis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .captured import Capture as Capture
    from .captured import CapturedJob as CapturedJob
    from .captured import capture as capture
    from .captured import deliver_captured as deliver_captured

__all__ = ["Capture", "CapturedJob", "capture", "deliver_captured"]  # found by __getattr__


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: pytest imports the plugin beside, in every project."""
    if name in __all__:
        return getattr(import_module(".captured", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
