"""What the worker does with a job: accept it, release its email's mailbox, deliver, settle."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from ..config.settings import Settings
from ..jobs.errors import InvalidJob, UnknownWireVersion
from ..jobs.job import mailbox_id_of, redacted_email
from ..jobs.outcome import Outcome, Outcomes, customers_phrase
from ..jobs.schema import email_of_wire, load_wire
from .chartmogul import ChartMogul
from .mailboxes import Claim, Lease, Mailboxes, Settlement
from .settlement import Policy, settle, shown
from .verdicts import Verdict, judge
from .weather import Weather

log = logging.getLogger(__name__)

ANNOUNCE_AFTER_S = 5
"""A job that is in the inbox for so long is announced again: its message may be lost."""
ANNOUNCE_AT_ONCE = 500
LEASE_MARGIN_S = 5
"""What a lease lasts longer than a request, and a lost one after it: time to get the claim."""
TICK_S = 1
"""The longest pause between two looks at what is due."""


class Post(Protocol):
    """How a courier tells workers, and whoever watches, what is to be done and what was done."""

    def accept(self, account: str, job_ids: Sequence[str]) -> None:
        """Ask a worker to accept these jobs."""

    def deliver(self, account: str, lease: Lease) -> None:
        """Ask a worker to use this lease."""

    def report(self, outcome: Outcome) -> None:
        """Tell Flower how a job stands."""


class Courier:
    """The work for one account."""

    def __init__(
        self,
        account: str,
        settings: Settings,
        *,
        mailboxes: Mailboxes,
        outcomes: Outcomes,
        weather: Weather,
        chartmogul: ChartMogul,
        post: Post,
    ) -> None:
        self._account = account
        self._mailboxes = mailboxes
        mailboxes.ended = self._report
        self._outcomes = outcomes
        self._weather = weather
        self._chartmogul = chartmogul
        self._post = post
        self._policy = Policy.of(settings)
        self._rate = settings.rate_limit
        self._max_parallel = settings.max_parallel

    def accept(self, job_ids: Sequence[str]) -> int:
        """Take jobs from the inbox into their mailboxes. Returns how many were there.

        One that does not load spoils nothing: it is recorded as `invalid` and does not come back.
        """
        documents = self._mailboxes.documents(job_ids)
        accepted = 0
        for job_id, document in zip(job_ids, documents, strict=True):
            if document is not None:
                self._accept(job_id, document)
                accepted += 1
        if accepted:
            self.release()
        return accepted

    def _accept(self, job_id: str, document: str) -> None:
        try:
            job = load_wire(job_id, document)
        except UnknownWireVersion:
            # Left in the inbox, for a worker that can read it.
            log.warning("job %s: written in a newer wire format; left for a newer worker", job_id)
            return
        except InvalidJob as error:
            self._reject(job_id, document, str(error))
            return
        staged = self._mailboxes.stage(job)
        if staged == "future":
            self._reject(
                job_id, document, "occurred_at: lies more than 5 minutes ahead of Redis's clock"
            )

    def _reject(self, job_id: str, document: str, reasons: str) -> None:
        email = email_of_wire(document)
        mailbox_id = mailbox_id_of(email) if email else ""
        if self._mailboxes.reject(job_id, reasons, mailbox_id=mailbox_id, email=email or ""):
            log.warning("job %.64r: invalid: %s", job_id, reasons)
            self._report([job_id])

    def release(self) -> float | None:
        """Lease what is due, as far as the account's limit allows, and hand it to workers.

        Returns seconds until there may be more to release; None when nothing waits.
        """
        leases, again_s = self._mailboxes.release(max_parallel=self._max_parallel)
        for lease in leases:
            self._post.deliver(self._account, lease)
        return again_s

    def deliver(self, mailbox_id: str, token: str) -> str:
        """Use a lease: one request with all that waits for one email. Returns what came of it."""
        wait_s = self._mailboxes.acquire(mailbox_id, token, rate=self._rate)
        if wait_s is None:
            return "no lease"  # a repeated message, one that came too late, or a paused account
        time.sleep(wait_s)
        # After the wait, so that what is sent is the newest there is.
        claim = self._claim(mailbox_id, token)
        if claim is None:
            return "nothing to send"
        custom = [value.attribute.as_dict() for value in claim.values]
        verdict = judge(self._chartmogul.add_attributes(claim.email, custom))
        reason = shown(verdict, claim)
        if self._weather.observe(verdict, claimed_us=claim.now_us, reason=reason):
            log.error("account %s: paused: %s", self._account, reason)
        settlement = settle(verdict, claim, self._policy)
        if not self._mailboxes.settle(claim, settlement):
            log.warning("mailbox %s: the lease ended before its answer came", mailbox_id)
            return "the lease ended"
        self.release()
        self._log(claim, verdict, settlement)
        self._report([job.job_id for job in settlement.jobs])
        return _summary(verdict, settlement)

    def _claim(self, mailbox_id: str, token: str) -> Claim | None:
        while True:
            asked_s = time.monotonic()
            claim = self._mailboxes.claim(mailbox_id, token, rate=self._rate)
            if not isinstance(claim, float):
                break
            time.sleep(claim)
        if claim is not None and time.monotonic() - asked_s > LEASE_MARGIN_S:
            # Redis was slow to answer: the lease could end under the request.
            log.warning("mailbox %s: the claim came too late; nothing was sent", mailbox_id)
            return None
        return claim

    def tick(self) -> float:
        """What must not wait for a message: late jobs, due retries, leases of the dead.

        Returns seconds until the next tick.
        """
        forgotten = self._mailboxes.announce(older_than_s=ANNOUNCE_AFTER_S, limit=ANNOUNCE_AT_ONCE)
        if forgotten:
            self._post.accept(self._account, forgotten)
        if self._weather.probe_is_due():
            self._probe()
        again_s = self.release()
        return TICK_S if again_s is None else min(TICK_S, max(again_s, 0.01))

    def _probe(self) -> None:
        """Ask whether the account works again, and go on if it does."""
        verdict = judge(self._chartmogul.ping())
        if verdict.http_status == 200 and self._weather.resume_after_probe():
            log.warning("account %s: ChartMogul answers again; going on", self._account)

    def _report(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            outcome = self._outcomes.get(job_id)
            if outcome is not None:
                self._post.report(outcome)

    def _log(self, claim: Claim, verdict: Verdict, settlement: Settlement) -> None:
        for job in settlement.jobs:
            good = job.status in ("pending", "delivered") and not verdict.strange
            level = logging.INFO if good else logging.WARNING
            log.log(
                level,
                "job %s: %s: %s · HTTP %s%s",
                job.job_id,
                redacted_email(claim.email),
                job.status,
                verdict.http_status or "none",
                f" · again in {settlement.retry_s:.1f} s" if job.status == "pending" else "",
            )


def _summary(verdict: Verdict, settlement: Settlement) -> str:
    """Such as `delivered · 1 customer`: the statuses that the delivery led to."""
    statuses = ", ".join(dict.fromkeys(job.status for job in settlement.jobs))
    return f"{statuses} · {customers_phrase(len(verdict.entries))}"
