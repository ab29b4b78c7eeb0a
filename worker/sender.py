"""Sending our messages through an application's Celery app, which nobody has to wait for."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import Celery

from ..config.publisher import Publisher
from ..config.tracing import apart

log = logging.getLogger(__name__)

_Message = tuple[str, str, str]


class Sender:
    """Sends our messages through a Celery app. May be shared by threads, and made before a fork.

    Not by the app's own pool of connections: a message of ours that hangs must hold none of them,
    and after a plain fork they are still the parent's.

    Args:
        app: the application's.
        queue: where to; where the app sends such a task, unless given.
    """

    def __init__(self, app: Celery, queue: str | None) -> None:
        self._app = app
        self._options: dict[str, Any] = {} if queue is None else {"queue": queue}
        # Nobody would send heartbeats: a broker that expects them would close it.
        self._publisher = Publisher(
            partial(app.connection_for_write, heartbeat=0), self._publish, _describe
        )

    def send(self, task: str, account: str, shown: str, *, wait_s: float = 0.0) -> bool:
        """Send a message. Raises nothing.

        An app with `task_always_eager` sends nothing: its jobs wait for a worker's tick.

        Args:
            task: its name.
            account: its argument.
            shown: what Flower shows in its place.
            wait_s: how long to wait until the message was sent.

        Returns:
            Whether it was sent by then.
        """
        try:
            if self._app.conf.task_always_eager:
                return False
            return self._publisher.send((task, account, shown), wait_s=wait_s)
        except Exception as error:  # the settings of the application's app are not ours
            log.warning("no message sent to the workers (%s)", type(error).__name__)
            return False

    def _publish(self, connection: Any, message: _Message) -> None:
        task, account, shown = message
        with apart():
            self._app.send_task(
                task,
                [account],
                connection=connection,
                argsrepr=shown,
                kwargsrepr="",
                retry=False,
                serializer="json",
                ignore_result=True,
                **self._options,
            )


def _describe(error: Exception) -> str:
    """Not the error's text: it may hold the broker's URL."""
    return f"the broker of the application's Celery app fails ({type(error).__name__})"
