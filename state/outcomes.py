"""What became of jobs: reading it, and waiting for it."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from ..jobs.emails import mailbox_id_of
from ..jobs.job import time_of
from ..jobs.outcome import REASONS, STATUSES, Customer, Outcome, Status
from ..jobs.text import printable
from .keys import Keys
from .scripts import as_bytes

_PAGE = 500
_LOOK_AGAIN_S = 5.0
"""A waiter looks at least so often: Redis does not repeat a message to a lost connection."""
_POLL_S = 0.1
"""How often a waiter looks that may not subscribe to channels."""

MAX_CUSTOMERS = 50
"""Customers that an outcome names."""
MAX_ID = 300
"""Characters of a customer's id."""

_LONG = {
    "s": "status",
    "e": "email",
    "l": "lane",
    "k": "keys",
    "n": "attempts",
    "h": "http_status",
    "m": "message",
    "w": "warning",
    "c": "customers",
    "o": "occurred",
    "a": "accepted",
    "t": "sent",
    "x": "settled",
    "d": "document",
    "r": "arrived",
    "b": "reason",
}
"""Names of a settled job's fields: short in Redis, since there are many (`lua/_outcome.lua`).

Times but `a` count from that one, in microseconds, where that is shorter.
"""
_USUAL = {"s": "delivered", "l": "live", "n": "1", "h": "200"}
"""What is left out, since most delivered jobs have it. Another status is always there."""


