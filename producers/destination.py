"""Where a producer's jobs go: to Redis, nowhere, or into the capture of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from ..jobs.job import Lane
from ..jobs.outcome import Outcome
from ..jobs.removal import Cancellation, Forgotten
from ..state.inbox import Entry, Known


class Asked(Protocol):
    """Who knows what became of jobs."""

    def get(self, job_id: str) -> Outcome | None: ...

    def wait(self, job_id: str, timeout_s: float | None) -> Outcome | None: ...

    def of_email(self, email: str, *, limit: int = 100) -> list[Outcome]: ...


class Destination(Protocol):
    """Where the jobs of one account go. `Intake`, which leads to Redis, explains the methods."""

    @property
    def account(self) -> str: ...

    @property
    def settles(self) -> bool:
        """Whether a pending job is settled in time, so that it is worth waiting for."""
        ...

    def put(self, lane: Lane, entries: Sequence[Entry]) -> dict[int, Known]: ...

    def waiting(self) -> int: ...

    def cancel(self, job_id: str) -> Cancellation: ...

    def forget(self, email: str) -> Forgotten: ...

    def reading(self) -> AbstractContextManager[Asked]: ...


Diversion = Callable[[str], Destination]
"""Account → where its jobs go in place of Redis."""

_lock = threading.Lock()
_diversions: tuple[Diversion, ...] = ()


@contextmanager
def diverted(diversion: Diversion) -> Iterator[None]:
    """Within this block the jobs of all producers, in all threads, go there. The innermost counts.

    For tests of applications: `attribute_courier.testing`.
    """
    global _diversions
    with _lock:
        _diversions = (*_diversions, diversion)
    try:
        yield
    finally:
        with _lock:
            _diversions = tuple(each for each in _diversions if each != diversion)


def current_diversion() -> Diversion | None:
    """Where jobs go in place of Redis, if anywhere."""
    found = _diversions  # without the lock, which a fork may have copied while it was held
    return found[-1] if found else None
