"""Finding what nothing points to: mailboxes and jobs whose entries elsewhere are lost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from ..jobs.emails import mailbox_id_of
from ..jobs.text import counted
from .keys import Keys
from .scripts import Script
from .shards import client_of, one_of_each

EVERY_S = 600
"""How often a repair pass begins, by one of the workers."""
_AT_ONCE = 200
_PAUSE_S = 0.01
"""Between two looks, so that a pass over millions of keys disturbs nobody."""


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a pass found."""

    mailboxes: int = 0
    """Mailboxes that stood in no lane, nor elsewhere. They are due again."""
    jobs: int = 0
    """Jobs of the inbox without an arrival. They will be accepted."""

    def __str__(self) -> str:
        mailboxes = counted(self.mailboxes, "mailbox", "mailboxes")
        return f"{mailboxes} and {counted(self.jobs, 'job')} of the inbox"


@dataclass(frozen=True, kw_only=True)
class Stranded(Repaired):
    """What nothing points to: what a repair pass would put back, and what none can."""

    records: int = 0
    """Jobs that are pending, and that no mailbox holds: their values are lost."""
    whole: bool = True
    """Whether all was looked at within the time."""


def repair(client: redis.Redis, keys: Keys, *, at_start: bool = False) -> Repaired | None:
    """Look at all mailboxes and at the inbox. None when another worker did so lately.

    Args:
        at_start: look although another worker did so lately.

    Raises:
        redis.RedisError: Redis fails. What was repaired so far stays so.
    """
    any_client = client_of(client, keys.prefix)
    first = any_client.set(keys.of("repairing"), "1", ex=EVERY_S, nx=True)
    if not first and not at_start:
        return None
    script = Script(client, keys.prefix, "repair")
    mailboxes = jobs = 0
    for ids in _ids(any_client, keys, "mailbox"):
        mailboxes += script(mailboxes=ids, jobs=[])[0]
    for ids in _inbox(any_client, keys):
        jobs += script(mailboxes=[], jobs=ids)[1]
    return Repaired(mailboxes=mailboxes, jobs=jobs)


def find_stranded(client: redis.Redis, keys: Keys, *, within_s: float) -> Stranded:
    """Look for what nothing points to, and change nothing.

    Args:
        within_s: look for so long, at most.

    Raises:
        redis.RedisError: Redis fails.
    """
    any_client = client_of(client, keys.prefix)
    until_s = time.monotonic() + within_s
    script = Script(client, keys.prefix, "repair")
    mailboxes = jobs = records = 0
    for ids in _inbox(any_client, keys):
        jobs += script(mailboxes=[], jobs=ids, looking=True)[1]
        if time.monotonic() > until_s:
            return Stranded(jobs=jobs, whole=False)
    for ids in _ids(any_client, keys, "mailbox"):
        mailboxes += script(mailboxes=ids, jobs=[], looking=True)[0]
        if time.monotonic() > until_s:
            return Stranded(mailboxes=mailboxes, jobs=jobs, whole=False)
    for ids in _ids(any_client, keys, "job"):
        records += _unheld(any_client, keys, ids)
        if time.monotonic() > until_s:
            return Stranded(mailboxes=mailboxes, jobs=jobs, records=records, whole=False)
    return Stranded(mailboxes=mailboxes, jobs=jobs, records=records)


@dataclass(frozen=True, kw_only=True)
class ForeignInbox:
    """Keys of an inbox where no worker of ours looks: a publisher made a mistake in their names."""

    key: str
    """The first of them."""
    account: str | None
    """The account that it is of; None where its name has no braces."""
    jobs: int
    """How many jobs it holds."""


def find_foreign_inboxes(
    client: redis.Redis, accounts: Sequence[str], *, within_s: float
) -> list[ForeignInbox]:
    """Look for inboxes of other accounts than these, or under names that no account has.

    On a cluster, on the nodes that hold these accounts.

    Raises:
        redis.RedisError: Redis fails.
    """
    until_s = time.monotonic() + within_s
    clients = [
        client_of(client, Keys(account).prefix)
        for account in one_of_each(client, accounts).values()
    ]
    return [found for each in clients for found in _foreign_inboxes(each, accounts, until_s)]


def _foreign_inboxes(
    any_client: Any, accounts: Sequence[str], until_s: float
) -> list[ForeignInbox]:
    found: dict[str, list[str]] = {}
    for name in any_client.scan_iter(match="courier:*inbox*", count=_AT_ONCE * 5):
        parts = re.fullmatch(r"courier:(.*?):?inbox(:live|:bulk|:taken)?", name)
        if parts and parts[1] not in {f"{{{account}}}" for account in accounts}:
            found.setdefault(parts[1], []).append(name)
        if time.monotonic() > until_s:
            break
    return [
        ForeignInbox(
            key=min(names),
            account=whose[1:-1] if re.fullmatch(r"\{.+\}", whose) else None,
            jobs=max(_length(any_client, name) for name in names),
        )
        for whose, names in sorted(found.items())
    ]


def _length(client: Any, name: str) -> int:
    count = {"hash": client.hlen, "zset": client.zcard}.get(client.type(name))
    return int(count(name)) if count else 0


def _unheld(client: Any, keys: Keys, job_ids: Sequence[str]) -> int:
    """How many of these pending jobs no mailbox holds."""
    pipeline = client.pipeline(transaction=False)
    for job_id in job_ids:
        pipeline.hget(keys.of("job", job_id), "email")
    emails = pipeline.execute(raise_on_error=False)
    known = [
        (each, email) for each, email in zip(job_ids, emails, strict=True) if isinstance(email, str)
    ]  # else it was settled meanwhile, or is damaged
    for _, email in known:
        pipeline.hvals(keys.of("mailbox", mailbox_id_of(email)))
    for job_id, _ in known:
        pipeline.exists(keys.of("job", job_id))
    answers = pipeline.execute(raise_on_error=False)
    held, there = answers[: len(known)], answers[len(known) :]
    return sum(
        exists == 1 and not any(entry[16:52] == job_id for entry in entries)
        for (job_id, _), entries, exists in zip(known, held, there, strict=True)
        if isinstance(entries, list)
    )


def _ids(client: Any, keys: Keys, kind: str) -> Iterator[list[str]]:
    """The ids in the names of all keys of a kind, some at a time."""
    start = keys.of(kind, "")
    pattern = start.replace("[", "\\[") + "*"
    cursor = 0
    while True:
        cursor, names = client.scan(cursor, match=pattern, count=_AT_ONCE * 5)
        if names:
            yield [name.removeprefix(start) for name in names]
        if cursor == 0:
            return
        time.sleep(_PAUSE_S)


def _inbox(client: Any, keys: Keys) -> Iterator[list[str]]:
    """The ids of all jobs in the inbox, some at a time."""
    cursor = 0
    while True:
        cursor, documents = client.hscan(keys.inbox, cursor, count=_AT_ONCE)
        if documents:
            yield list(documents)
        if cursor == 0:
            return
