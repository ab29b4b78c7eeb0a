"""Taking a job back, and forgetting an email."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from ..jobs.emails import mailbox_id_of, normalized_email
from ..jobs.glance import Glance, belongs_to, glance
from ..jobs.removal import Cancellation, Forgotten
from .keys import Keys
from .outcomes import Outcomes, is_of_email
from .scripts import Script, as_bytes
from .shards import client_of

LATE_S = 24 * 60 * 60
"""So long after an email was forgotten, a job that says it occurred before that is canceled: a late
retry does not bring the email back, nor an older value."""
_AT_ONCE = 500
_PAUSE_S = 0.005
"""Between two looks, so that a pass over millions of keys disturbs nobody."""


class Removal:
    """Takes back what an account's jobs asked for. All methods raise `redis.RedisError`.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        retention_s: seconds that outcomes are kept.
        keep_s: seconds that outcomes are kept that ended well.
    """

    def __init__(
        self, client: redis.Redis, keys: Keys, *, retention_s: int, keep_s: int | None = None
    ) -> None:
        self._client = client_of(client, keys.prefix)
        self._keys = keys
        self._kept = {"retention_s": retention_s, "keep_s": keep_s or retention_s}
        self._outcomes = Outcomes(client, keys)
        self._cancel, self._forget, self._forget_jobs = (
            Script(client, keys.prefix, name) for name in ("cancel", "forget", "forget_jobs")
        )

    def cancel(self, job_id: str) -> Cancellation:
        """Take a job back that was not sent. Others of its email are untouched."""
        while True:
            result = self._try_to_cancel(job_id)
            if result != "again":  # else it went from the inbox to its mailbox meanwhile
                outcome = self._outcomes.get(job_id)
                return Cancellation(job_id=job_id, result=result, outcome=outcome)

    def _try_to_cancel(self, job_id: str) -> Any:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hget(as_bytes(self._keys.of("job", job_id)), "email")
        pipeline.hget(self._keys.inbox, as_bytes(job_id))
        email, wire = pipeline.execute()
        seen = Glance() if wire is None else glance(wire)
        email = email or seen.email
        fields = {"email": email or "", "keys": ",".join(seen.keys), "lane": seen.lane}
        known = {} if email is None else {"mailbox": mailbox_id_of(email)}
        return self._cancel(job=job_id, fields=fields, **known, **self._kept)

    def forget(self, email: str) -> Forgotten:
        """Remove all that is known of an email, in whatever spelling.

        Jobs that wait are canceled. Of settled ones their status and times are left, so that a job
        that is asked for again by its id or idempotency key is still known. What comes in while
        this runs may be removed, too.
        """
        done = _Forgetting(account=self._keys.account, email=normalized_email(email))
        self._waiting(done)
        lost = self._all_keys(done)
        # Once more: what was in the way of the first look, and what somebody replayed since then.
        self._waiting(done)
        self._forget_ids(done, lost=lost)
        self._idempotency_keys(done)
        return done.result()

    def _waiting(self, done: _Forgetting) -> None:
        """The inbox, then the mailbox and its history: a job goes from one to the next."""
        found = [job_id for job_id, wire in self._outcomes.inbox() if belongs_to(wire, done.email)]
        self._forget_ids(done, inbox=found)
        done.ids.update(
            self._outcomes.ids_of(done.email)
        )  # should the answer that names them be lost
        waiting, settled, changed, values, under_way = self._forget(
            mailbox=mailbox_id_of(done.email), late_s=LATE_S, **self._kept
        )
        done.ids.update(waiting, settled)
        done.canceled += len(waiting)
        done.outcomes += changed
        done.values += values
        done.under_way |= bool(under_way)

    def _all_keys(self, done: _Forgetting) -> list[str]:
        """Outcomes that the history lists no more. Returns ids of records that are the email's."""
        lost: list[str] = []
        for names in self._scan(""):
            settled = [name for name in names if name.startswith(self._keys.of("outcome:"))]
            kept = self._client.mget(map(as_bytes, settled)) if settled else []
            found = [
                name.removeprefix(self._keys.of("outcome:"))
                for name, content in zip(settled, kept, strict=True)
                if content and is_of_email(content, done.email)
            ]
            self._forget_ids(done, settled=found)
            records = [name for name in names if name.startswith(self._keys.of("job:"))]
            pipeline = self._client.pipeline(transaction=False)
            for name in records:
                pipeline.hget(as_bytes(name), "email")
            emails = pipeline.execute(raise_on_error=False) if records else []
            lost += [
                name.removeprefix(self._keys.of("job:"))
                for name, email in zip(records, emails, strict=True)
                if isinstance(email, str) and normalized_email(email) == done.email
            ]
        return lost

    def _idempotency_keys(self, done: _Forgetting) -> None:
        """They go on to name their job, without the digest of what it asked for."""
        for names in self._scan("idem:") if done.ids else ():
            found = [
                name.removeprefix(self._keys.of("idem:"))
                for name, first in zip(names, self._client.mget(map(as_bytes, names)), strict=True)
                if first and first[:36] in done.ids
            ]
            self._forget_ids(done, idempotency=found)

    def _forget_ids(self, done: _Forgetting, **lists: Sequence[str]) -> None:
        """Forget what these lists name, some at a time (`lua/forget_jobs.lua`)."""
        for name, ids in lists.items():
            done.ids.update(ids if name != "idempotency" else ())
            for first in range(0, len(ids), _AT_ONCE):
                some = dict.fromkeys(("inbox", "settled", "lost", "idempotency"), ())
                canceled, changed = self._forget_jobs(
                    **some | {name: ids[first : first + _AT_ONCE]}, **self._kept
                )
                done.canceled += canceled
                done.outcomes += changed

    def _scan(self, start: str) -> Iterator[list[str]]:
        """Names of the account's keys that begin so, some at a time."""
        pattern = self._keys.of(start).replace("[", "\\[") + "*"
        cursor = 0
        while True:
            cursor, names = self._client.scan(cursor, match=pattern, count=_AT_ONCE)
            if names:
                yield names
            if cursor == 0:
                return
            time.sleep(_PAUSE_S)


@dataclass(kw_only=True)
class _Forgetting:
    """How far it is."""

    account: str
    email: str
    """As `normalized_email` has it."""
    ids: set[str] = field(default_factory=set)
    """The email's jobs."""
    canceled: int = 0
    outcomes: int = 0
    values: int = 0
    under_way: bool = False

    def result(self) -> Forgotten:
        return Forgotten(
            account=self.account,
            canceled=self.canceled,
            outcomes=self.outcomes,
            values=self.values,
            under_way=self.under_way,
        )
