"""An account as a whole: how it stands, what holds it back, and what it needs next."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import redis

from ..jobs.job import time_of
from ..jobs.outcome import REPLAYABLE, STATUSES, Status
from .counts import Counts, counts_of, delivered_per_s
from .keys import Keys
from .scripts import Script
from .shards import client_of
from .workers import Worker, alive

STEP_SHOWN_S = 3600
"""A step of Redis's clock is shown for so long."""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Why nothing is delivered for an account."""

    by: Literal["account", "operator"]
    """`account` resumes by itself, when a ping is answered; `operator` by `courier resume`."""
    reason: str
    since: datetime
    next_probe_at: datetime | None
    code: str = ""
    """What came back, where that paused it: an HTTP status, or `own_side`."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Many emails failed in a row: while the circuit is open, single deliveries are let through."""

    reason: str
    opened_at: datetime
    next_probe_at: datetime


@dataclass(frozen=True, kw_only=True)
class Lane:
    """Emails that are due, in one lane."""

    due: int
    oldest_s: float
    """Seconds since the first of them became due."""


@dataclass(frozen=True, kw_only=True)
class ClockStep:
    """A step of Redis's clock, seen by a worker."""

    step_s: float
    """Seconds ahead; below 0: back."""
    at: datetime
    """By Redis's clock after it."""


@dataclass(frozen=True, kw_only=True)
class AccountStatus:
    """How an account stands, at one moment."""

    account: str
    at: datetime
    """The moment, by Redis's clock."""
    inbox: int
    """Jobs that no worker has accepted yet."""
    inbox_live: Lane
    inbox_bulk: Lane
    """Of these, the jobs in each lane, since they arrived."""
    live: Lane
    bulk: Lane
    failing: Lane
    """Emails on which the server failed the last time."""
    later: int
    """Emails that are to be tried again later."""
    in_flight: int
    """Emails that a worker delivers now."""
    rate: float
    """Requests a second that may leave now."""
    rate_limit: float
    """Requests a second allowed here."""
    requests_per_s: float
    """Requests that left within the last second."""
    delivered_per_s: float
    """Jobs that were delivered within the last 10 to 20 seconds, a second."""
    last_delivered_at: datetime | None
    """By Redis's clock."""
    held_for_s: float
    """Seconds that ChartMogul has asked to wait for; 0 for none."""
    pause: Pause | None
    circuit: Circuit | None
    failing_in_a_row: int
    """Emails on which the server failed, one after the other, with no success between."""
    failing_reason: str | None
    """What the last of these answers was."""
    workers: tuple[Worker, ...]
    """Workers that are alive and serve this account."""
    clock_step: ClockStep | None
    """The last step of Redis's clock, within an hour."""
    clock_steps: int
    """Steps of Redis's clock since the account began."""
    repairs: int
    """Mailboxes and jobs that nothing pointed to, and that were found."""
    counts: Counts
    """What was counted since the account began."""
    hour: Counts
    """What was counted within the last hour."""
    layout: str | None
    """Which form the account's keys have; None before a worker has been there."""

    @property
    def inbox_oldest_s(self) -> float:
        """Seconds since the oldest job came that no worker has accepted."""
        return max(self.inbox_live.oldest_s, self.inbox_bulk.oldest_s)

    @property
    def last_hour(self) -> dict[Status, int]:
        """How many jobs were settled with which outcome within the last hour."""
        found = self.hour.by_status()
        return {status: found[status] for status in STATUSES if status in found}

    @property
    def waiting(self) -> int:
        """Jobs and emails that could be delivered now, as far as they are concerned."""
        return self.inbox + self.live.due + self.bulk.due + self.failing.due

    def oldest_s(self, lane: Literal["live", "bulk"]) -> float:
        """Seconds that the first job or email of a lane has been waiting."""
        inbox = {"live": self.inbox_live, "bulk": self.inbox_bulk}[lane]
        due = {"live": self.live, "bulk": self.bulk}[lane]
        return max(inbox.oldest_s, due.oldest_s)

    @property
    def state(self) -> str:
        """`paused`, `circuit open`, `held`, `slowed` or `running`."""
        if self.pause:
            return "paused"
        if self.circuit:
            return "circuit open"
        if self.held_for_s:
            return "held"
        return "slowed" if self.rate < 0.99 * self.rate_limit else "running"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What an account needs that no message may have asked for."""

    accept: bool
    """Jobs wait in the inbox."""
    deliver: bool
    """Emails are due, and no stint waits for them."""
    probe: bool
    """A paused account is to be asked whether it works again."""
    soonest_s: float
    """Seconds until the next of these is expected."""


class AccountHealth:
    """What concerns an account as a whole. All methods raise `redis.RedisError` when Redis fails.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        rate_limit: requests a second that the account may spend here.
        max_parallel: its requests in flight.
        probe_delays_s: seconds before each ping of a paused account; the last one repeats.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        rate_limit: float,
        max_parallel: int = 20,
        probe_delays_s: tuple[float, ...] = (60.0,),
    ) -> None:
        self._client = client_of(client, keys.prefix)
        self._keys = keys
        self._rate_limit = rate_limit
        self._max_parallel = max_parallel
        self._probe_delays_us = [round(delay_s * 1e6) for delay_s in probe_delays_s]
        (
            self._look,
            self._probe,
            self._pause,
            self._resume,
            self._step,
            self._status,
            self._replay,
        ) = (
            Script(client, keys.prefix, name)
            for name in ("look", "probe", "pause", "resume", "step", "status", "replay")
        )

    def look(self, within_s: float) -> Needs:
        """See what the account needs, now or within some seconds."""
        accept, deliver, probe, soonest_us = self._look(
            rate_limit=self._rate_limit,
            max_parallel=self._max_parallel,
            within_us=round(within_s * 1e6),
        )
        return Needs(
            accept=bool(accept),
            deliver=bool(deliver),
            probe=bool(probe),
            soonest_s=soonest_us / 1e6,
        )

    def probe_is_due(self) -> bool:
        """Whether it is this caller's turn to ask if a paused account works again."""
        return bool(self._probe(probe_delays_us=self._probe_delays_us))

    def pause(self, reason: str) -> None:
        """Deliver nothing until `resume`."""
        self._pause(reason=reason)

    def resume(self) -> bool:
        """Go on, whatever holds the account back. False when nothing did."""
        return bool(self._resume())

    def resume_after_probe(self) -> bool:
        """Go on if the account's own fault was what paused it."""
        return bool(self._resume(by="account"))

    def held_by(self) -> str | None:
        """In words, why the account is paused or its circuit open; None when it is neither."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hget(self._keys.of("pause"), "reason")
        pipeline.hmget(self._keys.of("circuit"), "opened", "reason")
        paused, (opened, failing) = pipeline.execute()
        return paused or (failing if opened else None)

    def replay(self, job_id: str) -> bool:
        """Put a job back into the inbox, as it was asked for.

        False when it did not end failed, unmatched, unconfirmed or refused, or is known no more.
        """
        return bool(self._replay(job=job_id, statuses=REPLAYABLE))

    def types(self, keys: Sequence[str]) -> dict[str, str]:
        """Of each attribute key that was sent from here before, the type that was used first."""
        types = self._client.hmget(self._keys.of("types"), keys) if keys else []
        return {key: type_ for key, type_ in zip(keys, types, strict=True) if type_ is not None}

    def note_step(self, step_s: float) -> bool:
        """Note a step of Redis's clock for `status`. False when another worker has noted it."""
        return bool(self._step(step_us=round(step_s * 1e6)))

    def status(self) -> AccountStatus:
        """How the account stands now."""
        found = json.loads(self._status(rate_limit=self._rate_limit))
        now_us = int(found["redis_us"])
        now = time_of(now_us)
        lanes = {name: _lane(now_us, lane) for name, lane in found["lanes"].items()}
        circuit, clock = found.get("circuit") or {}, found.get("clock") or {}
        fields = found["counts"] or {}  # Lua writes an empty table as a list
        counted = fields.get("now") or {}
        counts, hour = counts_of(now, counted), counts_of(now, fields.get("hour") or {})
        delivered_at = counted.get("delivered_at")
        return AccountStatus(
            account=self._keys.account,
            at=now,
            inbox=int(found["inbox"]),
            **lanes,
            later=int(found["later"]),
            in_flight=int(found["in_flight"]),
            rate=float(found["rate"]),
            rate_limit=self._rate_limit,
            requests_per_s=float(found["requests"]),
            delivered_per_s=delivered_per_s(now_us, counted),
            last_delivered_at=time_of(int(delivered_at)) if delivered_at else None,
            held_for_s=int(found["hold_us"]) / 1e6,
            pause=_pause(found.get("pause"), now),
            circuit=_circuit(circuit, now),
            failing_in_a_row=int(circuit.get("emails", 0)),
            failing_reason=circuit.get("reason"),
            workers=tuple(alive(found.get("workers") or {}, now_us)),
            clock_step=_clock_step(clock, now),
            clock_steps=int(clock.get("steps", 0)),
            repairs=int((found.get("repairs") or {}).get("count", 0)),
            counts=counts,
            hour=counts.since(hour),
            layout=found.get("layout") or None,
        )


