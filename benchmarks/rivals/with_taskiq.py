"""taskiq, with a pooled session, a shared limiter, and a result backend that keeps the outcome.

Run as `taskiq worker benchmarks.rivals.with_taskiq:broker`.
"""

from __future__ import annotations

import sys
from typing import Any

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from .post import AsyncPoster
from .settings import REDIS_URL

# A stream, not a list: its messages are acknowledged, and so survive a worker that is killed.
broker = RedisStreamBroker(REDIS_URL).with_result_backend(
    RedisAsyncResultBackend(REDIS_URL, result_ex_time=86_400)
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_session(state: TaskiqState) -> None:
    """Before the first message is read."""
    state.poster = AsyncPoster()
    print("worker ready.", file=sys.stderr, flush=True)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_session(state: TaskiqState) -> None:
    """After the last one."""
    await state.poster.close()


@broker.task(task_name="add_attributes")
async def add_attributes(email: str, custom: list[dict[str, Any]]) -> dict[str, Any]:
    """Add custom attributes to all customers who have this email."""
    poster: AsyncPoster = broker.state.poster
    return await poster.post(email, custom)
