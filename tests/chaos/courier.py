"""The courier, as one of the ways that are tried."""

from __future__ import annotations

import contextlib
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from prometheus_client.parser import text_string_to_metric_families

from attribute_courier.cli.stage import start_worker
from attribute_courier.config import load_settings
from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.errors import IdempotencyConflict
from attribute_courier.jobs.job import EPOCH, Lane
from attribute_courier.jobs.outcome import Outcome as CourierOutcome
from attribute_courier.operate.metrics import metrics_text
from attribute_courier.producers import NotEnqueued, Producer
from attribute_courier.sandbox import LeashedProcess, SandboxProcess

from .asks import EMAILS, MARK, attributes, occurred_at
from .checker import Ask, Counted, Outcome
from .way import AT_ONCE, RATE, TIMEOUT_S, Answer


class CourierWay:
    """The courier's own producers and workers, with waiting times short enough for a run."""

    def __init__(self) -> None:
        settings = load_settings()
        self._producer = Producer(settings)
        # Whoever looks at the end may wait longer than an application that hands over a job.
        self._reader = Producer(replace(settings, enqueue_timeout_s=20))
        url = settings.redis_url.reveal()
        self._redis = redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)

    @staticmethod
    def environ(redis_url: str, stand_in: SandboxProcess) -> dict[str, str]:
        return {
            "COURIER_REDIS_URL": redis_url,
            "CHARTMOGUL_API_URL": stand_in.url,
            "CHARTMOGUL_API_KEY": stand_in.api_key,
            "COURIER_RATE_LIMIT": str(RATE),
            "COURIER_MAX_PARALLEL": str(AT_ONCE),
            "COURIER_TIMEOUT": str(TIMEOUT_S),
            "COURIER_ENQUEUE_TIMEOUT": "1s",
            "COURIER_UNMATCHED_DELAYS": "500ms,500ms",
            "COURIER_UNCONFIRMED_DELAYS": "500ms",
            "COURIER_PROBE_DELAYS": "1s,2s",
            "COURIER_GIVE_UP_AFTER": "15s",
        }

    def start_worker(self, log: Path, number: int) -> LeashedProcess:
        return start_worker({}, log)

    def take(self, ask: Ask, *, direct: bool) -> Answer:
        """As its documentation says, asks again only with an idempotency key or the same id."""
        lane: Lane = "bulk" if ask.occurred_us % 5 == 0 else "live"
        job_id = str(uuid.uuid4()) if direct else None
        job: dict[str, Any] = {"email": ask.email, "attributes": attributes(ask)}
        while True:
            try:
                if job_id and ask.values.keys() & {"plan"} and ask.valid:
                    many = job | {"job_id": job_id, "occurred_at": occurred_at(ask)}
                    self._producer.add_many([many], lane=lane)
                elif job_id:
                    self._write(job_id, job | {"lane": lane}, ask)
                else:
                    receipt = self._producer.add_attributes(
                        **job,
                        occurred_at=None if ask.timeless else occurred_at(ask),
                        idempotency_key=ask.idempotency_key,
                        lane=lane,
                    )
                    return "taken", receipt.job_id
            except IdempotencyConflict as error:  # another producer was first, with other values
                return "taken", error.job_id
            except (NotEnqueued, redis.RedisError):
                # This plain client would stay with a server that is a replica by now.
                self._redis.connection_pool.disconnect()
                if not job_id and not ask.idempotency_key:
                    return "unknown", None
            else:
                return "taken", job_id

    def _write(self, job_id: str, job: dict[str, Any], ask: Ask) -> None:
        """Into the inbox, as docs/wire-format.md says, without a message."""
        when = occurred_at(ask).isoformat() if ask.valid else "yesterday"
        inbox = "courier:{default}:inbox"
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.hsetnx(inbox, job_id, json.dumps(job | {"v": 1, "occurred_at": when}))
        pipeline.zadd(f"{inbox}:{job['lane']}", {job_id: time.time() * 1000}, nx=True)
        pipeline.execute()

    def damage(self, email: str, draw: random.Random) -> None:
        """Take away one of the email's keys, or an entry of one."""
        prefix, mailbox = "courier:{default}:", mailbox_id_of(email)
        box = f"{prefix}mailbox:{mailbox}"
        kind = draw.choice(["place", "lease", "entry", "record", "value", "mailbox"])
        places = ("due:live", "due:bulk", "due:failing", "later")

        def strike() -> bool:
            with contextlib.suppress(redis.RedisError):
                fields = [name.decode() for name in self._redis.hkeys(box)]  # type: ignore[union-attr]
                entries = [name for name in fields if name.startswith("#")]
                values = [name for name in fields if name[0] not in "#@"]
                if not entries or not values:
                    return False
                entry = draw.choice(entries)
                content = self._redis.hget(box, entry) or b""
                if kind == "place":
                    gone = [self._redis.zrem(prefix + each, mailbox) for each in places]
                    return any(gone)
                if kind == "lease":
                    return bool(self._redis.zrem(f"{prefix}leases", mailbox))
                if kind == "record":
                    job_id = content[16:52].decode()  # type: ignore[index,union-attr]
                    return bool(self._redis.delete(f"{prefix}job:{job_id}"))
                if kind == "mailbox":
                    return bool(self._redis.delete(box))
                found = entry if kind == "entry" else draw.choice(values)
                return bool(self._redis.hdel(box, found))
            self._redis.connection_pool.disconnect()
            return False

        deadline = time.monotonic() + 3
        while not strike() and time.monotonic() < deadline:
            time.sleep(0.01)

    def after_damage(self, emails: Sequence[str]) -> dict[str, str]:
        """What becomes of a new job for each of these."""
        receipts = {
            email: self._reader.add_attributes(email, {"plan": f"{MARK}last"}) for email in emails
        }
        deadline = time.monotonic() + 60
        found = {}
        for email, receipt in receipts.items():
            with contextlib.suppress(TimeoutError):
                receipt.wait(max(0.1, deadline - time.monotonic()))
            outcome = receipt.outcome()
            found[email] = outcome.status if outcome else "lost"
        return found

    def outcomes(self, asks: Sequence[Ask]) -> tuple[dict[str, Outcome], int]:
        with self._reader.reading() as outcomes:
            # Whatever waits or ended, whether or not its producer learned its id.
            listed = [each for email in EMAILS for each in outcomes.of_email(email, limit=1_000)]
            found = {each.job_id: each for each in [*listed, *outcomes.recent(limit=1_000_000)]}
            for ask in asks:
                if ask.job_id and ask.job_id not in found and (one := outcomes.get(ask.job_id)):
                    found[ask.job_id] = one
            inbox = outcomes.waiting()
        return {job_id: _outcome(each) for job_id, each in found.items()}, inbox

    def counted(self) -> Counted | None:
        jobs: Counter[str] = Counter()
        attempts: Counter[str] = Counter()
        for family in text_string_to_metric_families(metrics_text(load_settings()).decode()):
            for sample in family.samples:
                if sample.name == "attribute_courier_jobs_total":
                    jobs[sample.labels["status"]] += int(sample.value)
                elif sample.name == "attribute_courier_attempts_total":
                    attempts[sample.labels["code"]] += int(sample.value)
        return Counted(jobs=jobs, attempts=attempts)


def _outcome(found: CourierOutcome) -> Outcome:
    at = found.occurred_at
    occurred_us = None if at is None else (at - EPOCH) // timedelta.resolution
    return Outcome(status=found.status, email=found.email, occurred_us=occurred_us)
