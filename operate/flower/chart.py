"""Deliveries of the last hour against the account's limit, as a picture for a page (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import pairwise

from ...state.counts import Counts

HEIGHT = 100
"""Of the picture, in its own units."""
BETWEEN_S = 8
"""Room between two bars."""
HOUR_S = 3600
SHORT_S = 5
"""Within a shorter time, little says nothing: the minute that has just begun."""


@dataclass(frozen=True, kw_only=True)
class Minute:
    """What a minute, or what there is of it, brought."""

    begins: datetime
    ends: datetime
    delivered: int
    """Jobs."""
    requests: int
    """That left for ChartMogul, whatever the answer."""

    @property
    def seconds(self) -> float:
        return max(0.001, (self.ends - self.begins).total_seconds())

    @property
    def delivered_per_s(self) -> float:
        return self.delivered / self.seconds

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.seconds


def minutes_of(counts: Sequence[Counts]) -> list[Minute]:
    """Each minute of what `Counters.last_hour` gave, oldest first."""
    found = []
    for before, after in pairwise(counts):
        brought = after.since(before)
        if (after.at - before.at).total_seconds() >= SHORT_S:
            found.append(
                Minute(
                    begins=before.at,
                    ends=after.at,
                    delivered=brought.delivered,
                    requests=sum(brought.attempts.values()),
                )
            )
    return found


def summary_of(minutes: Sequence[Minute], limit: float) -> str:
    """The picture in a sentence, for who does not see it."""
    if not any(minute.requests or minute.delivered for minute in minutes):
        return "No request left within the last hour."
    most = max(minutes, key=lambda minute: minute.delivered_per_s)
    seconds = sum(minute.seconds for minute in minutes)
    delivered = sum(minute.delivered for minute in minutes)
    return (
        f"{delivered:,} jobs were delivered within the last hour: "
        f"{delivered / seconds:.1f} a second, and {most.delivered_per_s:.1f} in the best minute, "
        f"at {most.begins:%H:%M} UTC. The limit is {limit:g} requests a second."
    )


def html_of(minutes: Sequence[Minute], limit: float, *, title: str) -> str:
    """The picture: bars of delivered jobs, a line of requests, and the limit.

    It stretches to any width, and its text does not. Colors are classes, so that it follows the
    page's theme.
    """
    most = [max(minute.delivered_per_s, minute.requests_per_s) for minute in minutes]
    plot = _Plot(top=_top(max([limit * 1.1, *most])), now=minutes[-1].ends if minutes else None)
    label = escape(f"{title} {summary_of(minutes, limit)}")
    levels = [plot.top * quarter / 4 for quarter in range(5)]
    parts = [
        f'<div class="courier-plot" role="img" aria-label="{label}">',
        *_labels("y", [f"{per_s:g}" for per_s in reversed(levels)]),
        f'<svg viewBox="0 0 {HOUR_S} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">',
        *[plot.level("courier-grid", per_s) for per_s in levels],
        *[plot.bar(minute) for minute in minutes if minute.delivered],
    ]
    if any(minute.requests for minute in minutes):
        points = [
            f"{plot.x(edge)},{plot.y(minute.requests_per_s)}"
            for minute in minutes
            for edge in (minute.begins, minute.ends)
        ]
        parts.append(f'<polyline class="courier-requests" points="{" ".join(points)}"/>')
    parts += [
        plot.level("courier-limit", limit),
        "</svg>",
        *_labels("x", ["−60 min", "−45", "−30", "−15", "now"]),
        "</div>",
    ]
    return "\n".join(parts)


def _labels(axis: str, texts: Sequence[str]) -> list[str]:
    spans = "".join(f"<span>{text}</span>" for text in texts)
    return [f'<div class="courier-{axis}" aria-hidden="true">{spans}</div>']


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """Where things stand in the picture: a second is a unit wide."""

    top: float
    """The number at its upper edge, a second."""
    now: datetime | None

    def y(self, per_s: float) -> float:
        return round(HEIGHT - HEIGHT * per_s / self.top, 2)

    def x(self, moment: datetime) -> float:
        ago_s = (self.now - moment).total_seconds() if self.now else 0
        return round(HOUR_S - min(HOUR_S, max(0.0, ago_s)), 1)

    def level(self, name: str, per_s: float) -> str:
        y = self.y(per_s)
        return f'<line class="{name}" x1="0" x2="{HOUR_S}" y1="{y}" y2="{y}"/>'

    def bar(self, minute: Minute) -> str:
        left, top = self.x(minute.begins), self.y(minute.delivered_per_s)
        width = max(2, round(self.x(minute.ends) - left - BETWEEN_S, 1))
        height = max(0.5, round(HEIGHT - top, 2))
        return f'<rect class="courier-bar" x="{left}" y="{top}" width="{width}" height="{height}"/>'


def _top(most: float) -> float:
    """The next round number that four steps divide."""
    for factor in (0.01, 0.1, 1, 10, 100, 1_000, 10_000):
        for digit in (2, 4, 6, 8, 12, 16):
            if digit * factor >= most:
                return digit * factor
    return most
