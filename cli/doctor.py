"""`courier doctor`."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.text import Text

from ..operate.findings import Finding
from .output import Format, chosen, format_option, show
from .problems import said

COLUMNS = ("part", "what", "level", "found", "do")


@click.command(
    "doctor",
    epilog="""\b
Examples:
  courier doctor
  courier doctor --repair
  courier doctor --format json

\b
Exit codes:
  0  nothing is wrong; there may be warnings
  1  something is wrong: an API key, no worker, deliveries that stand still, …
  2  a setting, a proxy or a certificate is wrong
  3  Redis, its broker's queues or ChartMogul cannot be reached, or Redis is not fit
If several hold, the highest.
""",
)
@click.option(
    "--repair", is_flag=True, help="Make due again what nothing points to. Else nothing is changed."
)
@format_option
def command(repair: bool, format_: Format | None) -> None:
    """Look at everything that deliveries need, and say what is wrong and what to do.

    Settings; Redis, its version, form, memory, persistence, latency, clock and this user's rights;
    a message through the broker and back; workers and their versions; what nothing points to in
    Redis; proxies and certificates; each account's API key. What can be looked at is, although
    another part is broken.

    Costs each account one of its requests (GET /v1/ping). Run it where the worker runs, with the
    worker's environment.
    """
    from ..operate.doctor import examine
    from ..operate.reach import worst

    found: list[Finding] = []
    part = ""
    console = Console() if chosen(format_) == "table" else None
    for each in examine(repairs=repair):
        found.append(each)
        if console is None:
            continue
        if each.part != part:  # on a terminal, as they are found
            part = each.part
            console.print(Text(part, "bold"))
        console.print(said(each.level, each.what, each.text, each.hint))
    if console is None:
        rows = [dict(zip(COLUMNS, _cells(each), strict=True)) for each in found]
        show(rows, COLUMNS, format_)
    sys.exit(worst(found))


def _cells(finding: Finding) -> tuple[str, ...]:
    return finding.part, finding.what, finding.level, finding.text, finding.hint
