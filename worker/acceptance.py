"""Accepting jobs: from the inbox, through the schema, into the mailboxes of their emails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from ..jobs.errors import InvalidJob, UnknownWireVersion
from ..jobs.job import AttributeJob
from ..jobs.outcome import Reason
from ..jobs.schema import email_of_wire, load_wire
from ..state.inbox import Inbox, Taken
from ..state.mailboxes import Mailboxes
from ..state.outcomes import Outcomes
from .notifier import Notifier

log = logging.getLogger(__name__)

THREADS = 2
"""One works while the other waits for Redis; more would keep the CPU from the deliveries."""
AT_ONCE = 200
"""Jobs that are taken from the inbox in one round trip, and staged in another."""
ROUNDS = 10
"""Round trips of one call: a worker that is to stop does not wait for an import to end."""
TAKEN_FOR_S = 5
"""What was taken and is still in the inbox after so long is taken again: its worker died."""
MAX_REASONS = 10_000
"""Characters of what is wrong with a job that its outcome keeps; Flower shows them."""


class Acceptance:
    """Accepts the jobs of one account. May be used by several threads."""

    def __init__(
        self,
        account: str,
        *,
        inbox: Inbox,
        mailboxes: Mailboxes,
        outcomes: Outcomes,
        notifier: Notifier,
        bulk_share: float,
    ) -> None:
        self._account = account
        self._inbox = inbox
        self._mailboxes = mailboxes
        self._outcomes = outcomes
        self._notifier = notifier
        self._bulk_share = bulk_share
        self._accepting = threading.BoundedSemaphore(THREADS)
        self._called = threading.Event()

    def accept(self) -> int:
        """Take jobs from the inbox into their mailboxes, live ones first. Returns how many.

        Two threads of a process do so at a time, for all that call meanwhile. A job that does not
        load spoils nothing: it is recorded as `invalid`.

        Raises:
            redis.RedisError: Redis fails. What was taken is taken again after `TAKEN_FOR_S`.
        """
        self._called.set()
        accepted = 0
        while self._called.is_set() and self._accepting.acquire(blocking=False):
            try:
                self._called.clear()
                accepted += self._rounds()
            finally:
                self._accepting.release()
        return accepted

    def _rounds(self) -> int:
        accepted = 0
        for number in range(ROUNDS):
            taken = self._inbox.take(
                limit=AT_ONCE, within_s=TAKEN_FOR_S, bulk_share=self._bulk_share
            )
            self._accept(taken)
            accepted += len(taken)
            if len(taken) < AT_ONCE:
                return accepted
            if number == 0:
                self._notifier.deliver(self._account)  # this thread has more to accept
        self._notifier.accept(self._account)
        return accepted

    def _accept(self, taken: Sequence[Taken]) -> None:
        loaded: list[tuple[Taken, AttributeJob]] = []
        for each in taken:
            try:
                loaded.append((each, load_wire(each.job_id, each.wire)))
            except UnknownWireVersion:
                # It stays in the inbox, for a worker that can read it.
                log.warning(
                    "job %s: in a newer wire format; left for a newer worker",
                    _printable(each.job_id),
                )
            except InvalidJob as error:
                self._reject(each, str(error))
        settled: list[str] = []
        for (each, job), staged in zip(loaded, self._mailboxes.stage(loaded), strict=True):
            settled += staged.superseded
            match staged.result:
                case "future":
                    text = "occurred_at: lies more than 5 minutes ahead of all clocks"
                    self._reject(each, text, "future")
                case "mistyped":
                    self._reject(each, f"{staged.mistyped} (COURIER_STRICT_TYPES)", "type")
                case "error":
                    log.error("job %s: not accepted, tried again: %s", each.job_id, staged.mistyped)
                case "staged" if job.lane == "live":
                    self._notifier.received(job)
                case "superseded" | "unchanged" | "forgotten":
                    settled.append(job.job_id)
        self._report(settled)

    def _reject(self, taken: Taken, reasons: str, reason: Reason = "schema") -> None:
        if len(reasons) > MAX_REASONS:
            reasons = reasons[: MAX_REASONS - 1] + "…"
        email = email_of_wire(taken.wire)
        if self._inbox.reject(taken, reasons, reason=reason, email=email):
            log.warning("job %s: invalid: %.500s", _printable(taken.job_id), reasons)
            self._report([taken.job_id])

    def _report(self, job_ids: Sequence[str]) -> None:
        for outcome in self._outcomes.many(job_ids):
            if outcome is not None:
                self._notifier.report(outcome)


def _printable(job_id: str) -> str:
    """An id from elsewhere may hold anything."""
    return repr(job_id[:64])[1:-1]
