"""What `add_attributes` returns: a job's id, and the way to its outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ..jobs.outcome import Outcome
from ..jobs.removal import Cancellation
from ..state.outcomes import Outcomes


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The proof that a job is in the courier's hands."""

    job_id: str
    """As Flower shows it and `AsyncResult` takes it. With an idempotency key seen before: the first
    job's."""
    account: str
    duplicate: bool = False
    """Whether an earlier job with this idempotency key answers for this one."""
    _reading: Callable[[], AbstractContextManager[Outcomes]] = field(repr=False, compare=False)
    _cancel: Callable[[str], Cancellation] = field(repr=False, compare=False)

    def outcome(self) -> Outcome | None:
        """What became of the job so far; None when it is known no more, after the retention.

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        with self._reading() as outcomes:
            return outcomes.get(self.job_id)

    def cancel(self) -> Cancellation:
        """Take the job back, unless it was sent already (`Producer.cancel`).

        Raises:
            NotReachable: Redis does not answer, or answers with an error.
        """
        return self._cancel(self.job_id)

    def wait(self, timeout: float | None = None) -> Outcome:
        """Wait until the job is settled.

        Args:
            timeout: seconds; None waits as long as it takes, which can be days.

        Raises:
            TimeoutError: the job is still pending. It goes on all the same.
            NotReachable: Redis does not answer, or answers with an error.
        """
        with self._reading() as outcomes:
            outcome = outcomes.wait(self.job_id, timeout)
        if outcome is None or not outcome.settled:
            raise TimeoutError(f"job {self.job_id} is still pending after {timeout:g} s")
        return outcome

    async def wait_async(self, timeout: float | None = None) -> Outcome:
        """As `wait`, without blocking the event loop. It learns of the outcome a little later."""
        started = time.monotonic()
        async with asyncio.timeout(timeout):
            while True:
                # Not `wait` in a thread: many waiters would use up all threads of the loop.
                outcome = await asyncio.to_thread(self.outcome)
                if outcome is not None and outcome.settled:
                    return outcome
                await asyncio.sleep(min(1, max(0.05, (time.monotonic() - started) / 10)))
