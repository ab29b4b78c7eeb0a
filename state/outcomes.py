"""What became of jobs: reading it, and waiting for it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any, TypeVar

import redis

from ..config.redis_errors import code_of
from ..jobs.emails import mailbox_id_of, normalized_email
from ..jobs.glance import belongs_to, glance
from ..jobs.job import time_of
from ..jobs.outcome import REASONS, STATUSES, Customer, Outcome, Status
from ..jobs.text import printable
from .keys import Keys
from .scripts import as_bytes
from .shards import client_of

T = TypeVar("T")

_PAGE = 500
_PLACES = ("later", "due:failing", "due:bulk", "due:live", "leases")
"""Where mailboxes stand, in the order in which they go from one to the next."""
_FAR_PAGE = 1_000
"""Entries of a read that looks for rare ones: it keeps Redis busy for about a millisecond."""
_LOOK_AGAIN_S = 5.0
"""A waiter looks at least so often: Redis does not repeat a message to a lost connection."""
_POLL_S = 0.1
"""How often a waiter looks that may not subscribe to channels."""
_LONG_AGO_US = 10**14
_END_US = 10**16 - 1

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


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some settled jobs, newest first."""

    outcomes: tuple[tuple[str, Outcome], ...]
    """Each with its place in the account's list."""
    older: str | None
    """The place before which the next page begins; None where there is nothing older."""
    cut_short: bool = False
    """Whether the time was up before the page was full."""


