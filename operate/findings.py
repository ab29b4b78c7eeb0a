"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error", "skipped"]
Kind = Literal["wrong", "settings", "unreachable"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    part: str
    """What it belongs to: Settings, Redis, Broker, …"""
    what: str
    """What was looked at."""
    level: Level
    text: str
    """What was found, without a full stop."""
    hint: str = ""
    """What to do."""
    kind: Kind = "wrong"
    """Of an error: what the matter is."""
