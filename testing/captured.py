"""Capturing the jobs that an application hands over, and saying what they should have been."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from ..config.chosen import choose, read_anew
from ..jobs.attributes import Attribute, Attributes, Scalar
from ..jobs.build import build_job
from ..jobs.emails import normalized_email
from ..jobs.job import Lane
from ..jobs.outcome import Outcome
from ..jobs.removal import Cancellation, Forgotten
from ..jobs.schema import load_wire
from ..producers.destination import diverted
from ..state.inbox import Entry, Known

if TYPE_CHECKING:
    from ..sandbox import SandboxConfig
    from .delivery import Delivery

MANY = 20
"""Jobs that an assertion shows."""


@dataclass(frozen=True, kw_only=True)
class CapturedJob:
    """A job that the application handed over, as a worker reads it."""

    job_id: str
    account: str
    email: str
    """As it was given, only trimmed."""
    attributes: tuple[Attribute, ...]
    occurred_at: datetime | None
    lane: Lane
    only_changed: bool
    idempotency_key: str | None

    @property
    def values(self) -> dict[str, Scalar]:
        """Key → value, in the form in which it is sent."""
        return {attribute.key: attribute.value for attribute in self.attributes}

    def __str__(self) -> str:
        shown = ", ".join(map(_shown, self.attributes))
        return f"{self.email}: {shown}" + (" · bulk" if self.lane == "bulk" else "")


class Capture:
    """The jobs that were handed over within a block of `capture()`, in their order.

    It may be used by several threads, and after the block.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._inboxes: dict[str, _Inbox] = {}
        self._jobs: list[_Taken] = []
        self._canceled: set[str] = set()
        self._delivery: Delivery | None = None

    @property
    def jobs(self) -> tuple[CapturedJob, ...]:
        """All jobs so far. One for which an earlier job answers is not among them."""
        with self._lock:
            return tuple(taken.job for taken in self._jobs)

    def of(self, email: str, *, account: str | None = None) -> tuple[CapturedJob, ...]:
        """The jobs for an email, in any of its spellings: upper and lower case are the same."""
        wanted = normalized_email(email)
        return tuple(
            job
            for job in self.jobs
            if normalized_email(job.email) == wanted and account in (None, job.account)
        )

    def assert_added(
        self,
        email: str,
        attributes: Attributes | None = None,
        *,
        exactly: bool = False,
        times: int | None = None,
        account: str | None = None,
    ) -> CapturedJob:
        """Assert that a job for this email was handed over.

        Args:
            email: in any spelling.
            attributes: what one job has, as `add_attributes` takes them; it may have others, too.
            exactly: whether it may not.
            times: how many such jobs there are; at least one unless given.
            account: which account's; any unless given.

        Returns:
            The job, the last one if there are several.

        Raises:
            AssertionError: there is none, or another number. The text shows what there is.
            InvalidJob: the email or the attributes would not be accepted.
            ValueError: `times` is less than 1.
        """
        __tracebackhide__ = True  # pytest shows the line that asserts
        if times is not None and times < 1:
            raise ValueError("times must be at least 1; there is assert_nothing_added()")
        wanted: tuple[Attribute, ...] = ()
        if attributes is not None:
            wanted = build_job(email=email, attributes=attributes).attributes
        found = [
            job
            for job in self.of(email, account=account)
            if _has(job, wanted) and (not exactly or len(job.attributes) == len(wanted))
        ]
        if found and times in (None, len(found)):
            return found[-1]
        asked = f"a job for {email}" + (f" of the account {account}" if account else "")
        if wanted:
            asked += f" with {'exactly ' if exactly else ''}" + ", ".join(map(_shown, wanted))
        number = "was not added" if not found else f"was added {len(found)} times, not {times}"
        raise AssertionError(f"{asked} {number}\n{self._described(email)}")

    def assert_nothing_added(self, email: str | None = None) -> None:
        """Assert that no job was handed over, or none for this email.

        Raises:
            AssertionError: there is one. The text shows all.
        """
        __tracebackhide__ = True
        found = self.jobs if email is None else self.of(email)
        if found:
            whose = "" if email is None else f" for {email}"
            raise AssertionError(f"a job{whose} was added\n{self._described(email)}")

    def deliver(
        self, *, customers: Iterable[str] | None = None, sandbox: SandboxConfig | None = None
    ) -> tuple[Outcome, ...]:
        """As `deliver_captured`, for this capture."""
        with self._lock:
            if not self._jobs:
                return ()
            if self._delivery is None:
                from .delivery import Delivery  # with all that a worker imports

                self._delivery = Delivery(choose().load(strict=False))
            jobs = [
                (taken.job.account, taken.job.lane, taken.entry)
                for taken in self._jobs
                if taken.job.job_id not in self._canceled
            ]
            self._delivery.run(jobs, customers=customers, sandbox=sandbox)
            return tuple(self._outcome(taken.job) for taken in self._jobs)

    def clear(self) -> None:
        """Forget all jobs, their idempotency keys, and what was delivered."""
        with self._lock:
            self._inboxes.clear()
            self._jobs.clear()
            self._canceled.clear()
            self._delivery = None

    def _inbox(self, account: str) -> _Inbox:
        with self._lock:
            return self._inboxes.setdefault(account, _Inbox(self, account))

    def _take(self, account: str, entry: Entry) -> None:
        """Take a job as a worker would: what its schema refuses is an error of ours."""
        job = load_wire(entry.job_id, entry.wire)
        captured = CapturedJob(
            job_id=job.job_id,
            account=account,
            email=job.email,
            attributes=job.attributes,
            occurred_at=job.occurred_at,
            lane=job.lane,
            only_changed=job.only_changed,
            idempotency_key=job.idempotency_key,
        )
        self._jobs.append(_Taken(captured, entry))

    def _cancel(self, job_id: str) -> None:
        self._canceled.add(job_id)

    def _outcome(self, job: CapturedJob) -> Outcome:
        if job.job_id in self._canceled:
            return Outcome(
                job_id=job.job_id, account=job.account, status="canceled", reason="asked"
            )
        found = self._delivery.outcome(job.account, job.job_id) if self._delivery else None
        return found or Outcome(job_id=job.job_id, account=job.account, status="pending")

    def _described(self, email: str | None) -> str:
        """What was captured, those of an email first."""
        jobs = sorted(self.jobs, key=lambda job: job not in (self.of(email) if email else ()))
        if not jobs:
            return "Nothing was added."
        more = [f"  and {len(jobs) - MANY} more"] if len(jobs) > MANY else []
        return "\n".join(["Added:", *(f"  {job}" for job in jobs[:MANY]), *more])


