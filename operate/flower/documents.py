"""What the pages show, as JSON for Flower's API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...jobs.emails import normalized_email, redacted_email
from ...jobs.outcome import Outcome
from ..plain import account_document, plain, redis_documents
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
    return {
        "problems": [asdict(problem) for problem in stand.picture.problems],
        **redis_documents(stand.picture),
        "accounts": [
            account_document(status, "last_hour_reasons")
            | {"minutes": plain(stand.minutes[status.account])}
            for status in stand.picture.accounts
        ],
    }
