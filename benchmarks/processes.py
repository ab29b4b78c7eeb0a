"""What a process has used. Reads /proc, so on Linux only."""

from __future__ import annotations

import os
from pathlib import Path

import click


def cpu_s(pid: int) -> float:
    """Seconds of CPU time, of all its threads."""
    # The name, in brackets, may hold spaces; user and system time are fields 14 and 15.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory that it has now."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int) -> int:
    """The most memory that it ever had; 0 once it has ended.

    Not `ru_maxrss`: on Linux that is never less than what the process that started it had.
    """
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        raise click.ClickException("this benchmark reads /proc, and so needs Linux") from None
