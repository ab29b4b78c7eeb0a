"""What a verdict means for each job of a request, and for its email: a pure function."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from ..config.settings import Confirm
from ..jobs.errors import InvalidJob
from ..jobs.job import AttributeJob
from ..jobs.outcome import REPLAYABLE, SUCCESSES, Status
from ..jobs.schema import dump_wire
from ..jobs.text import counted
from ..state.claims import Claim, JobResult, PendingJob, Settlement, Value
from ..state.outcomes import customers_field
from .confirm import shows
from .policy import Policy
from .verdicts import Kind, Verdict

BACKOFF_BASE_S = 1
BACKOFF_CAP_S = 600
LONGEST_BREAK_S = 3 * BACKOFF_CAP_S
"""Failures further apart than this start a new run: the worker was paused or stopped in between."""
SPLIT_AFTER = 2
"""Failures of the server in a row after which a request for several jobs is halved: one of them may
be the culprit."""
MANY_JOBS = 256
"""A batch that has grown to this is no limit any more."""

Jitter = Callable[[float, float], float]
Fields = dict[str, str | int]


def settle(
    verdict: Verdict,
    claim: Claim,
    policy: Policy,
    *,
    reason: str,
    jitter: Jitter = random.uniform,
) -> Settlement:
    """What to do, given the verdict on the request that was made for a claim.

    Args:
        reason: the answer's words, without what is private.
        jitter: takes the least and the greatest pause in seconds, and chooses between them.
    """
    request = _Request(verdict, claim, reason)
    match verdict.kind:
        case Kind.TAKEN:
            return _taken(request, policy)
        case Kind.UNMATCHED:
            return _wait_for_customer(request, policy)
        case Kind.CONTENT:
            return _refused(request)
        case Kind.ACCOUNT | Kind.PACE:
            return _unharmed(request)
        case Kind.SERVER | Kind.ROUTE:
            return _try_again(request, policy, jitter)


class _Request:
    """What the rules below look at."""

    def __init__(self, verdict: Verdict, claim: Claim, reason: str) -> None:
        self.verdict = verdict
        self.claim = claim
        self.reason = reason
        self.values: Mapping[str, list[Value]] = defaultdict(list)
        for value in claim.values:
            self.values[value.job_id].append(value)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(value.attribute.key for value in self.claim.values)

    @property
    def several(self) -> bool:
        return len(self.claim.jobs) > 1

    @property
    def half(self) -> int:
        return (len(self.claim.jobs) + 1) // 2

    @property
    def grown_batch(self) -> int:
        """After a request that went well, the next one may carry twice as many jobs."""
        doubled = 2 * self.claim.batch
        return 0 if doubled >= MANY_JOBS else doubled

    def note(self) -> Fields:
        """What the outcome says of the answer; all fields each time, so that none is left over."""
        return {
            "http_status": self.verdict.http_status or "",
            "reason": self.verdict.reason,
            "message": self.reason,
            "customers": customers_field(self.verdict.entries),
            "failing_since": "",
        }

    def attempt(self, job: PendingJob) -> Fields:
        return self.note() | {"attempts": job.attempts + 1, "sent": self.claim.now_us}

    def result(
        self, job: PendingJob, status: Status, fields: Fields, *, failed_alone: bool = False
    ) -> JobResult:
        if status in SUCCESSES:
            fields = fields | {"reason": ""}
        if status in REPLAYABLE:
            fields = fields | self._document(job)
        return JobResult(job_id=job.job_id, status=status, fields=fields, failed_alone=failed_alone)

    def _document(self, job: PendingJob) -> Fields:
        """The job as it may be asked for again: what was not superseded of it."""
        mine = [*self.values[job.job_id]]
        mine += [value for value in self.claim.unsent if value.job_id == job.job_id]
        again = AttributeJob(
            job_id=job.job_id,
            email=self.claim.email,
            attributes=tuple(value.attribute for value in mine),
            occurred_at=mine[0].occurred_at,
            lane=job.lane,
        )
        try:
            return {"document": dump_wire(again)}
        except InvalidJob:
            # Another language's shorter spelling of it was just within the size limit; ours is not.
            return {}


def _taken(request: _Request, policy: Policy) -> Settlement:
    """2xx: a job is delivered when its values are shown, as far as the settings ask for it."""
    claim, verdict = request.claim, request.verdict
    results, delays = [], []
    seen: set[str] = set()
    for job in claim.jobs:
        mine = request.values[job.job_id]
        fields = request.attempt(job)
        if _confirmed(mine, verdict, policy.confirm):
            said = (_shown_by_some(mine, verdict), request.reason)
            fields["message"] = ": ".join(filter(None, said))
            results.append(request.result(job, "delivered", fields))
            seen.update(value.attribute.key for value in mine)
            continue
        fields["message"] = ": ".join(filter(None, (verdict.unproven, request.reason)))
        tries, wait_s = _wait(
            job.unconfirmed, job.unconfirmed_until_us, claim.now_us, policy.unconfirmed_delays_s
        )
        results.append(_waiting(request, job, "unconfirmed", fields, tries, wait_s))
        delays += [wait_s] if wait_s is not None else []
    return Settlement(
        jobs=tuple(results),
        taken=request.keys,
        seen=frozenset(seen),
        retry_s=min(delays, default=0),
        batch=request.grown_batch,
    )


def _confirmed(values: Sequence[Value], verdict: Verdict, confirm: Confirm) -> bool:
    match confirm:
        case "status":
            return True
        case "match":
            return bool(verdict.entries or verdict.shown)
        case "echo":
            return all(
                any(shows(custom, value.attribute) for custom in verdict.shown) for value in values
            )


def _shown_by_some(values: Sequence[Value], verdict: Verdict) -> str:
    """Says how many of the customers show the values, where not all do."""
    showing = sum(
        all(shows(custom, value.attribute) for value in values) for custom in verdict.shown
    )
    count = len(verdict.entries)
    return f"shown by {showing} of {counted(count, 'customer')}" if showing < count else ""


def _wait_for_customer(request: _Request, policy: Policy) -> Settlement:
    # Customers reach ChartMogul late (reference: "The vendor imports customers through queues").
    results, delays = [], []
    for job in request.claim.jobs:
        tries, wait_s = _wait(
            job.unmatched, job.unmatched_until_us, request.claim.now_us, policy.unmatched_delays_s
        )
        fields = request.attempt(job)
        results.append(_waiting(request, job, "unmatched", fields, tries, wait_s))
        delays += [wait_s] if wait_s is not None else []
    return Settlement(
        jobs=tuple(results),
        retry_s=min(delays, default=0),
        batch=request.grown_batch,
        waits=bool(delays),
    )


def _wait(
    tries: int, until_us: int, now_us: int, delays_s: Sequence[float]
) -> tuple[int, float | None]:
    """How many tries count by now, and seconds to wait for the next; None when that was the last.

    Another job of the email may have caused this request. For a job that waits, a try before its
    time counts for nothing: else a few jobs would use up the days that a customer has to arrive.
    """
    if now_us < until_us:
        return tries, min((until_us - now_us) / 1e6, max(delays_s, default=0))
    return tries + 1, delays_s[tries] if tries < len(delays_s) else None


def _waiting(
    request: _Request,
    job: PendingJob,
    status: Literal["unconfirmed", "unmatched"],
    fields: Fields,
    tries: int,
    wait_s: float | None,
) -> JobResult:
    """The job waits, or ends so; its tries are counted in the field of that name."""
    fields = fields | {status: tries}
    if wait_s is None:
        return request.result(job, status, fields)
    until_us = request.claim.now_us + round(wait_s * 1e6)
    return request.result(job, "pending", fields | {f"{status}_until": until_us})


def _refused(request: _Request) -> Settlement:
    """The content is refused: of several jobs, half are tried next, until the culprit is alone."""
    status: Status = "pending" if request.several else "refused"
    return Settlement(
        jobs=tuple(request.result(job, status, request.attempt(job)) for job in request.claim.jobs),
        batch=request.half if request.several else 0,
    )


def _try_again(request: _Request, policy: Policy, jitter: Jitter) -> Settlement:
    """The server failed: backoff with full jitter, which is the email's own."""
    claim, verdict = request.claim, request.verdict
    delay_s = jitter(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(claim.failures, 30)))
    if verdict.may_still_act:
        # The lost request must not take effect after the next one.
        delay_s = max(delay_s, 2 * policy.timeout_s)
    if verdict.retry_after_s is not None:
        delay_s = max(delay_s, verdict.retry_after_s)
    # A culprit that was found lets the other jobs of its email go first, and without it.
    failed_alone = not request.several and (claim.batch > 0 or claim.jobs[0].failed_alone)
    results = []
    for job in claim.jobs:
        since_us = job.failing_since_us or claim.now_us
        if job.sent_us and claim.now_us - job.sent_us > LONGEST_BREAK_S * 1_000_000:
            since_us = claim.now_us  # paused or stopped meanwhile: that is no failing
        fields = request.attempt(job) | {"failing_since": since_us}
        given_up = (claim.now_us - since_us) / 1e6 >= policy.give_up_after_s
        status: Status = "failed" if given_up else "pending"
        results.append(request.result(job, status, fields, failed_alone=failed_alone))
    split = request.several and claim.failures + 1 >= SPLIT_AFTER
    return Settlement(
        jobs=tuple(results),
        taken=request.keys if verdict.may_still_act else frozenset(),
        retry_s=delay_s,
        rest_s=delay_s,
        failures=claim.failures + 1,
        batch=request.half if split else claim.batch,
    )


def _unharmed(request: _Request) -> Settlement:
    """The account as a whole is held or paused: its jobs are due as before."""
    claim = request.claim
    return Settlement(
        jobs=tuple(
            request.result(job, "pending", request.note(), failed_alone=job.failed_alone)
            for job in claim.jobs
        ),
        failures=claim.failures,
        batch=claim.batch,
    )
