"""Errors of jobs.

CourierError
├── InvalidJob (also a ValueError)
│   └── UnknownWireVersion
├── NotDelivered
├── NotReachable
└── NotEnqueued

No text here holds an email or a value: errors reach logs and outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .outcome import Outcome


class CourierError(Exception):
    """The base of the errors that application code may meet."""


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One thing that is wrong in a job, and where."""

    path: str
    """The field: "email", "attributes[0].value", or "" for the document as a whole."""
    message: str
    """What is wrong and what is accepted, without the value itself."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidJob(CourierError, ValueError):  # noqa: N818  # says what is the matter
    """Raised when something does not make a job. It is never sent and never retried.

    Where a single value is judged, apart from a job, its path is "value".
    """

    errors: tuple[FieldError, ...]
    """Everything that is wrong, not only the first thing."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "; ".join(map(str, self.errors))


class UnknownWireVersion(InvalidJob):
    """Raised when a job is written in a later wire format than this release reads.

    The job may be a good one: it is to be left for a newer worker, not recorded as invalid.
    """


class NotDelivered(CourierError):  # noqa: N818
    """Raised by Celery's `AsyncResult.get()` for a job whose outcome is none of the good ones."""

    outcome: Outcome
    """What became of the job, and why."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome)

    def __str__(self) -> str:
        return f"job {self.outcome.job_id}: {self.outcome.summary()}"


class NotReachable(CourierError):  # noqa: N818
    """Raised when Redis does not answer a question about outcomes."""


class NotEnqueued(CourierError):  # noqa: N818
    """Raised when Redis did not take a job in time, or did not say that it did."""
