"""The two Celery tasks: decode, call, obey."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from ..config.celery import ACCEPT_TASK, DELIVER_TASK
from ..config.redis_errors import RedisError
from .app import account_worker_of, app, know_layout, stopping, trouble


# Not lazy: where Celery finds that a pool of another application started this process, it would
# make lazy tasks everybody's.
@app.task(name=ACCEPT_TASK, lazy=False)
def accept(account: str) -> str:
    """Accept what is in an account's inbox, and deliver what can be delivered."""
    return _done(account, account_worker_of(account).accept)


@app.task(name=DELIVER_TASK, lazy=False)
def deliver(account: str) -> str:
    """Deliver what is due for an account, for some seconds."""
    return _done(account, account_worker_of(account).deliver)


def _done(account: str, work: Callable[[Event], str]) -> str:
    """What came of the work. Redis's trouble is said once; the ticker asks for the work again."""
    try:
        know_layout(account)
        done = work(stopping)
    except RedisError as error:
        trouble.met("deliveries", error)
        return f"Redis failed ({type(error).__name__})"
    trouble.over("deliveries")
    return done
