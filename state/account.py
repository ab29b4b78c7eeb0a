"""How an account fares: its pace, its server, its key. State beside its mailboxes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import redis

from ..jobs.job import time_of
from ..jobs.outcome import STATUSES, Status
from .keys import Keys
from .mailboxes import Departure, pairs
from .scripts import Call, transition

if TYPE_CHECKING:
    from ..worker.verdicts import Verdict

CIRCUIT_OPENS_AT = 10
"""Failures of the server in a row, over all emails, that open the circuit."""

LATE_S = 0.005
"""A request that is so much later than planned is planned, or at last counted, anew."""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Why nothing is delivered for an account."""

    by: Literal["account", "operator"]
    """`account` resumes by itself, when a ping is answered; `operator` by `courier resume`."""
    reason: str
    since: datetime
    next_probe_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A run of server failures; while it is open, one delivery at a time is let through."""

    reason: str
    opened_at: datetime
    next_probe_at: datetime


@dataclass(frozen=True, kw_only=True)
class LaneDepth:
    """What waits in a lane."""

    due: int
    """Emails whose time has come."""
    later: int
    """Emails that are to be tried again later."""
    oldest_s: float
    """Seconds since the earliest of them became due."""


@dataclass(frozen=True, kw_only=True)
class AccountStatus:
    """How an account fares, at one moment."""

    account: str
    inbox: int
    """Jobs that no worker has accepted yet."""
    inbox_oldest_s: float
    """Seconds since the oldest of them came, or was last taken by a worker."""
    live: LaneDepth
    bulk: LaneDepth
    in_flight: int
    """Emails that a worker holds a lease of."""
    rate: float
    """Requests a second now."""
    rate_limit: float
    """Requests a second allowed here."""
    held_for_s: float
    """Seconds that ChartMogul has asked to wait for; 0 for none."""
    pause: Pause | None
    circuit: Circuit | None
    last_hour: dict[Status, int]
    """How many jobs came to which end."""

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


class AccountHealth:
    """What concerns an account as a whole.

    Args:
        client: a connection with `decode_responses`.
        keys: the account's keys.
        rate_limit: requests a second that the account may spend here.
        probe_delays_s: seconds before each ping of a paused account; the last one repeats.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        rate_limit: float,
        probe_delays_s: tuple[float, ...],
    ) -> None:
        self._keys = keys
        self._rate_limit = rate_limit
        self._probe_delays_ms = [round(delay_s * 1000) for delay_s in probe_delays_s]

        self._depart = transition(client, "depart")
        self._late = transition(client, "late")
        self._observe = transition(client, "observe")
        self._probe = transition(client, "probe")
        self._pause = transition(client, "pause")
        self._resume = transition(client, "resume")
        self._fare = transition(client, "fare")

    def departing(self, planned: Departure) -> Callable[[], AbstractContextManager[None]]:
        """For the sending of a request that was claimed: waits until it may leave."""

        @contextmanager
        def departing() -> Iterator[None]:
            departure = planned
            departure.wait()
            if departure.late_s() > LATE_S:  # as one that had to connect first is
                departure = self._planned_anew(planned)
                departure.wait()
            yield
            late_s = departure.late_s()
            if late_s > LATE_S:
                with suppress(redis.RedisError):
                    left_us = departure.at_us + round(late_s * 1e6)
                    self._call(self._late, departure.at_us, left_us)

        return departing

    def _planned_anew(self, planned: Departure) -> Departure:
        asked_s = time.monotonic()
        try:
            plan = self._call(self._depart, self._rate_limit, planned.at_us)
        except redis.RedisError:
            return planned
        return Departure.of(plan, asked_s)

    def observe_call(self, verdict: Verdict, *, claimed_us: int, reason: str) -> Call[bool]:
        """Draw the conclusions of an answer for the account: hold, slow down, open or close the
        circuit, pause.

        `claimed_us` is when the request was claimed, by Redis's clock; `reason` the answer's words,
        without what is private, for `courier status`.

        Returns:
            Whether this answer is the one that paused the account.
        """
        retry_after_s = verdict.retry_after_s
        args = [
            verdict.kind,
            claimed_us,
            self._rate_limit,
            "" if retry_after_s is None else round(retry_after_s * 1000),
            reason,
            CIRCUIT_OPENS_AT,
            *self._probe_delays_ms,
        ]
        return Call(self._observe, [self._keys.prefix], args, bool)

    def probe_is_due(self) -> bool:
        """Whether it is this caller's turn to ask if a paused account works again."""
        return bool(self._call(self._probe, *self._probe_delays_ms))

    def pause(self, reason: str) -> None:
        """Deliver nothing until `resume`."""
        self._call(self._pause, reason)

    def resume(self) -> bool:
        """Go on, whatever holds the account back. False when nothing did."""
        return bool(self._call(self._resume, ""))

    def resume_after_probe(self) -> bool:
        """Go on if the account's own fault was what paused it."""
        return bool(self._call(self._resume, "account"))

    def fare(self) -> AccountStatus:
        """How the account fares now."""
        now, inbox, oldest_ms, lanes, in_flight, rate, hold, pause, circuit, ended = self._call(
            self._fare, self._rate_limit
        )
        now_us = int(now)
        counts: Counter[str] = Counter()
        for minute in ended:
            counts.update({status: int(count) for status, count in pairs(minute)})
        live, bulk = (_lane(now_us, *lane) for lane in lanes)
        return AccountStatus(
            account=self._keys.account,
            inbox=inbox,
            inbox_oldest_s=_age_s(now_us, float(oldest_ms) * 1000) if oldest_ms else 0.0,
            live=live,
            bulk=bulk,
            in_flight=in_flight,
            rate=float(rate),
            rate_limit=self._rate_limit,
            held_for_s=max(0.0, (int(hold) - now_us) / 1e6),
            pause=_pause(dict(pairs(pause))) if pause else None,
            circuit=_circuit(dict(pairs(circuit))),
            last_hour={status: counts[status] for status in STATUSES if counts[status]},
        )

    def _call(self, script: Any, *args: str | float) -> Any:
        return script(keys=[self._keys.prefix], args=args)


def _lane(now_us: int, due: int, later: int, earliest_us: str) -> LaneDepth:
    oldest_s = _age_s(now_us, float(earliest_us)) if due else 0.0
    return LaneDepth(due=due, later=later, oldest_s=oldest_s)


def _pause(fields: dict[str, str]) -> Pause:
    return Pause(
        by="operator" if fields["by"] == "operator" else "account",
        reason=fields["reason"],
        since=time_of(int(fields["since"])),
        next_probe_at=time_of(int(fields["probe"])) if "probe" in fields else None,
    )


def _circuit(fields: dict[str, str]) -> Circuit | None:
    if "opened" not in fields:
        return None
    return Circuit(
        reason=fields["reason"],
        opened_at=time_of(int(fields["opened"])),
        next_probe_at=time_of(int(fields["next"])),
    )


def _age_s(now_us: int, then_us: float) -> float:
    return max(0.0, (now_us - then_us) / 1e6)
