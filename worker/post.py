"""Celery as the courier's post: messages to workers, events to Flower. Both hold ids only."""

from __future__ import annotations

import logging
from typing import Any

from kombu.exceptions import OperationalError

from ..config.celery import ACCEPT_TASK, DELIVER_TASK, CourierCelery
from ..jobs.job import redacted_email
from ..jobs.outcome import Outcome
from .mailboxes import Lease

log = logging.getLogger(__name__)


class CeleryPost:
    """Sends through an application, and reports through the worker's event dispatcher."""

    def __init__(self, app: CourierCelery) -> None:
        self._app = app
        self.dispatcher: Any = None
        """The worker's event dispatcher, while it is connected."""

    def accept(self, account: str) -> None:
        self._send(ACCEPT_TASK, [account], "what is in the inbox")

    def deliver(self, account: str, lease: Lease) -> None:
        shown = _shown(lease.email, lease.attributes)
        self._send(DELIVER_TASK, [account, lease.mailbox_id, lease.token], shown)

    def _send(self, task: str, args: list[Any], shown: str) -> None:
        try:
            self._app.send_task(task, args, argsrepr=shown, kwargsrepr="", retry=False)
        except OperationalError:
            # Nothing is lost: the ticker looks into the inbox, and the lease will expire.
            log.warning("could not send %s: the broker does not answer", task)

    def report(self, outcome: Outcome) -> None:
        """Show how the job stands under the task that accepted it, whose id is the job's."""
        dispatcher = self.dispatcher
        if dispatcher is None or not dispatcher.enabled:
            return
        # Of a job that was accepted among others, Flower knows nothing but what is told here.
        task: dict[str, Any] = {
            "uuid": outcome.job_id,
            "name": ACCEPT_TASK,
            "retries": max(0, outcome.attempts - 1),
        }
        if outcome.email:
            task["args"] = _shown(outcome.email, len(outcome.keys))
        if outcome.successful:
            dispatcher.send("task-succeeded", result=outcome.summary(), **task)
        elif outcome.ended:
            dispatcher.send("task-failed", exception=outcome.summary(), **task)
        else:
            again = outcome.next_attempt_at
            when = f" · again at {again:%Y-%m-%d %H:%M:%S} UTC" if again else ""
            dispatcher.send("task-retried", exception=outcome.summary() + when, **task)


def _shown(email: str, attributes: int) -> str:
    # Of what made no job, the attributes are not known.
    count = f" · {_count(attributes, 'attribute')}" if attributes else ""
    return redacted_email(email) + count


def _count(number: int, name: str) -> str:
    return f"{number} {name}" + ("" if number == 1 else "s")
