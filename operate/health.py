"""Can the workers on this machine still work? For a container's engine, which restarts them if not.

Only what a restart mends makes a worker unhealthy: a pause, an open circuit, a broken key or a
Redis that is away do not. It imports little, since an engine asks every minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.vitals import UntrustedDirectory, Vitals, all_vitals, directory_path

MAX_AGE_S = 60.0
"""A part without a sign of life for so long hangs. A try to connect, which is one, may take half a
minute where a name server does not answer."""
MAX_STOP_S = 300.0
"""A graceful stop that takes longer hangs."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the workers can work."""

    faults: tuple[str, ...]
    """Why not, a sentence each."""
    said: tuple[str, ...]
    """How each healthy worker stands, a sentence each."""


def look(pid: int | None = None, *, max_age_s: float = MAX_AGE_S) -> Health:
    """See how this user's workers on this machine are.

    Args:
        pid: only this process. Otherwise all of them.
        max_age_s: a part without a sign of life for so many seconds hangs.
    """
    try:
        found = [each for each in all_vitals() if pid is None or each.pid == pid]
    except (UntrustedDirectory, OSError) as error:
        return Health(faults=(str(error),), said=())
    if not found:
        which = f"no worker with the process id {pid}" if pid is not None else "no worker"
        return Health(
            faults=(f"{which} of this user runs here (none has a file in {directory_path()})",),
            said=(),
        )
    return judge(found, time.monotonic(), max_age_s)


def judge(workers: Sequence[Vitals], now_s: float, max_age_s: float = MAX_AGE_S) -> Health:
    """Decide by what the workers say, at a moment of `time.monotonic()`."""
    faults, said = [], []
    for worker in workers:
        who = f"worker {worker.name} (pid {worker.pid})"
        fault = _fault(worker, now_s, max_age_s)
        if fault:
            faults.append(f"{who}: {fault}")
        elif worker.stopping_s is not None:
            said.append(f"{who} stops; tasks that still run: {worker.busy}")
        else:
            said.append(f"{who} works, {worker.busy} of {_slots(worker)} are busy")
    return Health(faults=tuple(faults), said=tuple(said))


def report(found: Health) -> int:
    """Print what was found. Returns the exit code."""
    for line in (*found.faults, *found.said):
        sys.stdout.write(f"{line}\n")
    return 1 if found.faults else 0


def _slots(worker: Vitals) -> str:
    return f"{worker.slots} {'processes' if worker.pool == 'prefork' else 'threads'}"


def _fault(worker: Vitals, now_s: float, max_age_s: float) -> str:
    if not worker.runs:
        return "its process is gone"
    if _is_stopped(worker.pid):
        return "its process is stopped (SIGSTOP, or a debugger)"
    if (age_s := now_s - worker.stamped_s) > max_age_s:
        return f"its process has stood still for {age_s:.0f} s"
    if worker.stopping_s is not None:
        age_s = now_s - worker.stopping_s
        return f"has been stopping for {age_s:.0f} s" if age_s > MAX_STOP_S else ""
    full_s = now_s - worker.newest_s if worker.busy >= worker.slots else 0.0
    if full_s > worker.task_limit_s:
        return f"each of its {_slots(worker)} has been stuck for {full_s:.0f} s"
    # In the pool `solo`, the main thread runs the tasks.
    in_task = worker.pool == "solo" and worker.busy
    if not in_task and (age_s := now_s - worker.consumer_s) > max_age_s:
        return f"its main thread, which takes messages, has hung for {age_s:.0f} s"
    if (age_s := now_s - worker.ticker_s) > max_age_s:
        return f"its ticker has hung for {age_s:.0f} s"
    return ""


def _is_stopped(pid: int) -> bool:
    """On Linux; elsewhere, its stamps tell a while later."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])
