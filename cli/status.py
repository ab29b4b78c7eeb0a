"""`courier status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from ..state.account import AccountStatus, Lane
from .account import healths
from .output import Format, format_option, show

COLUMNS = (
    "account",
    "state",
    "why",
    "inbox",
    "live",
    "bulk",
    "failing",
    "later",
    "in flight",
    "rate",
    "last hour",
)


@click.command(
    "status",
    epilog="""\b
Examples:
  courier status
  courier status --format json
""",
)
@click.option("--account", help="Only this account.")
@format_option
def command(account: str | None, format_: Format | None) -> None:
    """Show each account's queue, rate and pauses, and what holds it back.

    The inbox counts jobs. Live, bulk, failing (the server failed the last time) and later (to be
    tried again) count emails; in brackets, how long the first has been waiting. The last hour
    counts jobs by outcome.
    """
    with healths(account) as found:
        accounts = [health.status() for health in found]
    if format_ in ("json", "jsonl"):
        show([_document(each) for each in accounts], (), format_)
    else:
        show([_row(each) for each in accounts], COLUMNS, format_)


def _row(status: AccountStatus) -> dict[str, str]:
    return {
        "account": status.account,
        "state": status.state,
        "why": _why(status),
        "inbox": _waiting(status.inbox, status.inbox_oldest_s),
        "live": _lane(status.live),
        "bulk": _lane(status.bulk),
        "failing": _lane(status.failing),
        "later": str(status.later),
        "in flight": str(status.in_flight),
        "rate": f"{status.rate:.1f}/s of {status.rate_limit:g}/s",
        "last hour": ", ".join(f"{count} {name}" for name, count in status.last_hour.items()),
    }


def _why(status: AccountStatus) -> str:
    why = []
    if status.pause:
        why.append(f"{status.pause.reason}{_until(status.pause.next_probe_at)}")
    elif status.circuit:
        why.append(f"{status.circuit.reason}{_until(status.circuit.next_probe_at)}")
    elif status.held_for_s:
        why.append(f"ChartMogul asked for less; {status.held_for_s:.1f} s more")
    if step := status.clock_step:
        direction = "ahead" if step.step_s > 0 else "back"
        why.append(
            f"Redis's clock stepped {direction} by {abs(step.step_s):.0f} s at {_utc(step.at)}"
        )
    if status.repairs:
        why.append(f"{status.repairs} repaired: see the worker's log")
    return "; ".join(why)


def _until(next_probe_at: datetime | None) -> str:
    return f"; next try at {_utc(next_probe_at)}" if next_probe_at else ""


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _lane(lane: Lane) -> str:
    return _waiting(lane.due, lane.oldest_s)


def _waiting(count: int, oldest_s: float) -> str:
    return f"{count} ({oldest_s:.0f} s)" if count and oldest_s else str(count)


def _document(status: AccountStatus) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        return value.isoformat() if isinstance(value, datetime) else value

    return {"account": status.account, "state": status.state, **plain(asdict(status))}
