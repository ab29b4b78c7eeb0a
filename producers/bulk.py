"""Handing over many jobs: a batch in one round trip, and no more than workers keep up with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..jobs.attributes import Attributes
from ..jobs.build import build_job, named_fields
from ..jobs.errors import FieldError, InvalidJob, NotEnqueued
from ..jobs.job import Lane
from ..jobs.plain import elements, kind
from ..state.inbox import Entry, Known
from .destination import Destination
from .intake import entry_of

Item = tuple[str, Attributes] | Mapping[str, object]
"""A job for `add_many`: email and attributes, or a mapping.

A mapping has the names of `add_attributes`' arguments: `email` and `attributes`, and optionally
`source`, `occurred_at` and `idempotency_key`; and optionally `job_id`, a UUID of one's own. Asked
again with the same id it is the same job, which costs Redis nothing, unlike an idempotency key.
"""

MAX_BATCH_SIZE = 1_000
"""Redis serves nobody else while it takes a batch: some milliseconds for so many jobs."""
MAX_BATCH_CHARACTERS = 1_000_000
"""A batch of longer documents is sent before it is full."""
MAX_REJECTIONS = 1_000
STALLED_AFTER_S = 60.0
"""An inbox that has not shrunk for so long is not waited for any longer."""
LOOK_AGAIN_S = 0.1

_FIELDS = frozenset({"email", "attributes", "source", "occurred_at", "idempotency_key", "job_id"})


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An item that makes no job."""

    position: int
    """In the iterable, from 0."""
    errors: tuple[FieldError, ...]
    """All that is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What became of the items of one round trip."""

    job_ids: tuple[str | None, ...]
    """In the items' order: the job that answers for each; None if it was rejected."""
    duplicates: int
    """How many an earlier job answers for: same idempotency key, or same `job_id`."""
    rejected: tuple[Rejected, ...]

    @property
    def enqueued(self) -> int:
        """How many are new jobs."""
        return len(self.job_ids) - self.duplicates - len(self.rejected)


@dataclass(frozen=True, kw_only=True)
class Bulk:
    """What became of all items, in numbers."""

    enqueued: int
    """New jobs."""
    duplicates: int
    """Items that an earlier job answers for: same idempotency key, or same `job_id`."""
    rejected: int
    """Items that make no job."""
    rejections: tuple[Rejected, ...]
    """The first 1,000 of those."""


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """An item that makes a job."""

    position: int
    entry: Entry
    own_id: bool
    """Whether the item named its id."""