def _lane(now_us: int, lane: Mapping[str, Any]) -> Lane:
    return Lane(due=int(lane["due"]), oldest_s=_age_s(now_us, lane.get("since")))


def _pause(fields: Mapping[str, str] | None, now: datetime) -> Pause | None:
    if not fields:
        return None
    return Pause(
        by="operator" if fields["by"] == "operator" else "account",
        reason=fields["reason"],
        since=time_of(int(fields["since"])),
        next_probe_at=_after(now, fields["next_us"]) if "next_us" in fields else None,
        code=fields.get("code", ""),
    )


def _circuit(fields: Mapping[str, str] | None, now: datetime) -> Circuit | None:
    if not fields or "opened" not in fields:
        return None
    return Circuit(
        reason=fields["reason"],
        opened_at=time_of(int(fields["opened"])),
        next_probe_at=_after(now, fields["next_us"]),
    )


def _clock_step(fields: Mapping[str, str], now: datetime) -> ClockStep | None:
    if "stepped" not in fields:
        return None
    at = time_of(int(fields["stepped"]))
    if abs((now - at).total_seconds()) > STEP_SHOWN_S:
        return None
    return ClockStep(step_s=int(fields["step"]) / 1e6, at=at)


def _after(now: datetime, microseconds: str) -> datetime:
    return now + timedelta(microseconds=int(microseconds))


def _age_s(now_us: int, since_us: str | None) -> float:
    return max(0.0, (now_us - float(since_us)) / 1e6) if since_us else 0.0
