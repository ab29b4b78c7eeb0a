"""Errors of jobs.

CourierError
├── InvalidJob (also a ValueError)
│   └── UnknownWireVersion
├── IdempotencyConflict
├── NotEnqueued
├── NotDelivered
├── NotReachable
└── OtherLayout

No text here holds an email or a value: errors reach logs and outcomes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

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
    key: str | None = None
    """The key of the attribute that is wrong, if it has a valid one."""

    def __str__(self) -> str:
        place = f"{self.path} (key {self.key})" if self.key is not None else self.path
        return f"{place}: {self.message}" if place else self.message


def shown_field(name: object) -> str:
    """A field's name in a path. One that is not a plain word may hold anything: it is not shown."""
    if type(name) is str and len(name) <= 40 and name.isascii() and name.isidentifier():
        return name
    return "(unknown field)"


class InvalidJob(CourierError, ValueError):  # noqa: N818  # says what is the matter
    """Raised when something does not make a job. It is never sent and never retried.

    Where a single value is judged, apart from a job, its path is "value".
    """

    errors: tuple[FieldError, ...]
    """Everything that is wrong, not only the first thing."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__(self.errors)

    @classmethod
    def of(cls, path: str, message: str) -> Self:
        """The error for one thing that is wrong."""
        return cls([FieldError(path=path, message=message)])

    def __str__(self) -> str:
        return "; ".join(map(str, self.errors))


class UnknownWireVersion(InvalidJob):
    """Raised when a job is written in a later wire format than this release reads.

    The job may be a good one: leave it for a newer worker, do not record it as invalid.
    """


class IdempotencyConflict(CourierError):  # noqa: N818
    """Raised for an idempotency key that an earlier job has, with another email or content.

    Nothing was enqueued. With the same content, the first job's receipt is returned instead.
    """

    job_id: str
    """The first job that has the key."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(job_id)

    def __str__(self) -> str:
        return f"this idempotency key belongs to job {self.job_id}, which has other content"


class NotEnqueued(CourierError):  # noqa: N818
    """Raised when Redis did not take a job in time, or did not say that it did."""


class NotDelivered(CourierError):  # noqa: N818
    """Raised by Celery's `AsyncResult.get()` for a job whose outcome is none of the good ones."""

    outcome: Outcome
    """What became of the job, and why."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome)

    def __str__(self) -> str:
        return f"job {self.outcome.job_id}: {self.outcome.summary()}"


class OtherLayout(CourierError):  # noqa: N818
    """Raised when another release wrote an account's keys in Redis, in a form not known here."""


class NotReachable(CourierError):  # noqa: N818
    """Raised when Redis does not answer a question about outcomes."""
