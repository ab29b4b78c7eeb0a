"""`courier status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from ..state.account import AccountStatus
from .account import weathers
from .output import Format, format_option, show

COLUMNS = ("account", "state", "why", "inbox", "live", "bulk", "in flight", "rate", "last hour")


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
    """Tell how each account fares: what waits, what is in flight, the pace, and what holds it back.

    Of a lane: emails that are due (and for how long the oldest), and emails that are tried again
    later. The last hour counts jobs by the end they came to.
    """
    with weathers(account) as found:
        fares = [weather.fare() for weather in found]
    if format_ in ("json", "jsonl"):
        show([_document(fare) for fare in fares], (), format_)
    else:
        show([_row(fare) for fare in fares], COLUMNS, format_)


def _row(fare: AccountStatus) -> dict[str, str]:
    return {
        "account": fare.account,
        "state": fare.state,
        "why": _why(fare),
        "inbox": _waiting(fare.inbox, 0, fare.inbox_oldest_s),
        "live": _waiting(fare.live.due, fare.live.later, fare.live.oldest_s),
        "bulk": _waiting(fare.bulk.due, fare.bulk.later, fare.bulk.oldest_s),
        "in flight": str(fare.in_flight),
        "rate": f"{fare.rate:.1f}/s of {fare.rate_limit:g}/s",
        "last hour": ", ".join(f"{count} {status}" for status, count in fare.last_hour.items()),
    }


def _why(fare: AccountStatus) -> str:
    if fare.pause:
        return f"{fare.pause.reason}{_until(fare.pause.next_probe_at)}"
    if fare.circuit:
        return f"{fare.circuit.reason}{_until(fare.circuit.next_probe_at)}"
    if fare.held_for_s:
        return f"ChartMogul asked for less; {fare.held_for_s:.1f} s more"
    return ""


def _until(next_probe_at: datetime | None) -> str:
    return f"; next try at {next_probe_at:%Y-%m-%d %H:%M:%S} UTC" if next_probe_at else ""


def _waiting(now: int, later: int, oldest_s: float) -> str:
    text = f"{now} ({oldest_s:.0f} s)" if now else "0"
    return f"{text}, {later} later" if later else text


def _document(fare: AccountStatus) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        return value.isoformat() if isinstance(value, datetime) else value

    return {"account": fare.account, "state": fare.state, **plain(asdict(fare))}
