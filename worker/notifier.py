"""Celery as the way to other workers and to Flower: messages and events, with no email or value."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kombu.exceptions import OperationalError

from ..config.messages import ACCEPT_SHOWN, ACCEPT_TASK, DELIVER_TASK, JOB_TASK
from ..config.redis_errors import RedisError
from ..jobs.emails import describe
from ..jobs.job import AttributeJob
from ..jobs.outcome import Outcome
from .own_threads import OwnThreads

log = logging.getLogger(__name__)

DELIVER_SHOWN = "what is due"

Send = Callable[[str, str, str], object]
"""Sends a message: the task's name, the account, and what Flower shows in its place."""

LONGEST_PAUSE_S = 32.0
"""Where nobody answers, a tick asks for work at least so often."""
EVENTS_KEPT = 10_000
"""Events for Flower that wait to be sent, at most: while the broker is away, the oldest go."""


class Asking:
    """How often a tick asks for work that is due, where messages may have to wait for long.

    While an application's own tasks hold a whole worker, nobody answers. Each message would wait
    in the queue, one a second; so the pause before the next one doubles.
    """

    def __init__(self) -> None:
        self.answered()

    def answered(self) -> None:
        """Work is being done, or none is due."""
        self._pause_s = 1.0
        self._again_s = 0.0

    def may_ask(self) -> bool:
        """Whether to ask now. If so, it counts as asked."""
        now_s = time.monotonic()
        if now_s < self._again_s:
            return False
        self._again_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True


def is_shown(outcome: Outcome) -> bool:
    """Whether Flower shows it: of bulk jobs, only what ended badly.

    Else an import would push all other tasks out of Flower, which keeps so many of them.
    """
    well = outcome.successful or outcome.status in ("pending", "canceled")
    return outcome.lane != "bulk" or not well


class Notifier:
    """Asks workers for more work, and shows Flower how jobs stand.

    Args:
        send: sends a message. What it raises for a broker that does not answer does no harm.
        email_hash: what stands for an email in the log; Flower shows it, too.
    """

    def __init__(self, send: Send, email_hash: Callable[[str], str]) -> None:
        self._send_message = send
        self._email_hash = email_hash
        self.hostname: str | None = None
        """The worker's name."""
        self.own_threads: OwnThreads | None = None
        """Where work is done that the broker does not bring, if it is another one than Redis."""
        self.broker_is_away: Callable[[], bool] = lambda: False
        self._events: deque[tuple[str, dict[str, Any]]] | None = None

    def keep_events(self, kept: bool) -> None:
        """From now on keep what is shown for `send_events`, or show nothing."""
        self._events = deque(maxlen=EVENTS_KEPT) if kept else None

    def send_events(self, dispatcher: Any) -> None:
        """Send Flower what was shown since the last time.

        One thread does it, the one that flushes this dispatcher: so no delivery waits for the
        broker; and Celery's dispatcher (before 5.7) loses what another thread sends while it
        flushes.

        Args:
            dispatcher: Celery's, for the worker's events.
        """
        while self._events:
            kind, fields = self._events.popleft()
            dispatcher.send(kind, **fields)

    def accept(self, account: str) -> None:
        """Ask a worker to accept what is in the inbox."""
        self._send(ACCEPT_TASK, account, ACCEPT_SHOWN)

    def deliver(self, account: str) -> None:
        """Ask a worker for a stint of deliveries."""
        self._send(DELIVER_TASK, account, DELIVER_SHOWN)

    def _send(self, task: str, account: str, shown: str) -> None:
        if self.own_threads is not None and self.broker_is_away():
            self.own_threads.run(task, account)
            return
        try:
            self._send_message(task, account, shown)
        except Exception as error:
            # Nothing is lost: each worker looks once a second for what is to be done. What is wrong
            # with Redis is said once (trouble.py), not by each thread that meets it.
            if self.own_threads is None and not isinstance(error, (OperationalError, RedisError)):
                raise
            log.debug("could not send %s: the broker does not answer", task)
            if self.own_threads is not None:
                self.own_threads.run(task, account)

    def received(self, job: AttributeJob) -> None:
        """Show a job that waits for its delivery."""
        self._event(
            "received", job.job_id, args=self._describe(job.email, len(job.attributes)), kwargs=""
        )

    def report(self, outcome: Outcome) -> None:
        """Show how a job stands. Nothing else may have been shown of it before."""
        if not is_shown(outcome):
            return
        shown: dict[str, Any] = {"retries": max(0, outcome.attempts - 1)}
        if outcome.email:
            shown["args"] = self._describe(outcome.email, len(outcome.keys))
        if outcome.accepted_at and outcome.settled_at:
            shown["runtime"] = (outcome.settled_at - outcome.accepted_at).total_seconds()
        if outcome.successful:
            self._event("succeeded", outcome.job_id, result=outcome.summary(), **shown)
        elif outcome.status == "canceled":
            self._event("revoked", outcome.job_id, exception=outcome.summary(), **shown)
        elif outcome.settled:
            self._event("failed", outcome.job_id, exception=outcome.summary(), **shown)
        else:
            again = outcome.next_attempt_at
            when = f" · again at {again:%Y-%m-%d %H:%M:%S} UTC" if again else ""
            self._event("retried", outcome.job_id, exception=outcome.summary() + when, **shown)

    def _describe(self, email: str, attributes: int) -> str:
        return describe(email, attributes, self._email_hash(email))

    def _event(self, kind: str, job_id: str, **shown: Any) -> None:
        """Flower shows a job as a task with its id."""
        if self._events is not None:
            fields = {"uuid": job_id, "name": JOB_TASK, "timestamp": time.time(), **shown}
            self._events.append((f"task-{kind}", fields))
