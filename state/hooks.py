"""Hooks: which settled jobs and events of an account were handed over, and which not yet.

Settled jobs stand in the stream `outcomes`, events of the account in `events`, whether or not
anybody is told of them. One relay at a time reads on in both; what its receiver refused is set
aside. Of jobs, nothing but the id and the status is kept for it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import redis

from ..jobs.job import time_of
from .keys import Keys
from .scripts import Script
from .shards import client_of

BACKLOG_OLD_S = 300.0
"""An account whose oldest job or email waits for longer than this has a backlog that is too old."""
LEASE_S = 3.0
"""So long, in the account's time, a relay that says nothing keeps others from taking its place."""
_SKIP_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class Record:
    """An entry of one of the two streams."""

    stream: Literal["outcomes", "events"]
    id: str
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        """Under which it is set aside."""
        return self.stream[0] + self.id

    @property
    def ms(self) -> int:
        """When it was written, by Redis's clock, in milliseconds since 1970."""
        return int(self.id.partition("-")[0])

    @property
    def at(self) -> datetime:
        return time_of(self.ms * 1000)

    @property
    def status(self) -> str:
        """Of the job; `event` for an event of the account. What is dropped is counted by it."""
        return self.fields.get("status", "unknown") if self.stream == "outcomes" else "event"


