"""What a verdict means for each job of a delivery, and for the mailbox: a pure function."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..config.settings import Confirm, Settings
from ..jobs.errors import InvalidJob
from ..jobs.job import AttributeJob
from ..jobs.outcome import REPLAYABLE, Status
from ..jobs.schema import dump_wire
from ..state.mailboxes import Claim, JobResult, PendingJob, Settlement, Value
from .confirm import shows
from .verdicts import Kind, Verdict

BACKOFF_BASE_S = 1
BACKOFF_CAP_S = 600
LONGEST_BREAK_S = 3 * BACKOFF_CAP_S
"""Failures further apart than this start a new run: the worker was paused or stopped in between."""
SPLIT_AFTER = 2
"""Failures of the server in a row after which a request for several jobs is halved: one may be the culprit."""
MANY_JOBS = 256
"""A batch that has grown to this is no limit any more."""
MAX_SHOWN = 300
"""Characters of a message, or of a customer's id, that an outcome keeps."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How patient to be. DESIGN, "What an answer leads to", has the reasons."""

    confirm: Confirm
    unmatched_delays_s: tuple[float, ...]
    unconfirmed_delays_s: tuple[float, ...]
    give_up_after_s: float
    timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        return cls(
            confirm=settings.confirm,
            unmatched_delays_s=settings.unmatched_delays_s,
            unconfirmed_delays_s=settings.unconfirmed_delays_s,
            give_up_after_s=settings.give_up_after_s,
            timeout_s=settings.timeout_s,
        )


def settle(
    verdict: Verdict,
    claim: Claim,
    policy: Policy,
    jitter: Callable[[float, float], float] = random.uniform,
) -> Settlement:
    """What to do, given the verdict on the request that was made for a claim."""
    match verdict.kind:
        case Kind.TAKEN:
            return _taken(verdict, claim, policy)
        case Kind.UNMATCHED:
            return _wait_for_customer(verdict, claim, policy)
        case Kind.CONTENT:
            return _refused(verdict, claim)
        case Kind.SERVER:
            return _again(verdict, claim, policy, jitter)
        case Kind.ACCOUNT | Kind.PACE:
            return _unharmed(verdict, claim)


def _taken(verdict: Verdict, claim: Claim, policy: Policy) -> Settlement:
    results, delays = [], []
    seen: set[str] = set()
    for job in claim.jobs:
        mine = [value for value in claim.values if value.job_id == job.job_id]
        fields = _attempt(verdict, claim, job)
        if _confirmed(mine, verdict.entries, policy.confirm):
            results.append(_result(claim, job, "delivered", fields))
            seen.update(value.attribute.key for value in mine)
            continue
        fields["message"] = "ChartMogul answered without showing the values"
        tries, wait_s = _wait(
            job.unconfirmed, job.unconfirmed_until_us, claim.now_us, policy.unconfirmed_delays_s
        )
        results.append(_waiting(claim, job, "unconfirmed", fields, tries, wait_s))
        delays += [wait_s] if wait_s is not None else []
    return Settlement(
        jobs=tuple(results),
        taken=_keys(claim),
        seen=frozenset(seen),
        retry_s=min(delays, default=0),
        batch=_grown(claim.batch),
    )


def _grown(batch: int) -> int:
    """After a request that went well, the next one may carry twice as many jobs."""
    return 0 if 2 * batch >= MANY_JOBS else 2 * batch


def _confirmed(values: Sequence[Value], entries: Sequence[Any], confirm: Confirm) -> bool:
    match confirm:
        case "status":
            return True
        case "match":
            return bool(entries)
        case "echo":
            return all(any(shows(entry, value.attribute) for entry in entries) for value in values)


def _wait_for_customer(verdict: Verdict, claim: Claim, policy: Policy) -> Settlement:
    # Customers reach ChartMogul late (reference: "The vendor imports customers through queues").
    results, delays = [], []
    for job in claim.jobs:
        fields = _attempt(verdict, claim, job)
        tries, wait_s = _wait(
            job.unmatched, job.unmatched_until_us, claim.now_us, policy.unmatched_delays_s
        )
        results.append(_waiting(claim, job, "unmatched", fields, tries, wait_s))
        delays += [wait_s] if wait_s is not None else []
    return Settlement(
        jobs=tuple(results),
        retry_s=min(delays, default=0),
        batch=_grown(claim.batch),
        waits=bool(delays),
    )


def _wait(
    tries: int, until_us: int, now_us: int, delays_s: Sequence[float]
) -> tuple[int, float | None]:
    """How many tries count by now, and seconds to wait for the next; None when that was the last.

    A newer job makes its email due at once. For a job that waits, a try before its time counts
    for nothing: else a few jobs at sign-up would use up the days that a customer has to arrive.
    """
    if now_us < until_us:
        return tries, (until_us - now_us) / 1e6
    return tries + 1, delays_s[tries] if tries < len(delays_s) else None


def _waiting(
    claim: Claim,
    job: PendingJob,
    status: Literal["unconfirmed", "unmatched"],
    fields: dict[str, str | int],
    tries: int,
    wait_s: float | None,
) -> JobResult:
    """The job waits, or ends so; its tries are counted in the field of that name."""
    fields = fields | {status: tries}
    if wait_s is None:
        return _result(claim, job, status, fields)
    until_us = claim.now_us + round(wait_s * 1e6)
    return _result(claim, job, "pending", fields | {f"{status}_until": until_us})


