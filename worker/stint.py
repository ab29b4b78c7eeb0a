"""A stint: one run of deliveries for an account, and what came of it."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Stint:
    """One run of deliveries, and what came of it."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))
    statuses: Counter[str] = field(default_factory=Counter)
    """How many jobs were settled with which outcome."""
    failed: Counter[str] = field(default_factory=Counter)
    """How many attempts failed with which answer."""
    not_sent: int = 0
    """Claims that were given back, since their requests were ready too late."""
    deliveries: int = 0
    """Requests that were answered, or not."""
    why: str = ""
    """Why it ended."""
    held_by: str = ""
    """In words, what holds the account back as a whole, if that ended it."""

    @property
    def in_vain(self) -> bool:
        """Whether all attempts failed, or the account was found paused or its circuit open."""
        return bool(self.held_by) or 0 < self.failed.total() == self.deliveries

    def summary(self) -> str:
        """Such as `12 delivered · 1 unmatched · 2 failed attempts (HTTP 503)`."""
        parts = [f"{count} {status}" for status, count in self.statuses.items()]
        if failed := self.failed.total():
            words = "attempt" if failed == 1 else "attempts"
            parts.append(f"{failed} failed {words} ({', '.join(self.failed)})")
        if self.held_by:
            parts.append(f"{self.why}: {self.held_by}")
        return " · ".join(parts) or self.why or "nothing due"


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a task, for people."""

    text: str
    in_vain: bool = False
    """Whether it did no good: Flower then shows the task as retried, not as succeeded."""