@dataclass(frozen=True, kw_only=True)
class Aside:
    """An entry that the receiver refused, or that waits behind one of the same email."""

    record: Record
    since_us: int
    """Account time at which it was set aside."""
    failures: int


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What is handed over no more."""

    id: str
    counts: Mapping[str, int]
    """By status of the job. `event`: of the account; `unknown`: lost before they were read."""
    since: datetime
    until: datetime
    """When the first and the last of them happened."""

    @property
    def count(self) -> int:
        return sum(self.counts.values())


@dataclass(kw_only=True)
class Progress:
    """What a relay has to note. All of it may be noted twice."""

    done: dict[str, str] = field(default_factory=dict)
    """Fields of the hash `hooks`."""
    aside: dict[str, Aside] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """Names of entries that are no longer aside."""
    too_old: dict[str, Record] = field(default_factory=dict)
    """The same of those that are dropped."""
    batch: str = field(default_factory=lambda: secrets.token_hex(4))
    """By which it is known that they are counted already."""
    failing: dict[str, str] | None = None
    """`since`, `error`, `at`; empty: the receiver takes events. None: as before."""
    told: str | None = None
    """Id of the `Dropped` that the receiver was told."""
    missed: tuple[int, Record] | None = None
    """How many events are lost, and the first one after them."""
    caught_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """How the relay stands after a step."""

    account_us: int
    redis_us: int
    fields: Mapping[str, str]
    """The hash `hooks`."""
    behind: int | None
    """Settled jobs that were not handed over; None where it was not asked, or nobody counts."""
    records: Sequence[Record]
    """What comes next in the two streams."""
    dropped: Dropped | None
    """What the receiver is to be told."""


@dataclass(frozen=True, kw_only=True)
class HookStatus:
    """How the hooks of an account stand, for people."""

    behind: int | None
    """Settled jobs that were not handed over yet, of whatever status; None where nobody counts."""
    aside: int
    """Events that the receiver refused, and those of the same emails behind them."""
    oldest_at: datetime | None
    """When the first event happened that waits."""
    failing_since: datetime | None
    """Since when the receiver has taken nothing; None while it takes events."""
    error: str | None
    """Why, in words."""
    error_at: datetime | None
    taken: int
    """Events that it took."""
    taken_at: datetime | None
    """When it took the last one."""
    dropped: int
    """Events that were dropped, since it did not take them in time."""


class Hooks:
    """The hooks of one account. All methods raise `redis.RedisError` when Redis fails.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client_of(client, keys.prefix)
        self._keys = keys
        self._relay, self._drop, self._watch = (
            Script(client, keys.prefix, name) for name in ("relay", "relay_drop", "watch")
        )

    def begin(self) -> None:
        """Make sure that whatever happens from now on is handed over."""
        self._relay(begin=True, token="")

    def step(
        self,
        token: str,
        *,
        holds: bool,
        progress: Progress | None = None,
        after: Mapping[str, str] | None = None,
        most: int = 0,
        tell: bool = False,
        measure: bool = False,
        release: bool = False,
    ) -> Step | None:
        """Take or keep the lease, note the progress, and read on. None: another relay has it.

        Args:
            token: of this relay.
            holds: whether it has the lease, as far as it knows. If not any more, nothing is noted.
            after: stream → the entry behind which to read; else behind what is done.
            most: entries to read of each stream.
            tell: whether what was dropped is to be told now.
            measure: whether to say how far behind it is.
            release: give the lease back.
        """
        arg: dict[str, object] = {
            "token": token,
            "lease_us": round(LEASE_S * 1e6),
            "holds": holds,
            "tell": tell,
            "measure": measure,
            "release": release,
            "most": most,
        }
        if after:
            arg["from"] = dict(after)
        if progress is not None:
            arg |= _progress_args(progress)
        answer = json.loads(self._relay(**arg))
        if not answer["held"]:
            return None
        fields = answer["hooks"]
        return Step(
            account_us=int(answer["account_us"]),
            redis_us=int(answer["redis_us"]),
            fields=fields,
            behind=int(answer["behind"]) if "behind" in answer else None,
            records=[
                Record(stream=stream, id=entry["id"], fields=_pairs(entry["fields"]))
                for stream in ("outcomes", "events")
                for entry in answer[stream] or ()
            ],
            dropped=_dropped(fields["notice"]) if "notice" in fields else None,
        )

    def asides(self) -> list[Aside]:
        """What is set aside, in the order in which it happened."""
        found = []
        for name, content in self._client.hgetall(self._keys.of("hooks", "aside")).items():
            known = json.loads(content)
            record = Record(
                stream="outcomes" if name[0] == "o" else "events",
                id=name[1:],
                fields=known["fields"],
            )
            found.append(
                Aside(record=record, since_us=int(known["since"]), failures=known["failures"])
            )
        return sorted(found, key=lambda aside: _place(aside.record))

    def drop(
        self,
        token: str,
        after: str,
        *,
        statuses: Collection[str],
        done: Collection[str] = (),
        most: int | None = None,
        before_ms: int | None = None,
    ) -> tuple[int, str]:
        """Pass over the oldest settled jobs that were not handed over, and count them.

        Args:
            after: where the relay stands in `outcomes`.
            statuses: of jobs that are told of: others are passed over and not counted.
            done: ids of entries that were taken, dropped or set aside meanwhile.
            most: of them; some at once, in any case.
            before_ms: only those that were settled before this, by Redis's clock.

        Returns:
            How many were passed over, and the entry where the relay stands now.
        """
        arg: dict[str, object] = {
            "token": token,
            "from": after,
            "most": min(most or _SKIP_AT_ONCE, _SKIP_AT_ONCE),
            "statuses": sorted(statuses),
            "done": list(done),
        }
        if before_ms is not None:
            arg["before_ms"] = before_ms
        passed, last = self._drop(**arg)
        return int(passed), last

    def watch(self, *, old_s: float = BACKLOG_OLD_S) -> bool:
        """Note an event if the backlog is too old, or no longer so. Whether one was noted."""
        return bool(self._watch(old_us=round(old_s * 1e6)))

    def status(self) -> HookStatus | None:
        """How the hooks stand; None where no worker has ever had any."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(self._keys.of("hooks"))
        pipeline.hkeys(self._keys.of("hooks", "aside"))
        pipeline.hgetall(self._keys.of("counts"))
        fields, aside, counts = pipeline.execute()
        if not fields:
            return None
        following = self._client.xrange(self._keys.outcomes, min=f"({fields['outcomes']}", count=1)
        waiting = [name[1:] for name in aside] + [entry_id for entry_id, _ in following]
        oldest_ms = min((int(each.partition("-")[0]) for each in waiting), default=None)
        settled = sum(int(count) for name, count in counts.items() if name.startswith("jobs:"))
        return HookStatus(
            behind=max(0, settled - int(fields.get("handled", 0))) if counts else None,
            aside=len(aside),
            oldest_at=None if oldest_ms is None else time_of(oldest_ms * 1000),
            failing_since=_time(fields.get("failing_since")),
            error=fields.get("error"),
            error_at=_time(fields.get("error_at")),
            taken=int(fields.get("taken", 0)),
            taken_at=_time(fields.get("taken_at")),
            dropped=int(fields.get("dropped", 0)),
        )


def _progress_args(progress: Progress) -> dict[str, object]:
    arg: dict[str, object] = {"caught_up": progress.caught_up}
    if progress.done:
        arg["done"] = progress.done
    if progress.aside:
        arg["aside"] = {
            name: json.dumps(
                {
                    "since": str(aside.since_us),
                    "failures": aside.failures,
                    "fields": dict(aside.record.fields),
                },
                separators=(",", ":"),
            )
            for name, aside in progress.aside.items()
        }
    if progress.gone:
        arg["gone"] = progress.gone
    if progress.too_old:
        arg["batch"] = progress.batch
        arg["too_old"] = {
            name: {"status": record.status, "ms": record.ms}
            for name, record in progress.too_old.items()
        }
    if progress.failing is not None:
        arg["failing"] = progress.failing
    if progress.told is not None:
        arg["told"] = progress.told
    if progress.missed is not None:
        count, following = progress.missed
        arg["missed"] = {
            "count": count,
            "n": int(following.fields["n"]),
            "ms": following.ms,
        }
    return arg


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _place(record: Record) -> tuple[int, int]:
    milliseconds, _, number = record.id.partition("-")
    return int(milliseconds), int(number or 0)


def _dropped(notice: str) -> Dropped:
    known = json.loads(notice)
    return Dropped(
        id=known["id"],
        counts={status: int(count) for status, count in known["counts"].items()},
        since=time_of(int(known["from"]) * 1000),
        until=time_of(int(known["to"]) * 1000),
    )


def _time(microseconds: str | None) -> datetime | None:
    return time_of(int(microseconds)) if microseconds else None
