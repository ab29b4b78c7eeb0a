"""That a worker stops, for its threads and for the processes of its pool."""

from __future__ import annotations

import mmap
import threading


class Stopping(threading.Event):
    """Set once the worker is to stop. Processes that are forked later see it, too."""

    def __init__(self) -> None:
        super().__init__()
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def note(self) -> None:
        """Set it from a signal's handler, which may take no lock: who waits goes on waiting."""
        self._memory[0] = 1

    def set(self) -> None:
        self.note()
        super().set()

    def forked(self) -> None:
        """In a process that was forked just now: a thread of its parent may have had the lock."""
        super().__init__()

    def is_set(self) -> bool:
        return self._memory[0] == 1

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set() or super().wait(timeout) or self.is_set()
