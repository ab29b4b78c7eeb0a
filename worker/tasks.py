"""The two Celery tasks: decode, call, obey."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

from celery.exceptions import Retry
from celery.worker.request import Request

from ..config.celery import ACCEPT_TASK, DELIVER_TASK
from ..config.redis_errors import RedisError, describe_redis_error
from .app import account_worker_of, app, know_layout, settings, stopping, trouble
from .stint import Done


class Shown(Request):
    """A task that did no good is shown as retried, with its reason in words and no traceback."""

    def on_retry(self, exc_info: Any) -> None:
        self.acknowledge()
        error = exc_info.exception  # in threads with its traceback around it
        text = str(error.exc or error)
        self.send_event("task-retried", exception=text, traceback=None)


# Not lazy: where Celery finds that a pool of another application started this process, it would
# make lazy tasks everybody's.
@app.task(name=ACCEPT_TASK, lazy=False, Request=Shown)
def accept(account: str) -> str:
    """Accept what is in an account's inbox, and deliver what can be delivered."""
    return _done(account, account_worker_of(account).accept)


@app.task(name=DELIVER_TASK, lazy=False, Request=Shown)
def deliver(account: str) -> str:
    """Deliver what is due for an account, for some seconds."""
    return _done(account, account_worker_of(account).deliver)


def _done(account: str, work: Callable[[Event], Done]) -> str:
    """What came of the work. Redis's trouble is said once; the ticker asks for the work again.

    Raises:
        Retry: it did no good. To Celery that is a state and no more: it sends no message.
    """
    try:
        know_layout(account)
        done = work(stopping)
    except RedisError as error:
        trouble.met("deliveries", error)
        # Celery logs the message, for each task that was under way; Flower shows the whole.
        whole = RuntimeError(describe_redis_error(settings, error))
        raise Retry(f"Redis failed ({type(error).__name__})", exc=whole) from None
    trouble.over("deliveries")
    if done.in_vain:
        raise Retry(done.text)
    return done.text
