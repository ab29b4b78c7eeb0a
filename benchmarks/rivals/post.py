"""One delivery as the rivals make it: take a slot, post over a pooled connection, read the answer.

Both functions return the outcome that is stored as the job's result: the status, and the customers.
"""

from __future__ import annotations

import threading
from typing import Any

import aiohttp
import requests

from .limiter import AsyncLimiter, limiter
from .settings import API_KEY, ATTEMPTS, PACED, REDIS_URL, TIMEOUT_S, URL

_local = threading.local()


def _session() -> requests.Session:
    """This thread's. A session keeps its connection open; threads must not share one."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.auth = (API_KEY, "")
        # Else requests looks for proxies and passwords again for each request: 0.5 ms of CPU time.
        _local.session.trust_env = False
    session: requests.Session = _local.session
    return session


def post(email: str, custom: list[dict[str, Any]]) -> dict[str, Any]:
    """Deliver from a thread.

    Raises:
        requests.RequestException: no answer, or one that is an error.
    """
    for attempt in range(1, ATTEMPTS + 1):
        limiter(REDIS_URL).wait()
        response = _session().post(URL, json={"email": email, "custom": custom}, timeout=TIMEOUT_S)
        if response.status_code not in PACED or attempt == ATTEMPTS:
            break
    response.raise_for_status()
    return _outcome(response.status_code, response.json())


class AsyncPoster:
    """Delivers from an event loop, with one pool of connections. To be made inside the loop."""

    def __init__(self) -> None:
        self._limiter = AsyncLimiter(REDIS_URL)
        self._session = aiohttp.ClientSession(
            auth=aiohttp.BasicAuth(API_KEY, ""), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        )

    async def post(self, email: str, custom: list[dict[str, Any]]) -> dict[str, Any]:
        """Deliver.

        Raises:
            aiohttp.ClientError: no answer, or one that is an error.
        """
        for attempt in range(1, ATTEMPTS + 1):
            await self._limiter.wait()
            asked = self._session.post(URL, json={"email": email, "custom": custom})
            async with asked as response:
                body = await response.json()
                if response.status not in PACED or attempt == ATTEMPTS:
                    break
        response.raise_for_status()
        return _outcome(response.status, body)

    async def close(self) -> None:
        await self._session.close()


def _outcome(http_status: int, body: Any) -> dict[str, Any]:
    entries = body.get("entries", [])
    return {"http_status": http_status, "customers": [each.get("uuid") for each in entries]}
