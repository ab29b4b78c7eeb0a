"""What producers ask for: the same emails and keys, from several processes.

`python -m tests.chaos.asks` is one of the producers; `run.py` starts it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from .checker import Ask

MATCHED = tuple(f"person-{n:02}@chaos.example" for n in range(48))
PICKY = tuple(f"picky-{n}@chaos.example" for n in range(4))
"""ChartMogul refuses some of what they are sent."""
QUIET = tuple(f"quiet-{n}@chaos.example" for n in range(2))
"""ChartMogul answers 200 and changes nothing."""
NOBODY = tuple(f"nobody-{n}@chaos.example" for n in range(6))
"""No customer has these."""
CULPRITS = tuple(f"culprit-{n}@chaos.example" for n in range(3))
"""The server always fails on these, until the faults are over."""
DAMAGED = tuple(f"damaged-{n}@chaos.example" for n in range(6))
"""Keys of these are damaged in Redis, so that no promise holds for them but one: they go on."""
EMAILS = MATCHED + PICKY + QUIET + NOBODY + CULPRITS + DAMAGED
CROWDED = MATCHED[:4] + PICKY[:2]
"""Half of the jobs are theirs, so that many for one email meet."""
TYPES = {"plan": "String", "channel": "String", "seats": "Integer", "nps": "Integer"}
TYPES |= {"mrr": "Decimal", "renews_at": "Timestamp"}
MARK = "chaos-value-"
"""What every text value begins with, to be looked for in logs."""
JOBS_A_SECOND = 6
LATEST_S = 60
"""How far in the past a late job occurred."""
START = datetime(2020, 1, 1, tzinfo=UTC)


def attributes(ask: Ask) -> list[dict[str, Any]]:
    """As ChartMogul's reference writes them."""
    return [{"type": TYPES[key], "key": key, "value": value} for key, value in ask.values.items()]


def occurred_at(ask: Ask) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ask.occurred_us)


class Asks:
    """What one producer asks for, drawn from the seed. No two share a value."""

    def __init__(self, number: int, seed: int) -> None:
        self._draw = random.Random(f"{seed}/producer/{number}")
        self._number = number
        self._made = 0

    def next(self) -> tuple[Ask, bool]:
        """One, and whether it goes into the inbox directly."""
        draw, kind, now_us = self._draw, self._draw.random(), time.time_ns() // 1000
        if draw.random() < 0.3:
            now_us -= round(draw.uniform(0, LATEST_S) * 1_000_000)
        keys = draw.sample(sorted(TYPES), draw.randint(1, 3))
        ask = Ask(
            email=draw.choice(CROWDED if draw.random() < 0.5 else EMAILS),
            values={key: self._value(key) for key in keys},
            # No two producers share a microsecond: it tells a job whose id they never learned.
            occurred_us=now_us // 4 * 4 + self._number + 1,
            producer=self._number,
            number=self._made,
        )
        if kind < 0.04:
            return replace(ask, valid=False), True
        if kind < 0.14:
            # A clock of whole minutes: many occurred at the same time, and the ids decide.
            return replace(ask, occurred_us=now_us // 60_000_000 * 60_000_000), True
        if kind < 0.28:
            return self._order(ask), False
        if kind < 0.5:
            # It does not say when it occurred: it counts by its arrival. Its key makes asking again
            # safe, so that its id is known at the end.
            key = f"own-{self._number}-{self._made}"
            return replace(ask, timeless=True, idempotency_key=key), False
        return ask, False

    def _order(self, ask: Ask) -> Ask:
        """All producers ask for it at about the same time: for the same, or each for its own."""
        order = int(time.time() / 0.7)
        ask = replace(ask, email=EMAILS[order * 7 % len(EMAILS)], idempotency_key=f"order-{order}")
        if order % 2:
            return ask
        keys = random.Random(order).sample(sorted(TYPES), 2)
        values = {key: _value(key, 90_000_000 + order % 1_000_000) for key in keys}
        return replace(ask, values=values, occurred_us=order * 700_000)

    def pause_s(self) -> float:
        return self._draw.expovariate(JOBS_A_SECOND)

    def _value(self, key: str) -> str | int | float:
        self._made += 1
        return _value(key, (self._number + 1) * 10_000_000 + self._made)


def _value(key: str, unique: int) -> str | int | float:
    match TYPES[key]:
        case "Integer":
            return unique
        case "Decimal":
            return unique + 0.5
        case "Timestamp":
            return f"{START + timedelta(seconds=unique):%Y-%m-%dT%H:%M:%SZ}"
    return f"{MARK}{unique}"


def main(way_name: str, number: str, seed: str, seconds: str) -> None:
    """Ask until the time is up, and write a line to standard output for each ask."""
    from .run import WAYS

    way, asks = WAYS[way_name](), Asks(int(number), int(seed))
    end_s = time.monotonic() + float(seconds)
    while time.monotonic() < end_s:
        ask, direct = asks.next()
        answer, job_id = way.take(ask, direct=direct)
        record = asdict(replace(ask, answer=answer, job_id=job_id))
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
        time.sleep(asks.pause_s())


if __name__ == "__main__":
    main(*sys.argv[1:])
