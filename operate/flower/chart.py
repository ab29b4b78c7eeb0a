"""Deliveries of the last hour against the account's limit, as a picture for a page (SVG)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from ...state.counts import Counts

WIDTH, HEIGHT = 720, 190
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 12, 24
"""Room for the text around the picture, in its units."""
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
    for before, after in zip(counts, counts[1:], strict=False):
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


def svg_of(minutes: Sequence[Minute], limit: float, *, title: str) -> str:
    """The picture: bars of delivered jobs, a line of requests, and the limit.

    Its colors are classes, so that it follows the page's theme.
    """
    top = _top(max([limit * 1.1, *(max(m.delivered_per_s, m.requests_per_s) for m in minutes)]))
    return "\n".join(_parts(minutes, limit, top, title))


def _parts(minutes: Sequence[Minute], limit: float, top: float, title: str) -> Iterator[str]:
    def y(per_s: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * per_s / top, 1)

    now = minutes[-1].ends if minutes else None

    def x(moment: datetime) -> float:
        assert now is not None
        ago_s = min(HOUR_S, max(0.0, (now - moment).total_seconds()))
        return round(WIDTH - RIGHT - (WIDTH - RIGHT - LEFT) * ago_s / HOUR_S, 1)

    yield (
        f'<svg class="courier-chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)} {escape(summary_of(minutes, limit))}">'
    )
    for step in range(5):
        per_s = top * step / 4
        yield f'<line class="courier-grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(per_s)}" y2="{y(per_s)}"/>'
        yield f'<text class="courier-axis" x="{LEFT - 6}" y="{y(per_s) + 4}" text-anchor="end">{per_s:g}</text>'
    for minute in minutes:
        left, right = x(minute.begins), x(minute.ends)
        if minute.delivered:
            height = round(y(0) - y(minute.delivered_per_s), 1)
            yield (
                f'<rect class="courier-bar" x="{left + 1}" y="{y(minute.delivered_per_s)}" '
                f'width="{max(1, round(right - left - 2, 1))}" height="{max(1, height)}"/>'
            )
    points = [
        f"{edge},{y(minute.requests_per_s)}"
        for minute in minutes
        for edge in (x(minute.begins), x(minute.ends))
    ]
    if any(minute.requests for minute in minutes):
        yield f'<polyline class="courier-requests" points="{" ".join(points)}"/>'
    yield f'<line class="courier-limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(limit)}" y2="{y(limit)}"/>'
    for ago_min in (60, 45, 30, 15, 0):
        place = WIDTH - RIGHT - (WIDTH - RIGHT - LEFT) * ago_min / 60
        anchor = "start" if ago_min == 60 else "middle" if ago_min else "end"
        label = f"−{ago_min} min" if ago_min else "now"
        yield f'<text class="courier-axis" x="{place:g}" y="{HEIGHT - 6}" text-anchor="{anchor}">{label}</text>'
    yield "</svg>"


def _top(most: float) -> float:
    """The next round number that four steps divide."""
    for factor in (0.01, 0.1, 1, 10, 100, 1_000, 10_000):
        for digit in (2, 4, 6, 8, 12, 16):
            if digit * factor >= most:
                return digit * factor
    return most
