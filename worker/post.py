"""Celery as the courier's post: messages to workers, events to Flower. Both hold ids only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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

    def accept(self, account: str, job_ids: Sequence[str]) -> None:
        self._send(ACCEPT_TASK, [account, list(job_ids)], f"{len(job_ids)} jobs")

    def deliver(self, account: str, lease: Lease) -> None:
        count = lease.attributes
        shown = (
            f"{redacted_email(lease.email)} · {count} {'attribute' if count == 1 else 'attributes'}"
        )
        self._send(DELIVER_TASK, [account, lease.mailbox_id, lease.token], shown)

    def _send(self, task: str, args: list[Any], shown: str) -> None:
        try:
            self._app.send_task(task, args, argsrepr=shown, kwargsrepr="", retry=False)
        except OperationalError:
            # Nothing is lost: the inbox is announced again, and the lease will expire.
            log.warning("could not send %s: the broker does not answer", task)

    def report(self, outcome: Outcome) -> None:
        """Show how the job stands under the task that accepted it, whose id is the job's."""
        dispatcher = self.dispatcher
        if dispatcher is None or not dispatcher.enabled:
            return
        if outcome.successful:
            dispatcher.send("task-succeeded", uuid=outcome.job_id, result=outcome.summary())
        elif outcome.ended:
            dispatcher.send("task-failed", uuid=outcome.job_id, exception=outcome.summary())
        else:
            again = outcome.next_attempt_at
            when = f" · again at {again:%H:%M:%S} UTC" if again else ""
            dispatcher.send("task-retried", uuid=outcome.job_id, exception=outcome.summary() + when)
