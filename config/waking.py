"""How this process wakes workers, where its application has the courier in a Celery app of its own.

`attribute_courier.worker.install` sets it, and producers ask for it each time.
"""

from __future__ import annotations

from collections.abc import Callable

Waker = Callable[[str, float], bool]
"""Account, when to give up by `time.monotonic()` → whether a message was sent. Raises nothing."""

_waker: Waker | None = None


def wake_by(waker: Waker | None) -> None:
    """Let producers of this process wake workers by this; None for the courier's own messages."""
    global _waker
    _waker = waker


def current_waker() -> Waker | None:
    """What an application's Celery app wakes workers by, if it has the courier."""
    return _waker
