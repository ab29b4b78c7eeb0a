"""The log of all requests, to assert on. No credentials ever come here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what became of it. `None` in `ended_s` says that it is still in progress.

    number: Place in the order of arrival, from 1.
    arrived_s, ended_s: Monotonic clock, in seconds; the same for all processes of a machine.
    wall_time_s: Seconds since the epoch at arrival.
    account: The account's name; None when no valid key was sent.
    email, custom: As received, whatever they were; None when the request had none to read.
    status: As answered; None when no answer was begun.
    fault: Kind of the fault that struck it.
    applied: Whether a customer was changed.
    in_progress: Requests of the account in progress when it arrived, this one included.
    overlaps: Numbers of the requests for the same email that were in progress when it arrived.
    """

    number: int
    arrived_s: float
    wall_time_s: float
    method: str
    path: str
    account: str | None
    email: Any = None
    custom: Any = None
    ended_s: float | None = None
    status: int | None = None
    fault: str | None = None
    applied: bool = False
    in_progress: int = 0
    overlaps: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = tuple(field.name for field in fields(Exchange))


class RequestLog:
    """All requests in order of arrival, with the totals that a bounded log could not give."""

    def __init__(self, size: int = 200_000) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=size)
        self._open: dict[tuple[str | None, str], list[int]] = {}
        self._number = 0
        self._applied = 0
        self._statuses: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._overlaps = 0

    def open(self, **request: Any) -> Exchange:
        """Enter a request that has arrived."""
        self._number += 1
        exchange = Exchange(number=self._number, **request)
        self._exchanges.append(exchange)
        if isinstance(exchange.email, str):
            others = self._open.setdefault((exchange.account, exchange.email), [])
            if others:
                exchange.overlaps = tuple(others)
                self._overlaps += 1
            others.append(exchange.number)
        return exchange

    def close(self, exchange: Exchange, now_s: float, status: int | None) -> None:
        """Note how it ended. To be called no later than its last byte is written."""
        exchange.ended_s = now_s
        exchange.status = status
        self._statuses["no answer" if status is None else str(status)] += 1
        self._applied += exchange.applied
        if exchange.fault is not None:
            self._faults[exchange.fault] += 1
        if isinstance(exchange.email, str):
            key = (exchange.account, exchange.email)
            self._open[key].remove(exchange.number)
            if not self._open[key]:
                del self._open[key]

    def since(self, number: int) -> Iterable[Exchange]:
        """The requests after this number."""
        return (exchange for exchange in self._exchanges if exchange.number > number)

    def totals(self) -> dict[str, Any]:
        return {
            "requests": self._number,
            "by_status": dict(self._statuses),
            "by_fault": dict(self._faults),
            "applied": self._applied,
            "overlaps": self._overlaps,
        }
