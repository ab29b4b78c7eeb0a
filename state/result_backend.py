"""Celery's result backend: a job's outcome is its result.

`AsyncResult(job_id, app=…)` and all that is built on it read the outcomes, which the worker
writes in the step that settles. Nothing is ever stored through Celery.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import redis
from celery import states
from celery.backends.base import Backend, SyncBackendMixin
from celery.exceptions import Retry

from ..config.celery import CourierCelery
from ..config.connections import connect_patiently
from ..jobs.errors import NotDelivered
from ..jobs.outcome import Outcome
from ..state.outcomes import Outcomes
from .keys import Keys
from .shards import first_of


class OutcomeBackend(SyncBackendMixin, Backend):
    """Reads outcomes as results.

    `pending` is PENDING, or RETRY once an attempt was made, with the next one's time; `delivered`,
    `superseded` and `unchanged` are SUCCESS with the `Outcome` as result; `canceled` is REVOKED, as
    a task that was taken back before it ran, and the rest is FAILURE, both with `NotDelivered`,
    which carries it.
    """

    app: CourierCelery
    supports_autoexpire = True

    @cached_property
    def _client(self) -> redis.Redis:
        return connect_patiently(self.app.settings)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        meta: dict[str, Any] = {"task_id": task_id, "traceback": None, "children": []}
        outcome = self._find(task_id)
        if outcome is None or not outcome.settled:
            if outcome is not None and outcome.attempts:
                retry = Retry(outcome.message, when=outcome.next_attempt_at)
                return meta | {"status": states.RETRY, "result": retry}
            return meta | {"status": states.PENDING, "result": None}
        meta["date_done"] = outcome.settled_at.isoformat() if outcome.settled_at else None
        if outcome.successful:
            return meta | {"status": states.SUCCESS, "result": outcome}
        status = states.REVOKED if outcome.status == "canceled" else states.FAILURE
        return meta | {"status": status, "result": NotDelivered(outcome)}

    def _find(self, job_id: str) -> Outcome | None:
        # A task id does not say whose it is; accounts are few.
        return first_of(
            self._client,
            self.app.settings.accounts,
            lambda account: Outcomes(self._client, Keys(account)).get(job_id),
        )

    def _store_result(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: only the worker's settling writes outcomes."""

    def _forget(self, task_id: str) -> None:
        """Nothing: outcomes end with their retention."""
