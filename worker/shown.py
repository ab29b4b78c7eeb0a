"""How Flower shows our tasks."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class Shown(Request):
    """A task that did no good is shown as retried, with its reason in words and no traceback."""

    def on_retry(self, exc_info: Any) -> None:
        self.acknowledge()
        error = exc_info.exception  # in threads with its traceback around it
        text = str(error.exc or error)
        self.send_event("task-retried", exception=text, traceback=None)
