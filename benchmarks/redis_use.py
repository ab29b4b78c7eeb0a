"""What Redis was asked to do, by its own count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Use:
    """All that a server has done so far, or between two looks."""

    cpu_s: float
    commands: int
    """Also those that scripts call."""
    reads: int
    """Reads from clients' sockets: what is sent together, as a pipeline is, is one."""

    def since(self, before: Use) -> Use:
        """What came between: without the first look itself, which is a command, too."""
        return Use(
            cpu_s=self.cpu_s - before.cpu_s,
            commands=self.commands - before.commands - 1,
            reads=self.reads - before.reads - 1,
        )


def use(client: Any) -> Use:
    """Look."""
    info = client.info("everything")
    return Use(
        cpu_s=info["used_cpu_user"] + info["used_cpu_sys"],
        commands=info["total_commands_processed"],
        reads=info["total_reads_processed"],
    )


def held_bytes(client: Any) -> int:
    """What Redis holds, without the buffers of its connections and of its append-only file."""
    info = client.info("memory")
    buffers = info["mem_clients_normal"] + info["mem_not_counted_for_evict"]
    return int(info["used_memory"] - buffers)
