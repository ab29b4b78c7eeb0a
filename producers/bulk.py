"""Handing over many jobs: a batch in one round trip, and no more than workers keep up with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from ..jobs.attributes import Attributes
from ..jobs.build import build_job
from ..jobs.errors import FieldError, InvalidJob, NotEnqueued, shown_field
from ..jobs.job import EPOCH, Lane
from ..jobs.plain import kind
from ..state.inbox import Entry
from ..state.keys import Keys
from .inbox import Inbox, entry_of

Item = tuple[str, Attributes] | Mapping[str, Any]
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

_FIELDS = {"email", "attributes", "source", "occurred_at", "idempotency_key", "job_id"}
_MICROSECOND = timedelta(microseconds=1)


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
class _Made:
    """An item that makes a job."""

    entry: Entry
    own_id: bool
    """Whether the item named its id."""


class BulkLoad:
    """One call of `add_many`."""

    def __init__(
        self, inbox: Inbox, keys: Keys, *, lane: Lane, only_changed: bool, max_waiting: int
    ) -> None:
        if lane not in get_args(Lane):
            raise _wrong("lane", 'must be "live" or "bulk"')
        if not isinstance(only_changed, bool):
            raise _wrong("only_changed", "must be true or false")
        if max_waiting < 0:
            raise ValueError("max_waiting must be at least 0")
        self._inbox = inbox
        self._keys = keys
        self._lane: Lane = lane
        self._only_changed = only_changed
        self._max_waiting = max_waiting
        self._latest = EPOCH
        self._enqueued = 0

    def run(
        self, jobs: Iterable[Item], *, on_batch: Callable[[Batch], None] | None, batch_size: int
    ) -> Bulk:
        """Hand over all jobs, a batch at a time."""
        if not 1 <= batch_size <= MAX_BATCH_SIZE:
            raise ValueError(f"batch_size must be from 1 to {MAX_BATCH_SIZE}")
        duplicates = rejected = 0
        rejections: list[Rejected] = []
        for items in self._batches(jobs, batch_size):
            batch = self._hand_over(items)
            self._enqueued += batch.enqueued
            duplicates += batch.duplicates
            rejected += len(batch.rejected)
            rejections += batch.rejected[: MAX_REJECTIONS - len(rejections)]
            if on_batch is not None:
                on_batch(batch)
        return Bulk(
            enqueued=self._enqueued,
            duplicates=duplicates,
            rejected=rejected,
            rejections=tuple(rejections),
        )

    def _batches(self, jobs: Iterable[Item], size: int) -> Iterator[list[_Made | Rejected]]:
        batch: list[_Made | Rejected] = []
        characters = 0
        for position, item in enumerate(jobs):
            try:
                made = self._made(item)
                characters += len(made.entry.wire)
                batch.append(made)
            except InvalidJob as invalid:
                batch.append(Rejected(position=position, errors=invalid.errors))
            if len(batch) == size or characters >= MAX_BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def _made(self, item: Item) -> _Made:
        fields = _fields_of(item)
        job_id = fields.get("job_id")
        # Never the same time twice, so that the later item of an email is the newer one.
        self._latest = max(datetime.now(UTC), self._latest + _MICROSECOND)
        job = build_job(
            email=fields.get("email"),
            attributes=fields.get("attributes"),
            source=fields.get("source"),
            occurred_at=fields.get("occurred_at"),
            idempotency_key=fields.get("idempotency_key"),
            lane=self._lane,
            only_changed=self._only_changed,
            now=self._latest,
            job_id=job_id,
        )
        return _Made(entry=entry_of(job), own_id=job_id is not None)

    def _hand_over(self, items: list[_Made | Rejected]) -> Batch:
        made = [each for each in items if isinstance(each, _Made)]
        known = self._put(made) if made else {}
        answering = iter([known.get(at, each.entry.job_id) for at, each in enumerate(made)])
        return Batch(
            job_ids=tuple(
                None if isinstance(each, Rejected) else next(answering) for each in items
            ),
            # One that is known by an id made here came twice by itself: redis-py lost the answer
            # and asked again.
            duplicates=sum(
                made[at].own_id or job_id != made[at].entry.job_id for at, job_id in known.items()
            ),
            rejected=tuple(each for each in items if isinstance(each, Rejected)),
        )

    def _put(self, made: list[_Made]) -> dict[int, str]:
        unsure = 0
        try:
            self._wait_for_room()
            unsure = len(made)
            known = self._inbox.put(self._keys, self._lane, [each.entry for each in made])
            return {position: each.job_id for position, each in known.items()}
        except NotEnqueued as error:
            perhaps = f", and perhaps {unsure} more" if unsure else ""
            text = f"{error}; {self._enqueued} jobs were enqueued before that{perhaps}"
            raise NotEnqueued(text) from error

    def _wait_for_room(self) -> None:
        before = waiting = self._inbox.waiting(self._keys)
        deadline = time.monotonic() + STALLED_AFTER_S
        while waiting > self._max_waiting:
            if time.monotonic() > deadline:
                raise NotEnqueued(
                    f"{waiting} jobs are in the inbox, which has not shrunk for "
                    f"{STALLED_AFTER_S:g} s: no worker seems to run"
                )
            time.sleep(LOOK_AGAIN_S)
            before, waiting = waiting, self._inbox.waiting(self._keys)
            if waiting < before:
                deadline = time.monotonic() + STALLED_AFTER_S


def _fields_of(item: Item) -> Mapping[str, Any]:
    if isinstance(item, tuple) and len(item) == 2:
        return {"email": item[0], "attributes": item[1]}
    if not isinstance(item, Mapping):
        raise _wrong("", f"must be a pair of email and attributes, or a mapping; not {kind(item)}")
    if not item.keys() <= _FIELDS:
        known = ", ".join(sorted(_FIELDS))
        raise InvalidJob(
            FieldError(path=shown_field(name), message=f"no such field; an item has {known}")
            for name in item
            if name not in _FIELDS
        )
    return item


def _wrong(path: str, message: str) -> InvalidJob:
    return InvalidJob([FieldError(path=path, message=message)])
