"""The courier in an application's own Celery app, on its own broker and queues.

Nothing here opens a connection or reads settings: a web process imports it, too.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import Celery, Task

from ..config.errors import SettingsError
from ..config.messages import ACCEPT_SHOWN, ACCEPT_TASK
from ..config.settings import Settings
from ..config.waking import wake_by
from .attached import attach, attached_host, has_one
from .sender import Sender

LONGEST_S = 3600
"""Longer than any task of ours runs: none is ended by a time limit that is meant for others."""

TASK_OPTIONS: dict[str, Any] = {
    "Strategy": "attribute_courier.worker.turns:strategy",
    "serializer": "json",
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "acks_late": True,
    "acks_on_failure_or_timeout": True,
    "reject_on_worker_lost": False,
    "rate_limit": 0,
    "time_limit": LONGEST_S,
    "soft_time_limit": LONGEST_S,
}
"""What would else come from the app's settings, which are the application's."""

_lock = threading.Lock()
_installed: Host | None = None


class Host:
    """An application's Celery app that has the courier.

    Args:
        app: the application's.
        settings: of the courier; those that hold when a worker starts, unless given.
        queue: of our messages; the app's own choice, unless given.
    """

    def __init__(self, app: Celery, settings: Settings | None, queue: str | None) -> None:
        self.app = app
        self.settings = settings
        self.queue = queue
        self.sender = Sender(app, queue)
        self._lock = threading.Lock()
        self._worker: Any = None

    @property
    def worker(self) -> Any:
        """The courier in a worker of this app (`hosted.HostedWorker`), made when it is needed."""
        if self._worker is None:
            with self._lock:
                if self._worker is None:
                    from .hosted import HostedWorker

                    send = self.sender.send
                    self._worker = HostedWorker(self.app, self.settings, self.queue, send)
        return self._worker

    def wake(self, account: str, deadline_s: float) -> bool:
        """Wake a worker for an account, until `deadline_s`. Raises nothing."""
        wait_s = deadline_s - time.monotonic()
        return self.sender.send(ACCEPT_TASK, account, ACCEPT_SHOWN, wait_s=wait_s)


def install(app: Celery, *, settings: Settings | None = None, queue: str | None = None) -> None:
    """Let the workers of an application's own Celery app deliver.

    Call it where the app is made, so that workers and web processes alike have it. It changes none
    of the app's settings. Workers deliver beside the application's own tasks, with state in the
    courier's Redis; what hands jobs over in this process wakes them through the app. To call it
    twice does no harm. An app of the same name that is made anew, as a factory does for each test,
    takes the earlier one's place.

    Args:
        app: the application's.
        settings: of the courier, for workers. Unless given, those that hold when a worker starts:
            of `configure()`, else Django's before the environment's.
        queue: of our messages. Unless given, where the app sends such a task: by its `task_routes`,
            else to its default queue.

    Raises:
        SettingsError: an app of another name has the courier already, or this one with other
            arguments; or it is the courier's own app.
        TypeError: this is no Celery app.
    """
    global _installed
    if not isinstance(app, Celery):
        raise TypeError(f"install() takes a Celery app, not {type(app).__name__}")
    with _lock:
        if _installed is not None and _installed.app.main != app.main:
            raise SettingsError(
                f"install(): the Celery app {_installed.app.main!r} has the courier already in "
                f"this process, and {app.main!r} cannot have it, too: call install() for one of "
                "them, the one whose workers shall deliver"
            )
        if has_one(app):
            host = attached_host(app)
            if host is None:
                raise SettingsError(
                    "install(): this is the courier's own Celery app: give it your application's"
                )
            if (host.settings, host.queue) != (settings, queue):
                raise SettingsError(
                    "install(): this Celery app has the courier already, with other settings or "
                    "another queue: call it once, or with the same arguments"
                )
            wake_by(host.wake)
            _installed = host
            return
        host = Host(app, settings, queue)
        attach(app, lambda: host.worker.service, host)
        # By their names: what workers need is imported in workers alone.
        app.steps["worker"].add("attribute_courier.worker.hosted:InWorker")
        app.steps["consumer"].add("attribute_courier.worker.hosted:InConsumer")
        if vars(app)["finalized"]:
            _add_tasks(app)
        else:
            app.on_after_finalize.connect(_finalized, weak=False)
        wake_by(host.wake)
        _installed = host


def _finalized(sender: Any, **_: Any) -> None:
    _add_tasks(sender)


def _add_tasks(app: Any) -> None:
    """Not before the app is finalized: to make a task reads the app's settings."""
    from .tasks import register

    register(app, base=Task, **TASK_OPTIONS)
