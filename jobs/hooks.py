"""What a hook tells: a job that was settled, an event of an account, or what was dropped.

Its form is that of the Standard Webhooks specification: `type`, `timestamp`, `data`. No value and
no API key is ever in it, and the email only where that was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .emails import normalized_email
from .job import time_of
from .outcome import Outcome

JOB_SETTLED = "job.settled"
DROPPED = "hooks.dropped"
ACCOUNT_EVENTS = (
    "account.paused",
    "account.resumed",
    "account.circuit_opened",
    "account.circuit_closed",
    "account.backlog_old",
    "account.backlog_over",
)

_NUMBERS = {"emails", "oldest_s"}
_TIMES = {"since"}
_NOT_TOLD = {"email", "next_attempt_at"}


@dataclass(frozen=True, kw_only=True)
class HookEvent:
    """One thing that a receiver is told. Its repr shows no data, since a repr may reach a log."""

    id: str
    """The same each time it is told: a receiver knows a repeat by it."""
    type: str
    at: datetime
    """When it happened."""
    data: Mapping[str, Any] = field(repr=False)
    """JSON types."""

    def document(self) -> dict[str, Any]:
        """What is handed over."""
        return {"type": self.type, "timestamp": _text(self.at), "data": dict(self.data)}

    def summary(self) -> str:
        """In a line that may be shown: `job.settled 0197… failed`."""
        known = (self.type, self.data.get("job_id"), self.data.get("status"))
        return " ".join(filter(None, known))


def job_settled(
    outcome: Outcome,
    *,
    entry_id: str,
    at: datetime,
    with_email: bool,
    email_hash: Callable[[str], str],
) -> HookEvent:
    """That a job was settled.

    Args:
        entry_id: what tells this settling from another one of the same job, after a replay.
        at: when, if the outcome does not say it.
        with_email: whether the email is told; otherwise it is `email_hash` of it.
    """
    data = {name: value for name, value in outcome.to_dict().items() if name not in _NOT_TOLD}
    if outcome.email is not None:
        if with_email:
            data["email"] = outcome.email
        else:
            data["email_hash"] = email_hash(outcome.email)
            data["customers"] = [
                {name: _without(value, outcome.email) for name, value in customer.items()}
                for customer in data["customers"]
            ]
    return HookEvent(
        id=f"{outcome.job_id}_{entry_id}",
        type=JOB_SETTLED,
        at=outcome.settled_at or at,
        data=data,
    )


def account_event(
    account: str, fields: Mapping[str, str], *, entry_id: str, at: datetime
) -> HookEvent:
    """That something happened to an account as a whole; `fields` as the state notes them."""
    data: dict[str, Any] = {"account": account}
    for name, content in fields.items():
        if name in ("type", "n"):
            continue
        if name in _NUMBERS:
            data[name] = int(content)
        elif name in _TIMES:
            data[name] = _text(time_of(int(content)))
        else:
            data[name] = content
    return HookEvent(id=f"{account}_{entry_id}", type=fields["type"], at=at, data=data)


def dropped(
    account: str, notice_id: str, counts: Mapping[str, int], since: datetime, until: datetime
) -> HookEvent:
    """That events were dropped, since the receiver did not take them in time.

    Args:
        counts: status of the jobs → how many; `event` for events of the account.
    """
    by_status = {status: count for status, count in counts.items() if status != "event"}
    data = {
        "account": account,
        "count": sum(counts.values()),
        "from": _text(since),
        "to": _text(until),
        "by_status": by_status,
        "account_events": counts.get("event", 0),
    }
    return HookEvent(id=f"{account}_dropped_{notice_id}", type=DROPPED, at=until, data=data)


def _without(value: object, email: str) -> object:
    """Some systems take the email for a customer's id."""
    shown = str(value).casefold()
    private = (email.casefold(), normalized_email(email))
    return "***" if any(each in shown for each in private) else value


def _text(moment: datetime) -> str:
    return moment.isoformat()
