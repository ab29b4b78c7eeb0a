"""What became of a job, and how to ask."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import redis

from .job import VERSION_LENGTH, mailbox_id_of, redacted_email, time_of
from .keys import Keys

Status = Literal[
    "pending",
    "delivered",
    "superseded",
    "unchanged",
    "unmatched",
    "unconfirmed",
    "invalid",
    "refused",
    "failed",
]
STATUSES: tuple[Status, ...] = get_args(Status)
REPLAYABLE: tuple[Status, ...] = ("failed", "unmatched", "unconfirmed", "refused")
"""Ends after which a job's values are kept, so that it can be sent again."""
SUCCESSES: frozenset[Status] = frozenset({"delivered", "superseded", "unchanged"})

_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A ChartMogul customer that has the job's email."""

    uuid: str | None
    external_id: str | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Outcome:
    """What became of a job. Its repr shows no email, since logs and Flower show it."""

    job_id: str
    account: str
    status: Status
    email: str | None = None
    """None while the job is in the inbox, and for what never was a job."""
    lane: str | None = None
    keys: tuple[str, ...] = ()
    """Names of the job's attributes."""
    attempts: int = 0
    """Requests made for the job."""
    http_status: int | None = None
    """Of the last answer."""
    message: str | None = None
    """Why, in words; without the email and the values."""
    warning: str | None = None
    """What is strange about the job: keys that had another type before."""
    customers: tuple[Customer, ...] = ()
    """Who has the job's email, by the last answer."""
    occurred_at: datetime | None = None
    accepted_at: datetime | None = None
    sent_at: datetime | None = None
    """When the last request was made."""
    settled_at: datetime | None = None
    next_attempt_at: datetime | None = None
    """When a pending job is tried again."""

    @property
    def ended(self) -> bool:
        """Whether the job is at its end."""
        return self.status != "pending"

    @property
    def successful(self) -> bool:
        """Whether the job ended well: `delivered`, `superseded` or `unchanged`."""
        return self.status in SUCCESSES

    def summary(self) -> str:
        """Such as `delivered · 1 customer`, or `refused · Value is not valid`."""
        if self.status == "delivered":
            return f"delivered · {customers_phrase(len(self.customers))}"
        return f"{self.status} · {self.message}" if self.message else self.status

    def to_dict(self) -> dict[str, Any]:
        """As JSON types: times in ISO 8601, `keys` and `customers` as lists."""

        def plain(value: Any) -> Any:
            return value.isoformat() if isinstance(value, datetime) else value

        content = {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}
        content["keys"] = list(self.keys)
        content["customers"] = [
            {"uuid": customer.uuid, "external_id": customer.external_id}
            for customer in self.customers
        ]
        return content

    def __repr__(self) -> str:
        email = redacted_email(self.email) if self.email else "?"
        return f"<Outcome {self.job_id}: {email} · {self.summary()}>"


def customers_phrase(count: int) -> str:
    """`1 customer`, `2 customers`."""
    return f"{count} customer" + ("" if count == 1 else "s")


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
