"""Celery, with a pooled session, a shared limiter, and a result backend that keeps the outcome.

Run as `celery -A benchmarks.rivals.with_celery worker`.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.signals import worker_ready

from .post import post
from .settings import REDIS_URL

app = Celery("rival", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    task_acks_late=True,  # else a worker that is killed takes its jobs with it
    worker_disable_rate_limits=True,  # those of Celery itself
    broker_connection_retry_on_startup=True,
)


@app.task(autoretry_for=(Exception,), retry_backoff=True, retry_backoff_max=600, max_retries=20)
def add_attributes(email: str, custom: list[dict[str, Any]]) -> dict[str, Any]:
    """Add custom attributes to all customers who have this email."""
    return post(email, custom)


@worker_ready.connect
def tell_ready(**_: Any) -> None:
    """The worker's own message is one of level info, which would log every task, too."""
    print("worker ready.", file=sys.stderr, flush=True)
