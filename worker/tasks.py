"""The two Celery tasks: decode, call, obey."""

from __future__ import annotations

from ..config.celery import ACCEPT_TASK, DELIVER_TASK
from .app import account_worker_of, app, stopping


@app.task(name=ACCEPT_TASK)
def accept(account: str) -> str:
    """Accept what is in an account's inbox, and deliver what can be delivered."""
    return account_worker_of(account).accept(stopping)


@app.task(name=DELIVER_TASK)
def deliver(account: str) -> str:
    """Deliver what is due for an account, for some seconds."""
    return account_worker_of(account).deliver(stopping)
