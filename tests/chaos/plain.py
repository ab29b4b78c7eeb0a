"""The plain way, to see that the checker finds what it should: one Celery task around
ChartMogul's official client, with retries, as most would write it.

Its workers are `celery -A tests.chaos.plain worker`.
"""

from __future__ import annotations

import os
import random
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chartmogul
from celery import Celery
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from attribute_courier.sandbox import LeashedProcess, SandboxProcess

from .asks import attributes
from .checker import Ask, Counted, Outcome
from .way import AT_ONCE, TIMEOUT_S, Answer


def _celery() -> Celery:
    url = os.environ.get("CHAOS_REDIS_URL")
    return Celery("plain", broker=url, backend=url, set_as_current=False)


app = _celery()


@app.task(autoretry_for=(Exception,), retry_backoff=True, retry_backoff_max=5, max_retries=8)
def add_attributes(email: str, custom: list[dict[str, Any]]) -> None:
    """Add custom attributes to all customers who have this email."""
    key = os.environ["CHAOS_API_KEY"]
    config = chartmogul.Config(key, request_timeout=TIMEOUT_S, max_retries=0)
    config.uri = os.environ["CHAOS_API_URL"]
    chartmogul.CustomAttributes.add(config, data={"email": email, "custom": custom}).get()


class PlainWay:
    """As many workers as the courier has, each with a thread for each request at once."""

    def __init__(self) -> None:
        self._celery = _celery()  # the environment may have changed since this was imported

    @staticmethod
    def environ(redis_url: str, stand_in: SandboxProcess) -> dict[str, str]:
        return {
            "CHAOS_REDIS_URL": redis_url,
            "CHAOS_API_URL": stand_in.url,
            "CHAOS_API_KEY": stand_in.api_key,
        }

    def start_worker(self, log: Path, number: int) -> LeashedProcess:
        argv = [sys.executable, "-m", "celery", "-A", f"{__package__}.plain", "worker"]
        argv += ["--pool", "threads", "--concurrency", str(AT_ONCE), "--loglevel", "info"]
        argv += ["--hostname", f"plain{number}@%h"]
        with log.open("ab") as out:
            return LeashedProcess(argv, cwd=Path(__file__).parents[2], stdout=out, stderr=out)

    def take(self, ask: Ask, *, direct: bool) -> Answer:
        # Celery has no idempotency keys; its task ids are what comes nearest to them.
        key = ask.idempotency_key
        task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, key) if key else uuid.uuid4())
        try:
            self._celery.send_task(
                add_attributes.name, (ask.email, attributes(ask)), task_id=task_id, retry=False
            )
        except (OperationalError, OSError):
            return "unknown", task_id
        return "taken", task_id

    def damage(self, email: str, draw: random.Random) -> None:
        """Nothing: a message holds all that there is, and nobody finds it by its email."""

    def after_damage(self, emails: Sequence[str]) -> dict[str, str]:
        return {}

    def outcomes(self, asks: Sequence[Ask]) -> tuple[dict[str, Outcome], int]:
        found = {}
        for ask in asks:
            assert ask.job_id is not None
            status = _status(self._celery.AsyncResult(ask.job_id))
            if ask.answer == "taken" or status != "pending":
                found[ask.job_id] = Outcome(
                    status=status, email=ask.email, occurred_us=ask.occurred_us
                )
        return found, 0

    def counted(self) -> Counted | None:
        return None


def _status(result: AsyncResult[Any]) -> str:
    """A task's state, in the courier's words."""
    state, reason = result.state, str(result.result)
    if state != "FAILURE":
        return "delivered" if state == "SUCCESS" else "pending"
    kinds = {"any customers": "unmatched", "422": "refused"}
    return next((kind for words, kind in kinds.items() if words in reason), "failed")