class Outcomes:
    """Reads an account's outcomes.

    All methods raise `redis.RedisError` when Redis fails.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client_of(client, keys.prefix)
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

    def ids_of(self, email: str) -> list[str]:
        """Ids of the jobs that wait in an email's mailbox, and of those in its history."""
        mailbox_id = mailbox_id_of(email)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(self._keys.of("mailbox", mailbox_id))
        pipeline.hgetall(self._keys.of("email", mailbox_id))
        mailbox, history = map(_undamaged, pipeline.execute(raise_on_error=False))
        settled = [job for field, job in (history or {}).items() if re.fullmatch("@[0-9]+", field)]
        return [*_jobs_of(mailbox or {}), *settled]

    def of_email(self, email: str, *, limit: int = 100) -> list[Outcome]:
        """The email's jobs, newest first: those that wait, and of the settled ones the last 100.

        With 100,000 jobs in the inbox, to look through it takes about a second.
        """
        email = normalized_email(email)
        # First: a job goes from the inbox to its mailbox, and on to the history.
        in_inbox = {job: wire for job, wire in self.inbox() if belongs_to(wire, email)}
        ids = list(dict.fromkeys([*in_inbox, *self.ids_of(email)]))
        found = [
            _described(each, in_inbox.get(each.job_id))
            for each in self.many(ids)
            if each is not None
        ]
        latest = datetime.max.replace(tzinfo=UTC)
        # What no worker has accepted yet came last; ids sort by when they were made.
        found.sort(key=lambda each: (each.accepted_at or latest, each.job_id), reverse=True)
        return found[:limit]

    def inbox(self) -> Iterator[tuple[str, str]]:
        """Ids and documents of the jobs that no worker has accepted yet, in no order."""
        cursor = 0
        while True:
            cursor, documents = self._client.hscan(self._keys.inbox, cursor, count=_PAGE)
            yield from documents.items()
            if cursor == 0:
                return

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
        return list(islice(self.all_settled(statuses=statuses, since=since), limit))

    def all_settled(
        self, *, statuses: Collection[Status] = (), since: timedelta | None = None
    ) -> Iterator[Outcome]:
        """As `recent`, without a limit: as many as the account lists (about 250,000)."""
        oldest = f"{(self.now() - since).timestamp() * 1000:.0f}" if since is not None else "-"
        newest = "+"
        seen: set[str] = set()
        while True:
            entries = self._client.xrevrange(
                self._keys.outcomes, max=newest, min=oldest, count=_PAGE
            )
            # A replayed job is in the stream more than once, and may stand otherwise by now.
            for outcome in self.many(_wanted(entries, statuses)):
                if outcome is None or outcome.job_id in seen:
                    continue
                if not statuses or outcome.status in statuses:
                    seen.add(outcome.job_id)
                    yield outcome
            if len(entries) < _PAGE:
                return
            newest = f"({entries[-1][0]}"

    def pending(self, *, since: timedelta | None = None, limit: int = 100) -> list[Outcome]:
        """Jobs that are not settled, those that wait longest first, be it in the inbox.

        Where many emails wait, these are the jobs of the ones that are next in line.

        Args:
            since: the age of the oldest wanted, by Redis's clock.
        """
        arrived, mailboxes = self._first_in_line(limit)
        found: dict[str, tuple[datetime, Outcome]] = {}
        ids = [*arrived, *(job for page in pages(mailboxes) for job in self._jobs_in(page))]
        for page in pages(list(dict.fromkeys(ids))):
            wires = self._client.hmget(self._keys.inbox, map(as_bytes, page))
            for outcome, wire in zip(self.many(page), wires, strict=True):
                if outcome is not None and not outcome.settled:
                    came = outcome.accepted_at or arrived.get(outcome.job_id) or self.now()
                    found[outcome.job_id] = (came, _described(outcome, wire))
        oldest = self.now() - since if since is not None else datetime.min.replace(tzinfo=UTC)
        waiting = sorted(found.values(), key=lambda each: (each[0], each[1].job_id))
        return [outcome for came, outcome in waiting if came >= oldest][:limit]

    def all_pending(self) -> Iterator[Outcome]:
        """As `pending`, without a limit and in no order: each job that waits all the time."""
        seen: set[str] = set()
        for ids in self._all_waiting():
            fresh = [job_id for job_id in dict.fromkeys(ids) if job_id not in seen]
            seen.update(fresh)
            for outcome in self.many(fresh):
                if outcome is not None and not outcome.settled:
                    yield outcome

    def _first_in_line(self, limit: int) -> tuple[dict[str, datetime], list[str]]:
        """Of the inbox, jobs and when they came; and mailboxes: the first of each lane."""
        pipeline = self._client.pipeline(transaction=True)
        for name in ("inbox:live", "inbox:bulk"):
            pipeline.zrange(self._keys.of(name), 0, limit - 1, withscores=True)
        pipeline.zrange(self._keys.of("inbox:taken"), 0, limit - 1)
        for name in _PLACES:
            pipeline.zrange(self._keys.of(name), 0, limit - 1)
        live, bulk, taken, *places = pipeline.execute()
        arrivals = [*live, *bulk]
        arrivals += [(job, arrived) for _, arrived, job in (each.split(" ", 2) for each in taken)]
        came = {job: _arrival(float(score)) for job, score in arrivals}
        return came, list(dict.fromkeys(chain.from_iterable(places)))

    def _all_waiting(self) -> Iterator[list[str]]:
        """Ids of waiting jobs, some at a time: of the inbox first, as a job goes from there."""
        for page in pages(job_id for job_id, _ in self.inbox()):
            yield page
        for name in _PLACES:
            places = self._client.zscan_iter(self._keys.of(name), count=_PAGE)
            for page in pages(mailbox for mailbox, _ in places):
                yield self._jobs_in(page)

    def _jobs_in(self, mailboxes: Sequence[str]) -> list[str]:
        pipeline = self._client.pipeline(transaction=False)
        for mailbox in mailboxes:
            pipeline.hgetall(self._keys.of("mailbox", mailbox))
        boxes = pipeline.execute(raise_on_error=False) if mailboxes else []  # one may be damaged
        return [job for box in boxes if isinstance(box, dict) for job in _jobs_of(box)]

    def page(
        self,
        *,
        statuses: Collection[Status] = (),
        reason: str = "",
        since: timedelta | None = None,
        before: str = "",
        limit: int = 50,
        within_s: float = 0.5,
    ) -> Page:
        """A page of the jobs that were settled, newest first, within a bounded time.

        Args:
            statuses: only these, if any are given.
            reason: only with this one, if it is given.
            since: the age of the oldest wanted, by Redis's clock.
            before: only what is older than this place, which an earlier page gave.
            limit: of jobs.
            within_s: seconds after which a search for rare ones ends; the next page goes on.
        """
        ends_s = time.monotonic() + within_s
        oldest = f"{(self.now() - since).timestamp() * 1000:.0f}" if since is not None else "-"
        rare = bool(statuses or reason)
        count = _FAR_PAGE if rare else limit
        found: list[tuple[str, Outcome]] = []
        seen: set[str] = set()
        newest = f"({before}" if before else "+"
        while True:
            entries = self._client.xrevrange(
                self._keys.outcomes, max=newest, min=oldest, count=count
            )
            wanted = [
                (place, fields["job"])
                for place, fields in entries
                if not statuses or fields["status"] in statuses
            ]
            for start in range(0, len(wanted), _PAGE):
                part = wanted[start : start + _PAGE]
                outcomes = self.many([job_id for _, job_id in part])
                for (place, job_id), outcome in zip(part, outcomes, strict=True):
                    # A replayed job is there more than once, and may stand otherwise by now.
                    if outcome is None or job_id in seen or not outcome.settled:
                        continue
                    if statuses and outcome.status not in statuses:
                        continue
                    if reason and outcome.reason != reason:
                        continue
                    seen.add(job_id)
                    found.append((place, outcome))
                    if len(found) == limit:
                        return Page(outcomes=tuple(found), older=place)
                if part and time.monotonic() > ends_s:
                    return Page(outcomes=tuple(found), older=part[-1][0], cut_short=True)
            if len(entries) < count:
                return Page(outcomes=tuple(found), older=None)
            newest = f"({entries[-1][0]}"
            if time.monotonic() > ends_s:
                return Page(outcomes=tuple(found), older=entries[-1][0], cut_short=True)

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
        answers = pipeline.execute(raise_on_error=False) if job_ids else []
        each_three = zip(*[map(_undamaged, answers)] * 3, strict=True)
        return [
            self._outcome(job_id, *three) for job_id, three in zip(job_ids, each_three, strict=True)
        ]

    def _outcome(
        self, job_id: str, settled: str | None, pending: dict[str, str] | None, in_inbox: bool
    ) -> Outcome | None:
        """What these say of a job. Nothing, where it is damaged: it costs no other job."""
        try:
            if settled:
                return outcome_of(job_id, self._keys.account, _fields(settled))
            if pending or in_inbox:
                return outcome_of(job_id, self._keys.account, pending or {})
        except (ValueError, KeyError, TypeError):
            pass
        return None


