"""The plain way: one Celery task that calls ChartMogul's official client, as most would write it.

Nothing limits its pace, it opens a connection for each request, and no outcome is kept. The
client's own retries are off: Celery repeats what fails. Run as
`celery -A benchmarks.rivals.official worker`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import chartmogul
from celery import Celery
from celery.signals import worker_ready

from .settings import API_KEY, REDIS_URL

app = Celery("plain", broker=REDIS_URL)
config = chartmogul.Config(API_KEY)
config.uri = os.environ.get("BENCHMARK_API_URL", "")
config.max_retries = 0


@app.task(autoretry_for=(Exception,), retry_backoff=True, max_retries=20, ignore_result=True)
def add_attributes(email: str, custom: list[dict[str, Any]]) -> None:
    """Add custom attributes to all customers who have this email."""
    chartmogul.CustomAttributes.add(config, data={"email": email, "custom": custom}).get()


@worker_ready.connect
def tell_ready(**_: Any) -> None:
    """The worker's own message is one of level info, which would log every task, too."""
    print("worker ready.", file=sys.stderr, flush=True)
