"""The plain way: one Celery task that calls ChartMogul's official client, as most would write it.

Started by `ways.py` as `celery -A benchmarks.plain worker`.
"""

from __future__ import annotations

import os
from typing import Any

import chartmogul
import chartmogul.resource
import requests
from celery import Celery

app = Celery("plain", broker=os.environ["BENCHMARK_REDIS_URL"])
config = chartmogul.Config(os.environ["BENCHMARK_API_KEY"])
config.uri = os.environ["BENCHMARK_API_URL"]
if retries := os.environ.get("BENCHMARK_CLIENT_RETRIES"):
    config.max_retries = int(retries)


def _retrying_session(*args: Any, **kwargs: Any) -> requests.Session:
    """The client's session. It retries on https only, and the stand-in speaks http."""
    session: requests.Session = _session_of_client(*args, **kwargs)
    session.mount("http://", session.get_adapter("https://"))
    return session


_session_of_client = chartmogul.resource.requests_retry_session
chartmogul.resource.requests_retry_session = _retrying_session


@app.task(
    autoretry_for=(Exception,),
    retry_backoff=True,
    max_retries=20,
    rate_limit=os.environ.get("BENCHMARK_TASK_RATE_LIMIT") or None,
    ignore_result=True,
)
def add_attributes(email: str, custom: list[dict[str, Any]]) -> None:
    """Add custom attributes to all customers who have this email."""
    chartmogul.CustomAttributes.add(config, data={"email": email, "custom": custom}).get()
