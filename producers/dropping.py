"""Checking jobs and dropping them, where the courier is turned off (`COURIER_ENABLED=false`)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from ..jobs.job import Lane
from ..jobs.outcome import Outcome
from ..jobs.removal import Cancellation, Forgotten
from ..state.inbox import Entry, Known

log = logging.getLogger(__name__)

_unsaid = threading.Semaphore(1)
"""Is taken by who says in the log that jobs are dropped."""


class Dropping:
    """Takes the jobs of one account, which were checked, and keeps nothing of them."""

    settles: ClassVar[bool] = False

    def __init__(self, account: str) -> None:
        self.account = account

    def put(self, lane: Lane, entries: Sequence[Entry]) -> dict[int, Known]:
        """Drop jobs. None is known: nothing remembers idempotency keys."""
        if _unsaid.acquire(blocking=False):
            log.warning(
                "the courier is turned off (COURIER_ENABLED): jobs are checked and dropped, in "
                "this process from now on without a word"
            )
        return {}

    def waiting(self) -> int:
        return 0

    def cancel(self, job_id: str) -> Cancellation:
        return Cancellation(job_id=job_id, result="settled", outcome=self.get(job_id))

    def forget(self, email: str) -> Forgotten:
        return Forgotten(account=self.account)

    @contextmanager
    def reading(self) -> Iterator[Dropping]:
        yield self

    def get(self, job_id: str) -> Outcome:
        """`disabled`, whatever the job."""
        return Outcome(
            job_id=job_id,
            account=self.account,
            status="disabled",
            message="the courier is turned off (COURIER_ENABLED): jobs are checked and dropped",
        )

    def wait(self, job_id: str, timeout_s: float | None) -> Outcome:
        return self.get(job_id)

    def of_email(self, email: str, *, limit: int = 100) -> list[Outcome]:
        return []
