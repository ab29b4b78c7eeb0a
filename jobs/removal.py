"""What became of the wish to take a job back, or to forget an email."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """Whether a job was taken back. If not, it goes on as if nobody had asked."""

    job_id: str
    result: Literal["canceled", "sending", "attempted", "settled", "unknown"]
    """`canceled`: it was, now or before. `sending`: a request for it is under way. `attempted`: one
    was made, or may have been. `settled`: it has another outcome. `unknown`: nothing is known of
    it, or no more."""
    outcome: Outcome | None
    """How the job stands now; None where nothing is known of it."""

    @property
    def canceled(self) -> bool:
        """Whether the job is canceled."""
        return self.result == "canceled"

    def summary(self) -> str:
        """In a line: `canceled`, or why not."""
        match self.result:
            case "canceled":
                return "canceled"
            case "sending":
                return "not canceled: a request for it is under way"
            case "attempted":
                return "not canceled: it was sent already, and may have arrived"
            case "settled":
                ended = f": {self.outcome.summary()}" if self.outcome is not None else ""
                return f"not canceled: it is settled{ended}"
            case "unknown":
                return "not canceled: no such job is known"


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was removed of an email, in one account."""

    account: str
    canceled: int = 0
    """Jobs that waited, and are canceled."""
    outcomes: int = 0
    """Settled jobs, of which only their status and times are left."""
    values: int = 0
    """Attribute keys of which it was known what was delivered last."""
    under_way: bool = False
    """Whether a request is under way, which cannot be taken back. Its answer writes nothing."""

    @property
    def anything(self) -> bool:
        """Whether anything was known of the email."""
        return bool(self.canceled or self.outcomes or self.values or self.under_way)
