"""What a worker's processes have used, and where they run. Reads /proc, so on Linux only.

Each worker is started in a session of its own, so its session is the worker with all its children.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import click


def session(leader: int) -> list[int]:
    """All processes of a worker."""
    return [pid for pid in _pids() if _field(pid, 5) == leader]


def sessions(leaders: Iterable[int]) -> list[int]:
    """All processes of several workers."""
    return [pid for leader in leaders for pid in session(leader)]


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of CPU time, of all their threads; in steps of 10 ms for each."""
    ticks = sum(_field(pid, 13) + _field(pid, 14) for pid in pids)
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory that they have now; what they share counts for each."""
    return sum(_status(pid, "VmRSS") for pid in pids)


def peak_bytes(pid: int) -> int:
    """The most memory that it ever had; 0 once it has ended.

    Not `ru_maxrss`: on Linux that is never less than what the process that started it had.
    """
    return _status(pid, "VmHWM")


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """A signal for each."""
    for pid in pids:
        os.kill(pid, number)


def pin(pids: Iterable[int], cpus: set[int]) -> None:
    """Let them, and what they start from now on, run on these cores alone."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), cpus)


def _pids() -> Iterator[int]:
    if not Path("/proc/self/stat").exists():
        raise click.ClickException("this benchmark reads /proc, and so needs Linux")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _field(pid: int, number: int) -> int:
    """A number of `/proc/PID/stat`, counted from 0 as proc(5) does from 1; 0 for who has gone."""
    # The name, in brackets, may hold spaces; it is the second field.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[number - 2]) if fields else 0


def _status(pid: int, name: str) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