class Outcomes:
    """Reads an account's outcomes.

    All methods raise `redis.RedisError` when Redis fails.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client  # redis-py's types allow for bytes at every turn
        self._keys = keys

    def get(self, job_id: str) -> Outcome | None:
        """What is known of a job; None if nothing is (or no more, after the retention)."""
        return self.many([job_id])[0]

    def wait(self, job_id: str, timeout_s: float | None) -> Outcome | None:
        """What is known of a job once it is settled, or when the time is up.

        A settled job is announced on a channel of its own, so a waiter need not ask all the time.

        Args:
            timeout_s: seconds; None waits as long as it takes.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            try:
                channel.subscribe(self._keys.of("settled", job_id))
                channel.get_message(timeout=1)  # Redis's word that it listens from now on
                pause_s = _LOOK_AGAIN_S
            except redis.ResponseError:  # no right to use channels
                pause_s = _POLL_S
            while True:
                outcome = self.get(job_id)
                left_s = _LOOK_AGAIN_S if deadline is None else deadline - time.monotonic()
                if left_s <= 0 or (outcome is not None and outcome.settled):
                    return outcome
                if pause_s == _POLL_S:
                    time.sleep(min(left_s, pause_s))
                else:
                    channel.get_message(timeout=min(left_s, pause_s))

    def statuses(self, job_ids: Sequence[str]) -> list[Status | None]:
        """Of each job, where it stands, in one round trip; None if nothing is known of it."""
        return [outcome.status if outcome else None for outcome in self.many(job_ids)]

    def of_email(self, email: str, *, limit: int = 100) -> list[Outcome]:
        """The email's jobs, newest first: those that wait, and of the settled ones the last 100."""
        mailbox_id = mailbox_id_of(email)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(self._keys.of("mailbox", mailbox_id))
        pipeline.hgetall(self._keys.of("email", mailbox_id))
        mailbox, history = pipeline.execute()
        waiting = [entry[16:52] for field, entry in mailbox.items() if field.startswith("#")]
        settled = [job for field, job in history.items() if field[0] == "@" and field != "@n"]
        found = [each for each in self.many(list(dict.fromkeys(waiting + settled))) if each]
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
        """Jobs that were settled, newest first; of these statuses only, if any are given.

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
            for outcome in self.many(_wanted(entries, statuses)):
                if outcome is None or outcome.job_id in seen:
                    continue
                if not statuses or outcome.status in statuses:
                    seen.add(outcome.job_id)
                    found.append(outcome)
            if len(entries) < _PAGE:
                break
            newest = f"({entries[-1][0]}"
        return found[:limit]

    def follow(
        self, *, statuses: Collection[Status] = (), poll_s: float = 0.2
    ) -> Iterator[Outcome]:
        """Outcomes from now on as jobs are settled, without end; looks every `poll_s` seconds."""
        newest = self._client.xrevrange(self._keys.outcomes, count=1)
        after = newest[0][0] if newest else "0"
        while True:
            answer = self._client.xread({self._keys.outcomes: after}, count=_PAGE)
            entries = answer[0][1] if answer else []
            yield from (each for each in self.many(_wanted(entries, statuses)) if each)
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

    def many(self, job_ids: Sequence[str]) -> list[Outcome | None]:
        """What is known of each of these jobs, at one moment and in one round trip."""
        # All at one moment: a job is in one of the three, and goes on from one to the next.
        pipeline = self._client.pipeline(transaction=True)
        for job_id in job_ids:
            pipeline.get(as_bytes(self._keys.of("outcome", job_id)))
            pipeline.hgetall(as_bytes(self._keys.of("job", job_id)))
            pipeline.hexists(self._keys.inbox, as_bytes(job_id))
        answers = iter(pipeline.execute() if job_ids else [])
        found: list[Outcome | None] = []
        for job_id in job_ids:
            settled, pending, in_inbox = next(answers), next(answers), next(answers)
            if settled:
                found.append(outcome_of(job_id, self._keys.account, _fields(settled)))
            elif pending or in_inbox:
                found.append(outcome_of(job_id, self._keys.account, pending))
            else:
                found.append(None)
        return found


def _fields(settled: str) -> dict[str, str]:
    """The fields of a settled job: with their long names, and what is usual put back."""
    short = json.loads(settled)
    if "s" not in short:
        short = _USUAL | short
    if "c" in short:
        short["c"] = json.dumps(short["c"])
    for name in ("o", "t", "x"):
        if isinstance(short.get(name), int | float):
            short[name] = str(int(short["a"]) + int(short[name]))
    return {_LONG[name]: content for name, content in short.items()}


def outcome_of(job_id: str, account: str, fields: Mapping[str, str]) -> Outcome:
    """The outcome that these fields of Redis say."""
    status = fields.get("status", "pending")
    return Outcome(
        job_id=job_id,
        account=account,
        status=status if status in STATUSES else "pending",
        email=fields.get("email"),
        lane=fields.get("lane"),
        keys=tuple(filter(None, fields.get("keys", "").split(","))),
        attempts=int(fields.get("attempts", 0)),
        http_status=int(fields["http_status"]) if fields.get("http_status") else None,
        reason=reason if (reason := fields.get("reason", "")) in REASONS else "",
        message=fields.get("message") or None,
        warning=fields.get("warning") or None,
        customers=tuple(
            Customer(uuid=uuid, external_id=external_id)
            for uuid, external_id in json.loads(fields.get("customers") or "[]")
        ),
        occurred_at=_time(fields.get("occurred")),
        accepted_at=_time(fields.get("accepted")),
        sent_at=_time(fields.get("sent")),
        settled_at=_time(fields.get("settled")),
        next_attempt_at=_time(fields.get("next")),
    )


def customers_field(entries: Sequence[object]) -> str:
    """Customers of an answer, as an outcome holds them: JSON of uuid and external id; or ""."""

    def identity(entry: object) -> list[str | None]:
        fields = entry if isinstance(entry, dict) else {}
        found = (fields.get(name) for name in ("uuid", "external_id"))
        return [None if each is None else printable(str(each)[:MAX_ID]) for each in found]

    return json.dumps([identity(entry) for entry in entries[:MAX_CUSTOMERS]]) if entries else ""


def _time(microseconds: str | None) -> datetime | None:
    return time_of(int(microseconds)) if microseconds else None


def _wanted(entries: list[Any], statuses: Collection[Status]) -> list[str]:
    return [fields["job"] for _, fields in entries if not statuses or fields["status"] in statuses]
