"""What a relay of hooks has in hand, and which of it may be sent now: in order for each email."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass

from ..jobs.outcome import Outcome
from ..state.hooks import Aside, Dropped, Record
from .receivers import Refused

PARALLEL = 8
"""Events under way at once, each of another email."""
MANY = 5
"""So many different emails refused in a row, none taken between, mean that the receiver is down."""
FIRST_PAUSE_S = 1.0
"""Before an event is tried again, at most; then twice as long each time."""
LONGEST_PAUSE_S = 60.0
"""The same at its longest; also between the single events that a receiver gets which is down."""
LONGEST_ALONE_S = 600.0
"""The same where the receiver refuses this event and no other."""


@dataclass(eq=False)
class Item:
    """An entry in hand, or a notice of what was dropped."""

    group: str = ""
    """Whose events stay in order: an email's, or the account's own."""
    record: Record | None = None
    notice: Dropped | None = None
    outcome: Outcome | None = None
    """What is known of the job, as long as that is new."""
    read_s: float = 0.0
    """When that was read, by `time.monotonic()`."""
    aside: Aside | None = None
    sending: bool = False
    done: bool = False
    """Taken or set aside: its stream's cursor may pass it."""


class Order:
    """Who is next. Times are those of `time.monotonic()`."""

    def __init__(self) -> None:
        self.under_way: set[Item] = set()
        self._groups: dict[str, deque[Item]] = {}
        self._ready: deque[str] = deque()
        """Groups whose first item may be sent. One that is here in vain does no harm."""
        self._later: list[tuple[float, str]] = []
        """Groups whose first item was refused, and when it may be sent again."""
        self._blocked: set[str] = set()
        """The latter, until nothing of them is left."""
        self._refused_in_a_row: set[str] = set()
        self._probes = 0
        self._quiet_until_s = 0.0
        self._asked_until_s = 0.0

    @property
    def is_down(self) -> bool:
        """Whether the receiver takes nothing of anybody."""
        return len(self._refused_in_a_row) >= MANY

    @property
    def is_busy(self) -> bool:
        """Whether anything is in hand."""
        return bool(self._groups)

    def is_blocked(self, group: str) -> bool:
        """Whether an item of this group has to be set aside, behind one that was refused."""
        return group in self._blocked

    def add(self, item: Item, *, retry_at_s: float | None = None) -> None:
        """Take an item in hand, behind those of its group; one that was refused with its time."""
        waiting = self._groups.setdefault(item.group, deque())
        waiting.append(item)
        if retry_at_s is not None and item.group not in self._blocked:
            self._blocked.add(item.group)
            heapq.heappush(self._later, (retry_at_s, item.group))
        elif len(waiting) == 1 and item.group not in self._blocked:
            self._ready.append(item.group)

    def next(self, now_s: float) -> Item | None:
        """The next item to be sent now, which is under way from then on."""
        limit = 1 if self.is_down else PARALLEL
        quiet_until_s = max(self._quiet_until_s, self._asked_until_s)
        while now_s >= quiet_until_s and len(self.under_way) < limit:
            group = self._next_group(now_s)
            if group is None:
                return None
            waiting = self._groups.get(group)
            if waiting and not waiting[0].sending:
                waiting[0].sending = True
                self.under_way.add(waiting[0])
                return waiting[0]
        return None

    def _next_group(self, now_s: float) -> str | None:
        # What was refused takes up half of the places at most, and what is new is the better probe.
        retried = sum(item.aside is not None for item in self.under_way)
        due = bool(self._later) and self._later[0][0] <= now_s
        if due and retried < PARALLEL // 2 and not (self.is_down and self._ready):
            return heapq.heappop(self._later)[1]
        return self._ready.popleft() if self._ready else None

    def next_s(self) -> float:
        """When something may be sent that may not be now, if nothing happens before."""
        if self.under_way or not (self._ready or self._later):
            return float("inf")
        first_s = 0.0 if self._ready else self._later[0][0]
        return max(first_s, self._quiet_until_s, self._asked_until_s)

    def taken(self, item: Item) -> None:
        """The receiver took an item."""
        was_down = self.is_down
        self._refused_in_a_row.clear()
        self._probes, self._quiet_until_s = 0, 0.0
        self.under_way.discard(item)
        item.sending = False
        self.remove(item)
        if was_down:  # what it refused then was no fault of the event
            self._later = [(0.0, group) for _, group in self._later]

    def refused(self, item: Item, refused: Refused, now_s: float) -> list[Item]:
        """The receiver refused an item. Returns all of its group: they are to be set aside."""
        self.under_way.discard(item)
        item.sending = False
        self._blocked.add(item.group)
        before = item.aside.failures if item.aside else 0
        asked_s = refused.retry_after_s or 0.0
        longest_s = LONGEST_PAUSE_S if refused.by_all else LONGEST_ALONE_S
        pause_s = max(asked_s, _pause_s(before, longest_s))
        heapq.heappush(self._later, (now_s + pause_s, item.group))
        if refused.by_all:
            self._asked_until_s = max(self._asked_until_s, now_s + asked_s)
            self._refused_in_a_row.add(item.group)
            if self.is_down:
                self._quiet_until_s = now_s + _pause_s(self._probes, LONGEST_PAUSE_S)
                self._probes += 1
        return list(self._groups[item.group])

    def give_back(self, item: Item) -> None:
        """An item was not sent after all."""
        self.under_way.discard(item)
        item.sending = False
        if item.group in self._blocked:
            heapq.heappush(self._later, (0.0, item.group))
        else:
            self._ready.appendleft(item.group)

    def remove(self, item: Item) -> None:
        """Have an item in hand no longer; the next one of its group may be sent."""
        waiting = self._groups[item.group]
        was_first = waiting[0] is item
        waiting.remove(item)
        if not waiting:
            del self._groups[item.group]
            self._blocked.discard(item.group)
        elif was_first and item.group in self._blocked:
            heapq.heappush(self._later, (0.0, item.group))
        elif was_first:
            self._ready.append(item.group)


def _pause_s(before: int, longest_s: float) -> float:
    """With jitter, after so many pauses before."""
    pause_s = min(longest_s, FIRST_PAUSE_S * 2.0 ** min(before, 30))
    return random.uniform(0.5, 1) * pause_s  # noqa: S311