def _undamaged(answer: Any) -> Any:
    """An answer; None for a key that something else wrote."""
    if isinstance(answer, redis.ResponseError) and code_of(answer) == "WRONGTYPE":
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer


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


def pages(items: Iterable[T]) -> Iterator[list[T]]:
    """The items, some hundred at a time."""
    iterator = iter(items)
    while page := list(islice(iterator, _PAGE)):
        yield page


def _arrival(score: float) -> datetime:
    """When a job came. Another language's publisher may have written milliseconds, or anything."""
    microseconds = score * 1000 if score < _LONG_AGO_US else score
    return time_of(int(min(max(microseconds, 0), _END_US)))


def _jobs_of(mailbox: Mapping[str, str]) -> list[str]:
    """Ids of the jobs whose values are in a mailbox (`lua/_mailbox.lua`)."""
    return [entry[16:52] for field, entry in mailbox.items() if field.startswith("#")]


def _described(outcome: Outcome, wire: str | None) -> Outcome:
    """With what its document says, for a job that is in the inbox."""
    if wire is None or outcome.email is not None or outcome.settled:
        return outcome
    seen = glance(wire)
    return replace(outcome, email=seen.email, keys=seen.keys, lane=seen.lane)


def is_of_email(settled: str, email: str) -> bool:
    """Whether this is the outcome of a job of an email, as `normalized_email` has it."""
    if settled.isascii() and "\\" not in settled and email not in settled.lower():
        return False  # there may be millions
    try:
        named = json.loads(settled).get("e")
    except ValueError:
        return False
    return isinstance(named, str) and normalized_email(named) == email


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
