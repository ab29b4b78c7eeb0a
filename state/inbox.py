"""The inbox in Redis: jobs that no worker has accepted yet, in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import redis

from ..jobs.emails import mailbox_id_of
from ..jobs.job import Lane
from ..jobs.outcome import Reason
from .keys import Keys, idempotency_hash
from .scripts import Replicas, Script
from .shards import client_of


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job on its way into the inbox."""

    job_id: str
    wire: str
    """The job's document."""
    idempotency_key: str | None = None
    content: str = ""
    """A digest of what is asked: a known idempotency key with another one is a conflict."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """An entry for which an earlier job answers."""

    job_id: str
    """The earlier job. It is the entry's own id where that was known, as it also is when Redis's
    answer was lost and redis-py asked again."""
    conflict: bool
    """Whether the idempotency key was used for other content before: the entry is no job."""


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    """What became of entries."""

    wake: bool
    """Whether a worker is still to be woken. Jobs that wait in the lane already have woken one."""
    known: dict[int, Known]
    """Position among the entries → the earlier job. All others are in the inbox."""


@dataclass(frozen=True, kw_only=True)
class WakeMessage:
    """A message for workers, in a queue of a broker that is the same Redis."""

    queue: str
    """The key of the list."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A job that this worker has taken from the inbox, to accept it."""

    job_id: str
    wire: str
    entry: str
    """Its entry in `inbox:taken`: lane, arrival in microseconds, job id."""

    @property
    def arrived_us(self) -> int:
        """When it came into the inbox: microseconds since 1970, by Redis; no two are alike."""
        return int(self.entry.split(" ", 2)[1])


class Inbox:
    """One account's inbox. All methods raise `redis.RedisError` when Redis fails.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        retention_s: seconds that idempotency keys and outcomes are remembered.
        keep_s: seconds that outcomes are kept that ended well; the retention unless given.
        replicas: those that must have a job before it counts as taken, if any.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        retention_s: int,
        keep_s: int | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self._client = client_of(client, keys.prefix)
        self._keys = keys
        self._kept = {"retention_s": retention_s, "keep_s": keep_s or retention_s}
        self._enqueue = Script(client, keys.prefix, "enqueue")
        self._replicas = replicas
        self._take = Script(client, keys.prefix, "take")
        self._reject = Script(client, keys.prefix, "reject")

    def put(
        self, lane: Lane, entries: Sequence[Entry], *, wake: WakeMessage | None = None
    ) -> Enqueued:
        """Put jobs into the inbox, in one step; they arrive in this order.

        Args:
            wake: sent in the same step if a worker is to be woken, where the broker is this Redis.

        Raises:
            NotReplicatedError: they are in the inbox; too few replicas said that they have them.
        """
        jobs = []
        for entry in entries:
            job = {"id": entry.job_id, "content": entry.content}
            if entry.idempotency_key is not None:
                job["idempotency"] = idempotency_hash(entry.idempotency_key)
            jobs.append(job)
        arg: dict[str, object] = {} if wake is None else {"wake": asdict(wake)}
        enqueue: Callable[..., Any] = self._enqueue
        if self._replicas is not None:
            enqueue = partial(self._enqueue.replicated, self._replicas)
        to_wake, *known = enqueue(
            *(entry.wire for entry in entries),
            lane=lane,
            jobs=jobs,
            retention_s=self._kept["retention_s"],
            **arg,
        )
        return Enqueued(
            wake=bool(to_wake),
            known={
                position: Known(job_id=job_id, conflict=bool(conflict))
                for position, job_id, conflict in zip(*[iter(known)] * 3, strict=True)
            },
        )

    def take(self, *, limit: int, within_s: float, bulk_share: float) -> list[Taken]:
        """Take jobs to accept them: live ones first, and a share of bulk ones.

        No other worker gets them, until they have stayed there for `within_s` seconds.
        """
        flat = self._take(limit=limit, within_us=round(within_s * 1e6), bulk_share=bulk_share)
        return [
            Taken(job_id=job_id, wire=wire, entry=entry)
            for job_id, wire, entry in zip(*[iter(flat)] * 3, strict=True)
        ]

    def reject(
        self, taken: Taken, reasons: str, *, reason: Reason = "schema", email: str | None = None
    ) -> bool:
        """Record as `invalid` what makes no job. False when it has an outcome already."""
        known = {} if email is None else {"email": email, "mailbox": mailbox_id_of(email)}
        return bool(
            self._reject(taken.job_id, taken.entry, reasons, reason=reason, **self._kept, **known)
        )

    def waiting(self) -> int:
        """How many jobs no worker has accepted yet."""
        return int(self._client.hlen(self._keys.inbox))
