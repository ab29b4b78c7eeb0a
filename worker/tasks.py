"""The two Celery tasks: decode, call, obey."""

from __future__ import annotations

from ..config.celery import ACCEPT_TASK, DELIVER_TASK
from .app import account_worker_of, app


@app.task(name=ACCEPT_TASK)
def accept(account: str, job_id: str | None = None) -> str:  # noqa: ARG001  # of 0.1.0's producers
    """Accept what is in an account's inbox."""
    return f"jobs accepted: {account_worker_of(account).accept()}"


@app.task(name=DELIVER_TASK)
def deliver(account: str, mailbox_id: str, token: str) -> str:
    """Make deliveries, the first under this lease."""
    return account_worker_of(account).deliver(mailbox_id, token)
