"""Ids of jobs: UUIDs that sort by when they were made."""

from __future__ import annotations

import re
import secrets
import threading
import time

_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_lock = threading.Lock()
_last_tick = 0


def new_job_id() -> str:
    """A new UUID, version 7 (RFC 9562), as lowercase text with dashes.

    Each id of a process sorts after the ones before it, across threads and also when the clock
    steps back: among jobs of the same microsecond, the one asked for last is the newest.
    """
    global _last_tick
    # RFC 9562, 6.2, method 3: the clock's fraction of a millisecond continues the timestamp.
    tick = time.time_ns() * 4096 // 1_000_000
    with _lock:
        _last_tick = tick = max(tick, _last_tick + 1)
    milliseconds, fraction = divmod(tick, 4096)
    tail = 0b10 << 62 | secrets.randbits(62)
    return format_uuid(f"{milliseconds:012x}7{fraction:03x}{tail:016x}")


def format_uuid(hex32: str) -> str:
    """The canonical text of a UUID, with dashes, of its 32 hexadecimal digits."""
    return f"{hex32[:8]}-{hex32[8:12]}-{hex32[12:16]}-{hex32[16:20]}-{hex32[20:]}"


def is_job_id(text: object) -> bool:
    """Whether this is a UUID of any version in its canonical form: lowercase, with dashes."""
    return isinstance(text, str) and _CANONICAL.fullmatch(text) is not None
