"""Jobs that are checked now and handed over later, when a transaction has been committed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from ..jobs.errors import CourierError
from ..jobs.job import AttributeJob, Lane
from .destination import Destination
from .intake import entry_of
from .receipt import Receipt

log = logging.getLogger(__name__)


class JobOptions(TypedDict, total=False):
    """What a job in a transaction may say, as it means for `add_attributes`."""

    source: str | None
    occurred_at: datetime | None
    lane: Lane
    only_changed: bool
    account: str | None


@dataclass(frozen=True, kw_only=True)
class Deferred:
    """A job that is valid, and in nobody's hands yet."""

    job: AttributeJob
    receipt: Receipt
    destination: Destination

    def send(self) -> None:
        """Hand it over. Never raises an exception: the transaction was committed already.

        A job that Redis does not take is lost, and an error in the log says so. The outbox loses
        none.
        """
        try:
            self.destination.put(self.job.lane, [entry_of(self.job)])
        except CourierError as error:
            log.error("job %s: lost after the commit: %s", self.job.job_id, error)
