"""Whether a worker stops: known to all of its processes at once."""

from __future__ import annotations

import mmap
import threading


class Stopping(threading.Event):
    """An event that the children of the prefork pool see, too, and that a signal handler may mark.

    To be made before the children are forked: they share a byte of memory with their parent.
    `set()` ends each `wait()` of its own process. Elsewhere, and after `mark()`, one lasts to its
    end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._shared = mmap.mmap(-1, 1)

    def mark(self) -> None:
        """Stop soon. Takes no lock, which the interrupted code might hold."""
        self._shared[0] = 1

    def set(self) -> None:
        self.mark()
        super().set()

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set() or super().wait(timeout) or self.is_set()

    def is_set(self) -> bool:
        return self._shared[0] == 1