@dataclass(frozen=True)
class _Taken:
    job: CapturedJob
    entry: Entry


class _Inbox:
    """Takes the jobs of one account in place of `producers.intake.Intake`."""

    settles: ClassVar[bool] = False

    def __init__(self, capture: Capture, account: str) -> None:
        self.account = account
        self._capture = capture
        self._ids: set[str] = set()
        self._first: dict[str, Entry] = {}
        """Idempotency key → the first entry that has it."""

    def put(self, lane: Lane, entries: Sequence[Entry]) -> dict[int, Known]:
        """As `lua/enqueue.lua` does; a test holds the two to each other."""
        known = {}
        with self._capture._lock:
            for position, entry in enumerate(entries):
                earlier = self._known(entry)
                if earlier is None:
                    self._capture._take(self.account, entry)
                    self._ids.add(entry.job_id)
                else:
                    known[position] = earlier
        return known

    def _known(self, entry: Entry) -> Known | None:
        if entry.idempotency_key is not None:
            first = self._first.setdefault(entry.idempotency_key, entry)
            if first.job_id != entry.job_id:
                return Known(job_id=first.job_id, conflict=first.content != entry.content)
            self._first[entry.idempotency_key] = entry
        if entry.job_id in self._ids:
            return Known(job_id=entry.job_id, conflict=False)
        return None

    def waiting(self) -> int:
        return 0

    def cancel(self, job_id: str) -> Cancellation:
        """Take a job back, unless `deliver_captured` has sent it. It stays among the jobs."""
        with self._capture._lock:
            outcome = self.get(job_id)
            if outcome is None:
                return Cancellation(job_id=job_id, result="unknown", outcome=None)
            if outcome.settled and outcome.status != "canceled":
                return Cancellation(job_id=job_id, result="settled", outcome=outcome)
            if outcome.attempts:
                return Cancellation(job_id=job_id, result="attempted", outcome=outcome)
            self._capture._cancel(job_id)
            return Cancellation(job_id=job_id, result="canceled", outcome=self.get(job_id))

    def forget(self, email: str) -> Forgotten:
        """Nothing: a test looks at what was handed over."""
        return Forgotten(account=self.account)

    @contextmanager
    def reading(self) -> Iterator[_Inbox]:
        yield self

    def get(self, job_id: str) -> Outcome | None:
        with self._capture._lock:
            jobs = (taken.job for taken in self._capture._jobs)
            job = next((job for job in jobs if job.job_id == job_id), None)
            return None if job is None else self._capture._outcome(job)

    def wait(self, job_id: str, timeout_s: float | None) -> Outcome:
        """The outcome, if the job is settled. Never waits: here nobody settles it meanwhile.

        Raises:
            TimeoutError: it is not.
        """
        outcome = self.get(job_id)
        if outcome is not None and outcome.settled:
            return outcome
        if outcome is not None and outcome.attempts:
            why = f"is pending, also after deliver_captured(): {outcome.message}"
        else:
            why = "is captured by a test and pending: deliver_captured() delivers it"
        raise TimeoutError(f"job {job_id} {why}")

    def of_email(self, email: str, *, limit: int = 100) -> list[Outcome]:
        with self._capture._lock:
            jobs = reversed(self._capture.of(email, account=self.account))
            return [self._capture._outcome(job) for job in jobs][:limit]