class BulkLoad:
    """One call of `add_many`.

    Raises:
        ValueError: `batch_size` or `max_waiting` is out of bounds.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        lane: Lane,
        only_changed: bool,
        batch_size: int,
        max_waiting: int,
        on_batch: Callable[[Batch], None] | None,
    ) -> None:
        if type(batch_size) is not int or not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise ValueError(f"batch_size must be from 1 to {MAX_BATCH_SIZE}")
        if type(max_waiting) is not int or max_waiting < 0:
            raise ValueError("max_waiting must be at least 0")
        self._destination = destination
        self._lane = lane
        self._only_changed = only_changed
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._on_batch = on_batch
        self._enqueued = 0

    def run(self, items: Iterator[object]) -> Bulk:
        """Hand over all items, a batch at a time.

        What the caller's own code raises goes through, with a note of how many were enqueued.
        """
        duplicates = rejected = 0
        rejections: list[Rejected] = []
        try:
            for each in self._batches(items):
                batch = self._hand_over(each)
                self._enqueued += batch.enqueued
                duplicates += batch.duplicates
                rejected += len(batch.rejected)
                rejections += batch.rejected[: MAX_REJECTIONS - len(rejections)]
                if self._on_batch is not None:
                    self._on_batch(batch)
        except NotEnqueued:
            raise  # its text says it
        except BaseException as error:
            error.add_note(f"add_many: {self._enqueued} jobs were enqueued before this")
            raise
        return Bulk(
            enqueued=self._enqueued,
            duplicates=duplicates,
            rejected=rejected,
            rejections=tuple(rejections),
        )

    def _batches(self, items: Iterator[object]) -> Iterator[list[_Ready | Rejected]]:
        batch: list[_Ready | Rejected] = []
        characters = 0
        for position, item in enumerate(items):
            try:
                ready = self._ready(position, item)
                characters += len(ready.entry.wire)
                batch.append(ready)
            except InvalidJob as invalid:
                batch.append(Rejected(position=position, errors=invalid.errors))
            if len(batch) == self._batch_size or characters >= MAX_BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def _ready(self, position: int, item: object) -> _Ready:
        fields = _fields_of(item)
        job = build_job(
            email=fields.get("email"),
            attributes=fields.get("attributes"),
            source=fields.get("source"),
            occurred_at=fields.get("occurred_at"),
            idempotency_key=fields.get("idempotency_key"),
            lane=self._lane,
            only_changed=self._only_changed,
            job_id=fields.get("job_id"),
        )
        own_id = fields.get("job_id") is not None
        return _Ready(position=position, entry=entry_of(job), own_id=own_id)

    def _hand_over(self, items: list[_Ready | Rejected]) -> Batch:
        ready = [each for each in items if isinstance(each, _Ready)]
        known = self._put([each.entry for each in ready]) if ready else {}
        answers = {each.position: known.get(at) for at, each in enumerate(ready)}
        job_ids: list[str | None] = []
        rejected: list[Rejected] = []
        duplicates = 0
        for each in items:
            if isinstance(each, Rejected):
                rejected.append(each)
                job_ids.append(None)
                continue
            job_id, first = each.entry.job_id, answers[each.position]
            if first is None:
                job_ids.append(job_id)
            elif first.conflict:
                rejected.append(_conflict(each.position, first))
                job_ids.append(None)
            else:
                # One that is known by an id made here came twice by itself: redis-py lost the
                # answer and asked again.
                duplicates += each.own_id or first.job_id != job_id
                job_ids.append(first.job_id)
        return Batch(job_ids=tuple(job_ids), duplicates=duplicates, rejected=tuple(rejected))

    def _put(self, entries: list[Entry]) -> dict[int, Known]:
        unsure = 0
        try:
            self._wait_for_room()
            unsure = len(entries)
            return self._destination.put(self._lane, entries)
        except NotEnqueued as error:
            perhaps = f", and perhaps {unsure} more" if unsure else ""
            text = f"{error}; {self._enqueued} jobs were enqueued before that{perhaps}"
            raise NotEnqueued(text) from error

    def _wait_for_room(self) -> None:
        before = waiting = self._destination.waiting()
        deadline_s = time.monotonic() + STALLED_AFTER_S
        while waiting > self._max_waiting:
            if time.monotonic() > deadline_s:
                raise NotEnqueued(
                    f"{waiting} jobs are in the inbox, which has not shrunk for "
                    f"{STALLED_AFTER_S:g} s: no worker seems to run"
                )
            time.sleep(LOOK_AGAIN_S)
            before, waiting = waiting, self._destination.waiting()
            if waiting < before:
                deadline_s = time.monotonic() + STALLED_AFTER_S


def iterator_of(jobs: Iterable[Item]) -> Iterator[object]:
    """An iterator over a caller's items.

    Raises:
        InvalidJob: it is nothing to iterate over.
    """
    try:
        return iter(jobs)
    except TypeError:
        raise InvalidJob.of("jobs", f"must be an iterable of items, not {kind(jobs)}") from None


def _fields_of(item: object) -> dict[str, object]:
    """The arguments for a job that an item holds, not judged yet."""
    errors: list[FieldError] = []
    try:
        if issubclass(type(item), Mapping):
            fields, errors = named_fields(item, _FIELDS, "an item")
        elif issubclass(type(item), tuple | list) and len(pair := elements(item, most=3)) == 2:
            fields = dict(zip(("email", "attributes"), pair, strict=True))
        else:
            message = f"must be a pair of email and attributes, or a mapping; not {kind(item)}"
            raise InvalidJob.of("value", message)
    except InvalidJob as invalid:
        raise InvalidJob.of("", invalid.errors[0].message) from None
    if errors:
        raise InvalidJob(errors)
    return fields


def _conflict(position: int, first: Known) -> Rejected:
    message = f"belongs to job {first.job_id}, which has other content"
    return Rejected(
        position=position, errors=(FieldError(path="idempotency_key", message=message),)
    )
