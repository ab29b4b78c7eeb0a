"""Asking about many jobs until they are settled, in 16 bytes of memory each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ...jobs.errors import NotReachable
from ...jobs.ids import format_uuid
from ...jobs.outcome import Status

PAGE = 500
"""Jobs that are asked about in one round trip."""
POLL_S = 0.5
PATIENCE_S = 10.0
"""When none of the jobs in front has settled for so long, they are asked about rarely."""
LATER_POLL_S = 2.0
LATER_PAGES = 10
"""So many pages of those are asked about at a time, when there are no others."""
SILENCE_S = 60.0
"""How long Redis may be away before waiting ends with an error."""

_BYTES = 16
_PAGE_BYTES = PAGE * _BYTES

Ask = Callable[[Sequence[str]], list[Status | None]]


class JobTracker:
    """Jobs, by their ids, and how many of them have which outcome.

    Jobs settle about in the order in which they were enqueued, so the first ones are asked about,
    then the next. A job that takes longer, because its customer does not exist yet, goes to a
    second list, which is asked about rarely.
    """

    def __init__(self) -> None:
        self.settled: Counter[str] = Counter()
        """Status → jobs; "unknown" for those of which Redis knows nothing."""
        self._front = bytearray()
        self._next = bytearray()
        self._later = bytearray()

    def __len__(self) -> int:
        """How many are not settled, as far as is known."""
        return (len(self._front) + len(self._next) + len(self._later)) // _BYTES

    def add(self, job_ids: Iterable[str | None]) -> None:
        """Track these jobs, too; None stands for an item that was rejected."""
        for job_id in job_ids:
            if job_id is not None:
                self._next += bytes.fromhex(job_id.replace("-", ""))

    def wait(self, ask: Ask, advance: Callable[[int], None]) -> None:
        """Ask until all are settled.

        Args:
            ask: returns the statuses of jobs, in their order.
            advance: is called with how many are settled by now.

        Raises:
            NotReachable: Redis did not answer for a minute.
        """
        moved = looked_later = heard = time.monotonic()
        while len(self):
            now, pause_s = time.monotonic(), POLL_S
            try:
                if not self._front:
                    self._front, moved = self._next[:_PAGE_BYTES], now
                    del self._next[:_PAGE_BYTES]
                if self._front:
                    left = self._look(ask, self._front)
                    if len(left) < len(self._front):
                        moved = now
                    self._front = left
                    # A few that are left do not hold up those behind them, nor do many for long.
                    few = len(left) <= _PAGE_BYTES // 10
                    if (few and self._next) or now - moved > PATIENCE_S:
                        self._later += left
                        self._front, pause_s = bytearray(), 0.0
                if now - looked_later >= LATER_POLL_S:
                    looked_later = now
                    pages = -(-len(self._later) // _PAGE_BYTES)
                    for _ in range(min(pages, 1 if self._front else LATER_PAGES)):
                        page = self._later[:_PAGE_BYTES]
                        left = self._look(ask, page)
                        del self._later[: len(page)]
                        self._later += left  # at the end: the next time, others are asked about
                heard = now
            except NotReachable:
                if now - heard > SILENCE_S:
                    raise
            advance(self.settled.total())
            if len(self):
                time.sleep(pause_s if self._front or self._next else LATER_POLL_S)

    def _look(self, ask: Ask, page: bytearray) -> bytearray:
        """Ask about jobs, and count those that are settled. Returns the others."""
        each = [page[at : at + _BYTES] for at in range(0, len(page), _BYTES)]
        statuses = ask([format_uuid(job.hex()) for job in each])
        left = bytearray()
        for job, status in zip(each, statuses, strict=True):
            if status == "pending":
                left += job
            else:
                self.settled[status or "unknown"] += 1
        return left
