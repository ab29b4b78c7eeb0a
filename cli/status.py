"""`courier status`."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from ..config import load_settings
from ..jobs.text import printable
from ..operate.picture import Picture, look
from ..operate.plain import account_document, redis_document
from ..operate.problems import MAX_AGE_S
from ..state.account import AccountStatus, Lane
from .account import accounts_of, reaching_redis
from .main import EXIT_NOT_DELIVERED
from .output import Age, Format, chosen, format_option, show
from .problems import documents, grid, line

COLUMNS = (
    "account",
    "state",
    "workers",
    "delivered",
    "inbox",
    "live",
    "bulk",
    "failing",
    "later",
    "in flight",
    "rate",
    "last hour",
    "problems",
)


@click.command(
    "status",
    epilog="""\b
Examples:
  courier status
  courier status --format json
  courier status --check --max-age 5m

\b
With --check, each problem is one line, and the exit code is
  0  nothing is wrong, or warnings only (without --strict)
  1  something is wrong: an error, or with --strict a warning
  3  Redis does not answer
""",
)
@click.option("--account", help="Only this account.")
@click.option(
    "--check", is_flag=True, help="Only tell what is wrong, for cron, CI and monitoring systems."
)
@click.option(
    "--max-age",
    type=Age(),
    default=f"{MAX_AGE_S / 60:.0f}m",
    show_default=True,
    metavar="AGE",
    help="An error: a job that could be delivered has been waiting for longer.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=0),
    metavar="N",
    help="An error: more jobs and emails of an account wait.",
)
@click.option(
    "--min-workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="An error: fewer workers serve an account.",
)
@click.option("--strict", is_flag=True, help="With --check: warnings are errors.")
@format_option
def command(
    account: str | None,
    check: bool,
    max_age: timedelta,
    max_waiting: int | None,
    min_workers: int,
    strict: bool,
    format_: Format | None,
) -> None:
    """Show each account's workers, backlog and rate, and what is wrong and why.

    The inbox counts jobs that no worker has accepted. Live, bulk, failing (the server failed the
    last time) and later (to be tried again) count emails; in brackets, how long the first has
    been waiting. Delivered counts jobs a second over the last minute; the last hour counts jobs by
    outcome.

    An error means that attributes do not arrive, or may be lost. What is not said to be wrong is
    well.
    """
    settings = load_settings()
    names = accounts_of(settings, account)
    with reaching_redis(settings) as client:
        picture = look(
            client,
            settings,
            accounts=names,
            max_age_s=max_age.total_seconds(),
            max_waiting=max_waiting,
            min_workers=min_workers,
        )
    failed = any(each.level == "error" or strict for each in picture.problems)
    if format_ in ("json", "jsonl"):
        document = {"ok": not failed, **_document(picture)}
        indent = 2 if format_ == "json" else None
        click.echo(json.dumps(document, ensure_ascii=False, indent=indent))
    elif check and format_ == "csv":
        show(documents(picture.problems), ("level", "code", "account", "text", "hint"), format_)
    elif check:
        for said in map(line, picture.problems):
            click.echo(said)
        if not failed:
            click.echo(f"OK: {_all_in_short(picture)}")
    elif chosen(format_) == "table":
        console = Console()
        for part in (*_blocks(picture), grid(picture.problems)):
            console.print(part, highlight=False)
    else:
        show([_row(each, picture) for each in picture.accounts], COLUMNS, format_)
        if format_ != "csv":
            for said in map(line, picture.problems):
                click.echo(said)
    if check and failed:
        sys.exit(EXIT_NOT_DELIVERED)


def state_text(status: AccountStatus, picture: Picture) -> tuple[str, str]:
    """An account's state in a word or two, and its style on a terminal."""
    served = not any(
        each.code == "no_worker" and each.account == status.account for each in picture.problems
    )
    state = status.state if served or status.pause or status.circuit else "no worker"
    return state, {"running": "green", "slowed": "yellow", "held": "yellow"}.get(state, "bold red")


def _blocks(picture: Picture) -> list[RenderableType]:
    """For a terminal, also a narrow one."""
    found: list[RenderableType] = []
    for status in picture.accounts:
        state, style = state_text(status, picture)
        found.append(
            Text.assemble(
                (printable(status.account), "bold"),
                "  ",
                (state, style),
                f" · {_workers(status)} · {status.delivered_per_s:.1f} delivered/s "
                f"({_rate(status)})",
            )
        )
        parts = {
            "inbox": f"live {lane_text(status.inbox_live)} · bulk {lane_text(status.inbox_bulk)}",
            "due": f"live {lane_text(status.live)} · bulk {lane_text(status.bulk)} · "
            f"failing {lane_text(status.failing)}",
            "then": f"{status.in_flight:,} in flight · {status.later:,} to be tried again later",
            "last hour": _last_hour(status) or "no job was settled",
        }
        if status.repairs:
            parts["repaired"] = f"{status.repairs:,} mailboxes and jobs: see the workers' log"
        for name, text in parts.items():
            found.append(Padding(Text.assemble((f"{name:<9} ", "dim"), text), (0, 0, 0, 2)))
    return found


def _row(status: AccountStatus, picture: Picture) -> dict[str, str]:
    codes = [each.code for each in picture.problems if each.account in (None, status.account)]
    return {
        "account": status.account,
        "state": state_text(status, picture)[0],
        "workers": str(len(status.workers)),
        "delivered": f"{status.delivered_per_s:.1f}/s",
        "inbox": _waiting(status.inbox, status.inbox_oldest_s),
        "live": lane_text(status.live),
        "bulk": lane_text(status.bulk),
        "failing": lane_text(status.failing),
        "later": str(status.later),
        "in flight": str(status.in_flight),
        "rate": _rate(status),
        "last hour": _last_hour(status),
        "problems": ", ".join(codes),
    }


def _all_in_short(picture: Picture) -> str:
    accounts, workers = (
        picture.accounts,
        {worker.id for each in picture.accounts for worker in each.workers},
    )
    oldest_s = max(max(each.oldest_s("live"), each.oldest_s("bulk")) for each in accounts)
    names = ", ".join(each.account for each in accounts)
    return (
        f"{'account' if len(accounts) == 1 else 'accounts'} {names}, "
        f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'}, "
        f"{sum(each.delivered_per_s for each in accounts):.1f} delivered/s, "
        f"{sum(each.waiting for each in accounts):,} waiting, the first for {oldest_s:.0f} s"
    )


def _workers(status: AccountStatus) -> str:
    count = len(status.workers)
    return f"{count} worker{'' if count == 1 else 's'}"


def _rate(status: AccountStatus) -> str:
    return f"{status.rate:.3g}/s of {status.rate_limit:g}/s"


def _last_hour(status: AccountStatus) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in status.last_hour.items())


def lane_text(lane: Lane) -> str:
    """How much waits in a lane, and for how long."""
    return _waiting(lane.due, lane.oldest_s)


def _waiting(count: int, oldest_s: float) -> str:
    return f"{count} ({oldest_s:.0f} s)" if count and oldest_s else str(count)


def _document(picture: Picture) -> dict[str, Any]:
    return {
        "problems": documents(picture.problems),
        "redis": redis_document(picture.redis),
        "accounts": [account_document(each, "last_hour_by_reason") for each in picture.accounts],
    }
