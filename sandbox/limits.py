"""The account's limits, strictly: any second, not the clock's; requests in progress, not sockets.

Source: ChartMogul reference, rate limits (40 requests a second, 20 parallel connections).
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from .settings import SandboxConfig

_WINDOW_S = 1.0


class SlidingSecond:
    """The events of the last second."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def count(self, now_s: float) -> int:
        times = self._times
        while times and now_s - times[0] >= _WINDOW_S:
            times.popleft()
        return len(times)

    def add(self, now_s: float) -> None:
        self._times.append(now_s)


class AccountLimits:
    """What one account has asked for, and whether it may ask for more.

    A refused request fills no window: as soon as the account slows down it is let in again. The
    maxima count the refused ones too, because they tell what the client did.
    """

    def __init__(self) -> None:
        self.in_progress = 0
        self.max_in_progress = 0
        self.max_in_any_second = 0
        self._asked = SlidingSecond()
        self._admitted = SlidingSecond()

    def ask(self, now_s: float, config: SandboxConfig) -> Literal["rate", "parallel"] | None:
        """Admit a request that arrives at `now_s`, or say which limit refuses it.

        Whoever is admitted counts as in progress until `leave()`.
        """
        self._asked.add(now_s)
        self.max_in_any_second = max(self.max_in_any_second, self._asked.count(now_s))
        self.max_in_progress = max(self.max_in_progress, self.in_progress + 1)
        admitted = self._admitted.count(now_s)
        if admitted >= config.rate_limit:
            return "rate"
        if config.hidden_rate_limit is not None and admitted >= config.hidden_rate_limit:
            return "rate"
        if self.in_progress >= config.max_parallel:
            return "parallel"
        self._admitted.add(now_s)
        self.in_progress += 1
        return None

    def leave(self) -> None:
        self.in_progress -= 1
