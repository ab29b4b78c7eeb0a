"""The two Celery tasks: decode, call, obey."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from ..config.celery import ACCEPT_TASK, DELIVER_TASK
from .app import app, courier_of


class _AcceptRequest(Request):
    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002  # Celery's name
        # A live job's task stands for the job: in Flower its end is the job's outcome, which the
        # courier reports, and not the end of the function.
        if type != "task-succeeded" or self.id not in self.args:
            super().send_event(type, **fields)


@app.task(name=ACCEPT_TASK, Request=_AcceptRequest)
def accept(account: str, job_id: str | None = None) -> str:  # noqa: ARG001  # for the request
    """Accept what is in an account's inbox. A live job's task names the job and has its id."""
    return f"jobs accepted: {courier_of(account).accept()}"


@app.task(name=DELIVER_TASK)
def deliver(account: str, mailbox_id: str, token: str) -> str:
    """Make deliveries, the first under this lease."""
    return courier_of(account).deliver(mailbox_id, token)
