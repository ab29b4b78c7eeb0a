"""What a run came to, by the log of the stand-in: neither side counts for itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A run in numbers; README.md explains each. The last three are of the whole run."""

    emails: int
    delivered: int
    seconds: float
    per_second: float
    per_second_to_95: float
    requests: int
    per_delivery: float
    share_429: float
    statuses: dict[str, int]
    most_at_once: int
    most_in_a_second: int
    overlaps: int


def measure(
    log: Sequence[Mapping[str, Any]], stats: Mapping[str, Any], *, emails: int, warm_up_s: float
) -> Measurement:
    """Read a run from the stand-in's `requests()` and `stats()`.

    `warm_up_s`: seconds from the first request on that do not count.
    """
    posts = [each for each in log if each["method"] == "POST"]
    start_s = min((each["arrived_s"] for each in posts), default=0.0) + warm_up_s
    taken = [each for each in posts if each["status"] == 200]
    # From answer to answer: the first request's latency belongs to no interval between two.
    ended = sorted(each["ended_s"] for each in taken if each["ended_s"] >= start_s)
    end_s = ended[-1] if ended else start_s
    seconds = end_s - ended[0] if ended else 0.0
    most = ended[: math.ceil(0.95 * len(ended))]
    asked = [each for each in posts if start_s <= each["arrived_s"] <= end_s]
    statuses = Counter(str(each["status"]) for each in asked if each["status"] is not None)
    return Measurement(
        emails=emails,
        delivered=len({each["email"] for each in taken}),
        seconds=seconds,
        per_second=ratio(len(ended) - 1, seconds),
        per_second_to_95=ratio(len(most) - 1, most[-1] - most[0] if most else 0.0),
        requests=len(asked),
        per_delivery=ratio(len(asked), len(ended)),
        share_429=ratio(statuses["429"], len(asked)),
        statuses=dict(statuses),
        most_at_once=stats["max_in_progress"],
        most_in_a_second=stats["max_in_any_second"],
        overlaps=stats["overlaps"],
    )


def ratio(part: float, whole: float) -> float:
    """`part / whole`; 0 where there is no whole."""
    return part / whole if whole else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the values that so large a share of them does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
