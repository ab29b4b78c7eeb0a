"""What Linux says of processes."""

from __future__ import annotations

from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The processes that this one has started, by their numbers."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