def _refused(verdict: Verdict, claim: Claim) -> Settlement:
    """ChartMogul refuses the content: of several jobs, half are tried next, until one is alone."""
    several = len(claim.jobs) > 1
    status: Status = "pending" if several else "refused"
    return Settlement(
        jobs=tuple(
            _result(claim, job, status, _attempt(verdict, claim, job)) for job in claim.jobs
        ),
        batch=_half(claim) if several else 0,
    )


def _half(claim: Claim) -> int:
    return (len(claim.jobs) + 1) // 2


def _again(
    verdict: Verdict, claim: Claim, policy: Policy, jitter: Callable[[float, float], float]
) -> Settlement:
    delay_s = jitter(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(claim.failures, 30)))
    if verdict.may_still_act:
        # The lost request must not take effect after the next one.
        delay_s = max(delay_s, 2 * policy.timeout_s)
    if verdict.retry_after_s is not None:
        delay_s = max(delay_s, verdict.retry_after_s)
    results = []
    several = len(claim.jobs) > 1
    # A culprit that was found lets the other jobs of its email go first, and without it.
    failed_alone = not several and (claim.batch > 0 or claim.jobs[0].failed_alone)
    for job in claim.jobs:
        since_us = job.failing_since_us or claim.now_us
        if job.sent_us and claim.now_us - job.sent_us > LONGEST_BREAK_S * 1_000_000:
            since_us = claim.now_us  # paused or stopped meanwhile: that is no failing
        fields = _attempt(verdict, claim, job) | {"failing_since": since_us}
        given_up = (claim.now_us - since_us) / 1e6 >= policy.give_up_after_s
        status: Status = "failed" if given_up else "pending"
        results.append(_result(claim, job, status, fields, failed_alone=failed_alone))
    return Settlement(
        jobs=tuple(results),
        taken=_keys(claim) if verdict.may_still_act else frozenset(),
        retry_s=delay_s,
        rest_s=delay_s,
        failures=claim.failures + 1,
        batch=_half(claim) if several and claim.failures + 1 >= SPLIT_AFTER else claim.batch,
    )


def _keys(claim: Claim) -> frozenset[str]:
    return frozenset(value.attribute.key for value in claim.values)


def _unharmed(verdict: Verdict, claim: Claim) -> Settlement:
    # The account as a whole is held or paused, so the job is due as before.
    return Settlement(
        jobs=tuple(
            _result(
                claim, job, "pending", _note(verdict, claim), failed_alone=job.failed_alone
            )
            for job in claim.jobs
        ),
        failures=claim.failures,
        batch=claim.batch,
    )


def _result(
    claim: Claim,
    job: PendingJob,
    status: Status,
    fields: dict[str, str | int],
    *,
    failed_alone: bool = False,
) -> JobResult:
    if status in REPLAYABLE:
        fields = fields | _document(claim, job)
    return JobResult(job_id=job.job_id, status=status, fields=fields, failed_alone=failed_alone)


def _document(claim: Claim, job: PendingJob) -> dict[str, str | int]:
    """The job as it may be asked for again: what was not superseded of it."""
    mine = [value for value in claim.values if value.job_id == job.job_id]
    again = AttributeJob(
        job_id=job.job_id,
        email=claim.email,
        attributes=tuple(value.attribute for value in mine),
        occurred_at=mine[0].occurred_at,
        lane=job.lane,
    )
    try:
        return {"document": dump_wire(again)}
    except InvalidJob:
        # Another language's shorter spelling of it was just within the size limit; ours is not.
        return {}


def _attempt(verdict: Verdict, claim: Claim, job: PendingJob) -> dict[str, str | int]:
    return _note(verdict, claim) | {"attempts": job.attempts + 1, "sent": claim.now_us}


def _note(verdict: Verdict, claim: Claim) -> dict[str, str | int]:
    """What the outcome says of the answer; all fields each time, so that none is left over."""
    return {
        "http_status": verdict.http_status or "",
        "message": shown(verdict, claim),
        "customers": json.dumps([_identity(entry) for entry in verdict.entries]),
        "failing_since": "",
    }


def _identity(entry: Any) -> list[str | None]:
    fields = entry if isinstance(entry, dict) else {}
    return [
        str(fields[name])[:MAX_SHOWN].encode(errors="replace").decode()
        if fields.get(name) is not None
        else None
        for name in ("uuid", "external_id")
    ]


def shown(verdict: Verdict, claim: Claim) -> str:
    """ChartMogul's words in one line, without the email and the values: Flower shows outcomes."""
    message = verdict.message or ""
    if verdict.http_status is not None:  # else the words are our own
        content = {claim.email: re.escape(claim.email)}
        for value in claim.values:
            text = str(value.attribute.value)
            content.setdefault(text, _as_word(text))
        # The longest first, since one may be a part of another.
        pattern = "|".join(content[text] for text in sorted(content, key=len, reverse=True))
        message = re.sub(pattern, "***", message, flags=re.IGNORECASE)
    line = " ".join(message.split())
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


def _as_word(text: str) -> str:
    """A pattern for a text where it is not a part of a longer word: "on" is not in "reason"."""
    before = r"(?<!\w)" if re.match(r"\w", text) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", text) else ""
    return before + re.escape(text) + after
