"""Delivering: reserve a time, claim the next due email, POST, judge the answer, settle.

A *stint* does this again and again for some seconds. While it waits for its time it holds nothing:
no email, no lease, no place in flight. So what leaves is the newest there is, and a live job
overtakes bulk to the last moment.

What happens when a worker dies:

- while it waits for its time: the time is lost, nothing else;
- between the claim and the answer's settling: the lease ends, later than the request could still
  act, and the email is due again with its newest values;
- while it settles: that is one step in Redis, which happens whole or not at all.

A process that stands still between the last look at its clock and the write of the request, for
longer than a lease, is the one way left to two requests for one email at once: the operating system
writes to the socket right after that look (`chartmogul`), and nothing can take the bytes back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable

from ..config.logs import log_event
from ..config.secret import Secret
from ..state.claims import AccountNews, Claim, Idle, Next, Settlement, Wait
from ..state.mailboxes import Mailboxes
from ..state.outcomes import Outcomes
from .acceptance import Acceptance
from .chartmogul import Answer, ChartMogul, NoAnswer, NotSent
from .masking import masked
from .notifier import Notifier
from .policy import Policy
from .request_trace import RequestTrace
from .settlement import settle
from .stint import Stint
from .verdicts import Kind, Verdict, is_pong, judge, judge_route

log = logging.getLogger(__name__)

STINT_S = 10
"""A stint asks for no further delivery after so long, so that other accounts get their turn."""
PONG_HOLDS_S = 60
"""So long after a ping was answered, the route counts as right: each ping is a request, too."""
MANY_SUPERSEDED = 100
"""Of more superseded jobs at once, the rest is not shown in Flower."""
MANY_NOT_SENT = 5
"""So many claims that one stint gives back are worth a warning."""
LEAVE_WITHIN_S = 0.1
"""A request leaves so soon after its claim, or not at all: later, its time belongs to others."""


class Deliveries:
    """Delivers for one account. May be used by several threads, each in a stint of its own.

    Args:
        mailboxes: the account's.
        email_hash: what stands for an email in the log.
        api_key: is taken out of ChartMogul's words, should it repeat it.
        probe_delays_s: seconds before each ping of an account that an answer pauses.
        stint_s: seconds after which a stint asks for no further delivery, in place of `STINT_S`.
    """

    def __init__(
        self,
        account: str,
        *,
        mailboxes: Mailboxes,
        outcomes: Outcomes,
        acceptance: Acceptance,
        chartmogul: ChartMogul,
        notifier: Notifier,
        policy: Policy,
        email_hash: Callable[[str], str],
        trace: RequestTrace,
        api_key: Secret,
        probe_delays_s: tuple[float, ...],
        stint_s: float | None = None,
    ) -> None:
        self._account = account
        self._mailboxes = mailboxes
        self._outcomes = outcomes
        self._acceptance = acceptance
        self._chartmogul = chartmogul
        self._notifier = notifier
        self._policy = policy
        self._email_hash = email_hash
        self._trace = trace
        self._api_key = api_key
        self._probe_delays_s = probe_delays_s
        self._stint_s = stint_s
        self._pong: tuple[Answer | NoAnswer, float] | None = None
        """The last ping that was answered, and when, by the monotonic clock."""

    def run(self, stopping: threading.Event) -> Stint:
        """Deliver until there is nothing to do, the stint's time is over, or the worker stops.

        Raises:
            redis.RedisError: Redis fails. A lease that is left ends by itself.
        """
        stint = Stint()
        if stopping.is_set():
            return stint
        ends_s = time.monotonic() + (STINT_S if self._stint_s is None else self._stint_s)
        self._chartmogul.connect()
        step: Next | None = self._mailboxes.claim(stint.id)
        while step is not None:
            match step:
                case Idle():
                    self._note(step)
                    stint.why = step.why
                    return stint
                case Wait():
                    self._note(step)
                    if not self._wait(step.wait_s, stopping):
                        return stint
                    step = self._mailboxes.claim(stint.id, reserved=step.reserved)
                case Claim():  # its request leaves before anything else is done
                    step = self._deliver(step, stint, ends_s, stopping)
        if not stopping.is_set():
            self._notifier.deliver(self._account)  # another stint goes on
        return stint

    def _wait(self, wait_s: float, stopping: threading.Event) -> bool:
        """Wait for the reserved time, with an open connection. False when the worker stops."""
        ends_s = time.monotonic() + wait_s
        self._chartmogul.connect()
        if stopping.is_set():
            return False
        time.sleep(max(0.0, ends_s - time.monotonic()))
        return not stopping.is_set()

    def _deliver(
        self, claim: Claim, stint: Stint, ends_s: float, stopping: threading.Event
    ) -> Next | None:
        """One request with what waits for one email. Returns the stint's next delivery."""
        if claim.ask:
            self._notifier.deliver(self._account)
        answer = self._chartmogul.add_attributes(
            claim.email,
            [value.attribute.as_dict() for value in claim.values],
            leave_by_s=claim.answered_s + LEAVE_WITHIN_S,
            ends_by_s=claim.claimed_s + self._policy.timeout_s,
        )
        go_on = time.monotonic() < ends_s and not stopping.is_set()
        if isinstance(answer, NotSent):
            self._mailboxes.give_back(claim)
            self._note(claim)
            stint.not_sent += 1
            if stint.not_sent == MANY_NOT_SENT:
                log.warning(
                    "account %s: requests are ready too late and given back: "
                    "is this machine, or the connection to ChartMogul, very slow?",
                    self._account,
                )
            self._chartmogul.connect()
            return self._mailboxes.claim(stint.id) if go_on else None
        trace_id = self._trace.note(claim, answer)
        accepts = go_on and claim.inbox  # with no other claim in hand
        verdict = self._judge(answer)
        reason = self._masked(verdict, claim)
        settlement = settle(verdict, claim, self._policy, reason=reason)
        self._log(claim, answer, verdict, settlement, trace_id)
        settled = self._mailboxes.settle(
            claim,
            settlement,
            AccountNews(
                kind=verdict.kind,
                attempt_class=verdict.attempt_class,
                took_s=answer.elapsed_s,
                reason=reason,
                code=str(verdict.http_status or verdict.no_answer),
                retry_after_s=verdict.retry_after_s,
                probe_delays_s=self._probe_delays_s,
            ),
            stint=stint.id if go_on and not accepts else None,
        )
        if settled.paused:
            log.error("account %s: paused: %s", self._account, reason)
        if not settled.held:
            log.warning(
                "account %s: email %s: the lease ended before its answer came",
                self._account,
                self._email_hash(claim.email),
            )
        else:
            self._count(stint, verdict, settlement)
        for outcome in settled.outcomes:
            self._notifier.report(outcome)
        self._note(claim)
        if accepts:
            self._acceptance.accept()
            return self._mailboxes.claim(stint.id)
        return settled.next

    def _judge(self, answer: Answer | NoAnswer) -> Verdict:
        verdict = judge(answer)
        return judge_route(verdict, self._ping()) if verdict.route_in_doubt else verdict

    def _ping(self) -> Answer | NoAnswer:
        if self._pong is not None and time.monotonic() < self._pong[1] + PONG_HOLDS_S:
            return self._pong[0]
        answer = self._chartmogul.ping()
        if is_pong(answer):
            self._pong = (answer, time.monotonic())
        return answer

    def _masked(self, verdict: Verdict, claim: Claim) -> str:
        """The answer's words in one line, without the email, the values and the key.

        Where nothing came back the words are ours, and hold none of these: a value such as 1 would
        only be taken out of the server's address.
        """
        ours = bool(verdict.no_answer)
        return masked(
            verdict.message or "",
            email="" if ours else claim.email,
            values=() if ours else [value.attribute.value for value in claim.values],
            api_key=self._api_key,
        )

    def _note(self, step: Next) -> None:
        """Report what was found on the way to the next delivery."""
        if step.damaged:
            log.error(
                "account %s: %d entries of mailboxes were damaged and are removed",
                self._account,
                step.damaged,
            )
        for outcome in self._outcomes.many(step.superseded[:MANY_SUPERSEDED]):
            if outcome is not None:
                self._notifier.report(outcome)

    def _count(self, stint: Stint, verdict: Verdict, settlement: Settlement) -> None:
        stint.deliveries += 1
        stint.statuses.update(job.status for job in settlement.jobs if job.status != "pending")
        if verdict.kind in (Kind.ACCOUNT, Kind.PACE, Kind.SERVER):
            stint.failed[f"HTTP {verdict.http_status}" if verdict.http_status else "no answer"] += 1

    def _log(
        self,
        claim: Claim,
        answer: Answer | NoAnswer,
        verdict: Verdict,
        settlement: Settlement,
        trace_id: str | None,
    ) -> None:
        """One line for each attempt, also where Redis then fails to take what came of it."""
        jobs = defaultdict(list)
        for job in settlement.jobs:
            jobs[job.status].append(job.job_id)
        good = jobs.keys() <= {"pending", "delivered"} and not verdict.strange
        log_event(
            log,
            logging.INFO if good else logging.WARNING,
            "attempt",
            {
                "account": self._account,
                "lane": "live" if any(job.lane == "live" for job in claim.jobs) else "bulk",
                "email": self._email_hash(claim.email),
                "http_status": answer.status if isinstance(answer, Answer) else None,
                "no_answer": answer.reason if isinstance(answer, NoAnswer) else None,
                "latency_s": round(answer.elapsed_s, 3),
                "verdict": verdict.kind.value,
                "trace_id": trace_id,
                "again_in_s": round(settlement.retry_s, 1) if "pending" in jobs else None,
                "jobs": jobs,
            },
        )
