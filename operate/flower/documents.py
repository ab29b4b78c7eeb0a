"""What the pages show, as JSON for Flower's API."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from ...jobs.emails import normalized_email, redacted_email
from ...jobs.outcome import Outcome
from ...state.account import AccountStatus
from .chart import Minute
from .reading import Found, Job, Stand, waits_for


def shown_email(outcome: Outcome, searched: str | None = None) -> str:
    """The email as a page may show it: masked, unless somebody searched for this one."""
    if outcome.email is None:
        return ""
    same = searched and normalized_email(outcome.email) == normalized_email(searched)
    return outcome.email if same else redacted_email(outcome.email)


def outcome_document(outcome: Outcome, searched: str | None = None) -> dict[str, Any]:
    """An outcome, with its email masked unless somebody searched for it."""
    return outcome.to_dict() | {"email": shown_email(outcome, searched) or None}


def found_document(found: Found, searched: str | None = None) -> dict[str, Any]:
    return {
        "outcomes": [outcome_document(each, searched) for each in found.outcomes],
        "older": found.older,
        "cut_short": found.cut_short,
    }


def job_document(job: Job, searched: str | None = None) -> dict[str, Any]:
    return {
        "outcome": outcome_document(job.outcome, searched),
        "waits_for": waits_for(job.outcome, job.status),
        "others": [outcome_document(each, searched) for each in job.others],
    }


def stand_document(stand: Stand) -> dict[str, Any]:
    """How everything stands."""
    redis = stand.picture.redis
    plain: dict[str, Any] = _plain(
        {
            "problems": [asdict(problem) for problem in stand.picture.problems],
            "redis": asdict(redis) | {"evicts": redis.evicts, "head_room": redis.head_room},
            "accounts": [
                _account(status, stand.minutes[status.account]) for status in stand.picture.accounts
            ],
        }
    )
    return plain


def _account(status: AccountStatus, minutes: list[Minute]) -> dict[str, Any]:
    left_out = ("counts", "hour")
    fields = {name: content for name, content in asdict(status).items() if name not in left_out}
    return fields | {
        "state": status.state,
        "waiting": status.waiting,
        "last_hour": status.last_hour,
        "last_hour_reasons": [
            {"status": name, "reason": reason, "jobs": jobs}
            for (name, reason), jobs in status.hour.by_reason().items()
        ],
        "last_hour_attempts": dict(status.hour.attempts),
        "minutes": [asdict(minute) for minute in minutes],
    }


def _plain(value: Any) -> Any:
    """As JSON types."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value
