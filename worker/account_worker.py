"""What the worker does with a job: accept it, release its email's mailbox, deliver, settle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from ..config.settings import Settings
from ..jobs.emails import mailbox_id_of, redacted_email
from ..jobs.errors import InvalidJob, UnknownWireVersion
from ..jobs.job import AttributeJob
from ..jobs.outcome import Outcome, customers_phrase
from ..jobs.schema import email_of_wire, load_wire
from ..state.account import AccountHealth
from ..state.mailboxes import LEAD_S, Claim, Early, Lease, Mailboxes, Settlement
from ..state.outcomes import Outcomes
from .chartmogul import ChartMogul
from .settlement import Policy, settle, shown
from .verdicts import Verdict, judge

log = logging.getLogger(__name__)

ACCEPTING_THREADS = 2
"""One works while the other waits for Redis."""
ACCEPT_AT_ONCE = 200
"""Jobs that are taken from the inbox in one round trip, and staged in another."""
ACCEPT_ROUNDS = 10
"""Round trips of one task: a worker that is to stop does not wait for an import to end."""
ACCEPT_WITHIN_S = 5
"""What is taken from the inbox and still there after so long is taken again: its worker died."""
MAX_REASONS = 10_000
"""Characters of what is wrong with a job that its outcome keeps; Flower shows them."""
LEASE_MARGIN_S = 5
"""What a lease lasts longer than a request, and a lost one after it: time to settle."""
DELIVER_FOR_S = 5
"""A delivery goes on with others for so long; a worker that is to stop waits for that."""
TICK_S = 1
"""The longest pause between two looks at what is due."""


class Post(Protocol):
    """How a courier tells workers, and whoever watches, what is to be done and what was done."""

    def accept(self, account: str) -> None:
        """Ask a worker to accept what is in the inbox."""

    def deliver(self, account: str, lease: Lease) -> None:
        """Ask a worker to use this lease."""

    def received(self, job: AttributeJob) -> None:
        """Tell Flower of a job that waits for its delivery."""

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
        weather: AccountHealth,
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
        self._accepting = threading.BoundedSemaphore(ACCEPTING_THREADS)
        self._called = threading.Event()
        self._max_parallel = settings.max_parallel

    def accept(self) -> int:
        """Take jobs from the inbox into their mailboxes, live ones first. Returns how many.

        Two threads of a process do so at a time, for all that call meanwhile: more would only get
        into the way of the deliveries. A job that does not load spoils nothing: it is recorded as
        `invalid` and does not come back.
        """
        self._called.set()
        accepted = 0
        while self._called.is_set() and self._accepting.acquire(blocking=False):
            try:
                self._called.clear()
                accepted += self._accept_rounds()
            finally:
                self._accepting.release()
        return accepted

    def _accept_rounds(self) -> int:
        accepted = 0
        for _ in range(ACCEPT_ROUNDS):
            taken = self._mailboxes.take(limit=ACCEPT_AT_ONCE, within_s=ACCEPT_WITHIN_S)
            if taken:
                self._accept(taken)
                self.release()
            accepted += len(taken)
            if len(taken) < ACCEPT_AT_ONCE:
                return accepted
        self._post.accept(self._account)
        return accepted

    def _accept(self, taken: Sequence[tuple[str, str]]) -> None:
        jobs: dict[str, AttributeJob] = {}
        for job_id, document in taken:
            try:
                jobs[job_id] = load_wire(job_id, document)
            except UnknownWireVersion:
                # Left in the inbox, for a worker that can read it.
                escaped = repr(job_id)[1:-1]  # an id from elsewhere may hold anything
                log.warning("job %.64s: in a newer wire format; left for a newer worker", escaped)
            except InvalidJob as error:
                self._reject(job_id, document, str(error))
        staged = self._mailboxes.stage(list(jobs.values()))
        documents = dict(taken)
        for job_id, (answer, mistyped) in zip(jobs, staged, strict=True):
            if answer == "future":
                reason = "occurred_at: lies more than 5 minutes ahead of Redis's clock"
                self._reject(job_id, documents[job_id], reason)
            elif answer == "mistyped":
                self._reject(job_id, documents[job_id], f"{mistyped} (COURIER_STRICT_TYPES)")
            elif answer == "staged" and jobs[job_id].lane == "live":
                self._post.received(jobs[job_id])

    def _reject(self, job_id: str, document: str, reasons: str) -> None:
        if len(reasons) > MAX_REASONS:
            reasons = reasons[: MAX_REASONS - 1] + "…"
        email = email_of_wire(document)
        mailbox_id = mailbox_id_of(email) if email else ""
        if self._mailboxes.reject(job_id, reasons, mailbox_id=mailbox_id, email=email or ""):
            log.warning("job %.64r: invalid: %.500s", job_id, reasons)
            self._report([job_id])

    def release(self) -> float | None:
        """Lease what is due, as far as the account's limit allows, and hand it to workers.

        Returns seconds until there may be more to release; None when nothing waits.
        """
        leases, again_s = self._mailboxes.release(max_parallel=self._max_parallel)
        self._hand_over(leases)
        return again_s

    def _hand_over(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            self._post.deliver(self._account, lease)

    def deliver(self, mailbox_id: str, token: str) -> str:
        """Use a lease, and for some time those that come free with its end.

        A message for each would cost more than the delivery. Returns what came of the last one.
        """
        until_s = time.monotonic() + DELIVER_FOR_S
        count = 0
        while True:
            count += 1
            said, leases = self._deliver(mailbox_id, token)
            if not leases or time.monotonic() > until_s:
                break
            own = leases.pop(0)
            mailbox_id, token = own.mailbox_id, own.token
            self._hand_over(leases)
            if own.wait_s > LEAD_S:
                time.sleep(own.wait_s - LEAD_S)
        self._hand_over(leases)
        return said if count == 1 else f"{count} deliveries; the last: {said}"

    def _deliver(self, mailbox_id: str, token: str) -> tuple[str, list[Lease]]:
        """One request with all that waits for one email: what came of it, and new leases."""
        claim = self._claim(mailbox_id, token)
        if claim is None:
            # A repeated message, one that came too late, a paused account, or nothing to send.
            return "nothing to deliver", []
        custom = [value.attribute.as_dict() for value in claim.values]
        answer = self._chartmogul.add_attributes(
            claim.email,
            custom,
            departing=self._weather.departing(claim.departure),
            # As its lease does: a worker that stood still since, or whose Redis did, sends nothing.
            since_s=claim.departure.asked_s,
        )
        verdict = judge(answer)
        reason = shown(verdict, claim)
        settlement = settle(verdict, claim, self._policy)
        paused, settled, leases = self._mailboxes.conclude(
            self._weather.observe_call(verdict, claimed_us=claim.now_us, reason=reason),
            claim,
            settlement,
            max_parallel=self._max_parallel,
        )
        if paused:
            log.error("account %s: paused: %s", self._account, reason)
        if settled is None:
            log.warning("mailbox %s: the lease ended before its answer came", mailbox_id)
            return "the lease ended", leases
        self._log(claim, verdict, settlement)
        # Flower is not told of bulk jobs.
        for job_id, fields in settled.items():
            self._post.report(self._outcomes.read(job_id, fields))
        return _summary(verdict, settlement), leases

    def _claim(self, mailbox_id: str, token: str) -> Claim | None:
        """What is to be sent, when it is time: so it is the newest there is."""
        while isinstance(claim := self._mailboxes.claim(mailbox_id, token), Early):
            time.sleep(claim.wait_s)
        return claim

    def tick(self) -> float:
        """What must not wait for a message: jobs, due retries, leases of the dead.

        Returns seconds until the next tick.
        """
        self.accept()
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
