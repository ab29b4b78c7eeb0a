"""dramatiq, with a pooled session, a shared limiter, and a result backend that keeps the outcome.

Run as `dramatiq benchmarks.rivals.with_dramatiq`.
"""

from __future__ import annotations

import sys
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from .post import post
from .settings import REDIS_URL


class TellReady(dramatiq.Middleware):
    """The worker's own message is one of level info, which would log every message, too."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        print("worker ready.", file=sys.stderr, flush=True)


broker = RedisBroker(url=REDIS_URL)
broker.add_middleware(Results(backend=RedisBackend(url=REDIS_URL), store_results=True))
broker.add_middleware(TellReady())
dramatiq.set_broker(broker)


@dramatiq.actor(priority=10)
def add_attributes(email: str, custom: list[dict[str, Any]]) -> dict[str, Any]:
    """Add custom attributes to all customers who have this email."""
    return post(email, custom)


@dramatiq.actor(priority=0, queue_name="live")
def add_attributes_live(email: str, custom: list[dict[str, Any]]) -> dict[str, Any]:
    """The same, from a queue of its own and before those that wait."""
    return post(email, custom)
