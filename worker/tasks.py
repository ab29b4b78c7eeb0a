"""The two Celery tasks: decode, call, obey."""

from __future__ import annotations

from celery import Task
from celery.exceptions import Ignore

from ..config.celery import ACCEPT_TASK, DELIVER_TASK
from .app import app, courier_of


@app.task(name=ACCEPT_TASK, bind=True)
def accept(self: Task[..., str], account: str, job_id: str | None = None) -> str:
    """Accept what is in an account's inbox. A live job's task names the job and has its id."""
    accepted = courier_of(account).accept()
    if job_id == self.request.id:
        # This task stands for the job: in Flower its end is the job's outcome, which the courier
        # reports, and not the end of this function.
        raise Ignore
    return f"accepted {accepted} jobs"


@app.task(name=DELIVER_TASK)
def deliver(account: str, mailbox_id: str, token: str) -> str:
    """Make one delivery under a lease."""
    return courier_of(account).deliver(mailbox_id, token)
