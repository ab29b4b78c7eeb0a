"""What became of jobs: reading it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from ..jobs.emails import mailbox_id_of
from ..jobs.job import VERSION_LENGTH, time_of
from ..jobs.outcome import STATUSES, Customer, Outcome, Status
from .keys import Keys

_PAGE = 500


class Outcomes:
    """Reads an account's outcomes.

    All methods raise `redis.RedisError` when Redis does not answer.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client  # redis-py's types allow for bytes at every turn
        self._keys = keys

    def get(self, job_id: str) -> Outcome | None:
        """What is known of a job; None if nothing is (or no more, after the retention)."""
        # At one moment: a job is in one of the two, and goes to and fro.
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hexists(self._keys.inbox, job_id)
        pipeline.hgetall(self._keys.outcome(job_id))
        waiting, fields = pipeline.execute()
        if fields:
            return self.read(job_id, fields)
        if waiting:
            return Outcome(job_id=job_id, account=self._keys.account, status="pending")
        return None

    def statuses(self, job_ids: Sequence[str]) -> list[Status | None]:
        """Of each job, where it stands, in one round trip; None if nothing is known of it."""
        pipeline = self._client.pipeline(transaction=True)  # for the reason that `get` has
        for job_id in job_ids:
            pipeline.hexists(self._keys.inbox, job_id)
            pipeline.hmget(self._keys.outcome(job_id), "status", "accepted")
        answers = pipeline.execute() if job_ids else []
        found: list[Status | None] = []
        for waiting, (status, accepted) in zip(answers[::2], answers[1::2], strict=True):
            if status in STATUSES:
                found.append(status)
            else:
                found.append("pending" if waiting or accepted else None)
        return found

    def of_email(self, email: str, *, limit: int = 100) -> list[Outcome]:
        """The email's jobs, newest first: those that wait, and of the others at most 100."""
        mailbox_id = mailbox_id_of(email)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(self._keys.mailbox(mailbox_id))
        pipeline.lrange(self._keys.history(mailbox_id), 0, -1)
        mailbox, ended = pipeline.execute()
        waiting = [entry[16:VERSION_LENGTH] for field, entry in mailbox.items() if field[0] == "#"]
        found = self._all(list(dict.fromkeys(waiting + ended)))
        oldest = datetime.min.replace(tzinfo=UTC)
        found.sort(key=lambda outcome: outcome.accepted_at or oldest, reverse=True)
        return found[:limit]

    def recent(
        self,
        *,
        statuses: Collection[Status] = (),
        since: timedelta | None = None,
        limit: int = 100,
    ) -> list[Outcome]:
        """Jobs that came to an end, newest first; of these statuses only, if any are given.

        `since` is the age of the oldest wanted, by Redis's clock.
        """
        oldest = f"{(self.now() - since).timestamp() * 1000:.0f}" if since is not None else "-"
        newest = "+"
        found: list[Outcome] = []
        seen: set[str] = set()
        while len(found) < limit:
            entries = self._client.xrevrange(
                self._keys.outcomes, max=newest, min=oldest, count=_PAGE
            )
            # A replayed job is in the stream more than once, and may stand otherwise by now.
            for outcome in self._all(_wanted(entries, statuses)):
                if outcome.job_id not in seen and (not statuses or outcome.status in statuses):
                    seen.add(outcome.job_id)
                    found.append(outcome)
            if len(entries) < _PAGE:
                break
            newest = f"({entries[-1][0]}"
        return found[:limit]

    def follow(
        self, *, statuses: Collection[Status] = (), poll_s: float = 0.2
    ) -> Iterator[Outcome]:
        """Outcomes from now on as they come to be, without end; looks every `poll_s` seconds."""
        newest = self._client.xrevrange(self._keys.outcomes, count=1)
        after = newest[0][0] if newest else "0"
        while True:
            answer = self._client.xread({self._keys.outcomes: after}, count=_PAGE)
            entries = answer[0][1] if answer else []
            yield from self._all(_wanted(entries, statuses))
            if entries:
                after = entries[-1][0]
            else:
                time.sleep(poll_s)

    def waiting(self) -> int:
        """How many jobs no worker has accepted yet."""
        return int(self._client.hlen(self._keys.inbox))

    def now(self) -> datetime:
        """Redis's time."""
        seconds, microseconds = self._client.time()
        return time_of(int(seconds) * 1_000_000 + int(microseconds))

    def _all(self, job_ids: list[str]) -> list[Outcome]:
        pipeline = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(self._keys.outcome(job_id))
        found = zip(job_ids, pipeline.execute() if job_ids else [], strict=True)
        return [self.read(job_id, fields) for job_id, fields in found if fields]

    def read(self, job_id: str, fields: dict[str, str]) -> Outcome:
        """The outcome that Redis holds in these fields."""
        status = fields.get("status", "pending")
        return Outcome(
            job_id=job_id,
            account=self._keys.account,
            status=status if status in STATUSES else "pending",
            email=fields.get("email"),
            lane=fields.get("lane"),
            keys=tuple(filter(None, fields.get("keys", "").split(","))),
            attempts=int(fields.get("attempts", 0)),
            http_status=int(fields["http_status"]) if fields.get("http_status") else None,
            message=fields.get("message") or None,
            warning=fields.get("warning"),
            customers=tuple(
                Customer(uuid=uuid, external_id=external_id)
                for uuid, external_id in json.loads(fields.get("customers", "[]"))
            ),
            occurred_at=_time(fields.get("occurred")),
            accepted_at=_time(fields.get("accepted")),
            sent_at=_time(fields.get("sent")),
            settled_at=_time(fields.get("settled")),
            next_attempt_at=_time(fields.get("next")),
        )


def _time(microseconds: str | None) -> datetime | None:
    return time_of(int(microseconds)) if microseconds else None


def _wanted(entries: list[Any], statuses: Collection[Status]) -> list[str]:
    return [fields["job"] for _, fields in entries if not statuses or fields["status"] in statuses]