_open: list[Capture] = []
_opening = threading.Lock()


@contextmanager
def capture() -> Iterator[Capture]:
    """Capture all jobs that this process hands over within the block; none reaches Redis.

    The jobs of all threads, and of any `Producer`, wherever it was made. They are checked as for
    real. Of captures within each other, the innermost takes the jobs. Settings of the environment
    and of Django are read anew in the block, and again after it.

    A receipt's `outcome()` is pending, and its `wait()` is a TimeoutError at once, until
    `deliver_captured()` has settled the job.
    """
    found = Capture()
    read_anew()
    with _opening:
        _open.append(found)
    try:
        with diverted(found._inbox):
            yield found
    finally:
        with _opening:
            _open.remove(found)
        read_anew()


def deliver_captured(
    *, customers: Iterable[str] | None = None, sandbox: SandboxConfig | None = None
) -> tuple[Outcome, ...]:
    """Deliver what the innermost capture has, to a stand-in of ChartMogul in this process.

    The worker's own code does so, on a Redis in this process (fakeredis). It opens no socket and
    waits for nothing: what finds no customer, or does not show in an answer, is not tried again,
    and a job that is to be tried later, such as after a 503, stays `pending`. Called again, it
    delivers what came since, to the same customers.

    Args:
        customers: emails that have a customer; one named twice has two. Unless given, those of
            `sandbox` do, and without that every email.
        sandbox: how the stand-in behaves in all else, such as its faults.

    Returns:
        The outcomes of all captured jobs, in their order.

    Raises:
        RuntimeError: nothing is being captured.
        ModuleNotFoundError: the extra `testing` is not installed.
    """
    with _opening:
        innermost = _open[-1] if _open else None
    if innermost is None:
        raise RuntimeError("deliver_captured() delivers within a block of capture()")
    return innermost.deliver(customers=customers, sandbox=sandbox)


def _has(job: CapturedJob, wanted: Iterable[Attribute]) -> bool:
    has = {attribute.key: attribute for attribute in job.attributes}
    return all(_equals(has.get(attribute.key), attribute) for attribute in wanted)


def _equals(has: Attribute | None, wanted: Attribute) -> bool:
    """Whether an attribute is the wanted one. Its source counts where one is wanted."""
    return (
        has is not None
        and (has.type, has.value) == (wanted.type, wanted.value)
        and wanted.source in (None, has.source)
    )


def _shown(attribute: Attribute) -> str:
    source = f" from {attribute.source}" if attribute.source else ""
    return f"{attribute.key}={attribute.value!r} ({attribute.type.value}{source})"
