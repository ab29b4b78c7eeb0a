"""The floor: a bare event loop that pops jobs from a list of Redis, takes a slot, and posts.

It promises nothing: what it has in its hands when it is killed is lost, a request that fails is
not repeated, and no outcome is kept. Run as `python -m benchmarks.rivals.floor`.
"""

from __future__ import annotations

import asyncio
import json
import sys

import redis.asyncio

from .post import AsyncPoster
from .settings import CONCURRENCY, REDIS_URL

QUEUE = "benchmark:jobs"
AT_ONCE = 50
"""Jobs that are popped in one command."""


async def main() -> None:
    """Deliver until killed."""
    client = redis.asyncio.Redis.from_url(REDIS_URL)
    poster = AsyncPoster()
    jobs: asyncio.Queue[bytes] = asyncio.Queue(maxsize=AT_ONCE)

    async def deliver() -> None:
        while True:
            email, custom = json.loads(await jobs.get())
            await poster.post(email, custom)

    delivering = [asyncio.create_task(deliver()) for _ in range(CONCURRENCY)]
    print("worker ready.", file=sys.stderr, flush=True)
    while all(not each.done() for each in delivering):
        if first := await client.blpop([QUEUE], timeout=1):
            for job in [first[1], *(await client.lpop(QUEUE, AT_ONCE) or [])]:
                await jobs.put(job)


if __name__ == "__main__":
    asyncio.run(main())
