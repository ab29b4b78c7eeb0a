"""The courier in a worker of an application's Celery app: on, off with a reason, or not yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import bootsteps

from ..config.chosen import choose
from ..config.errors import SettingsError
from ..config.messages import ACCEPT_TASK, DELIVER_TASK
from ..config.redis_errors import RedisError
from ..config.running_tests import running_tests
from ..config.settings import Settings
from .account_worker import TICK_S
from .attached import attached_host
from .notifier import Asking
from .service import Unfit, WorkerService
from .steps import SendsEvents, follow_signals

log = logging.getLogger(__name__)

STINT_S = 2.0
"""A stint beside an application's own tasks ends after so long."""
LOOK_AGAIN_S = 2.0
"""How often an unfit Redis is asked whether it is fit now."""
STOP_WITHIN_S = 2.0
"""What hooks that are being told add to the worker's own time to stop, at most."""


class HostedWorker:
    """The courier in a worker of an application's Celery app.

    Args:
        app: the application's.
        settings: of the courier; those that hold, unless given.
        queue: of our messages; the app's own choice, unless given.
        send: sends a message through the app, without waiting.
    """

    def __init__(
        self,
        app: Any,
        settings: Settings | None,
        queue: str | None,
        send: Callable[[str, str, str], object],
    ) -> None:
        self._app = app
        self._settings = settings
        self._queue = queue
        self._send = send
        self._lock = threading.Lock()
        self._service: WorkerService | None = None
        self._prepared = False
        self._on = False
        self._alone = False
        self._said = ""

    @property
    def service(self) -> WorkerService:
        """What delivers.

        Raises:
            SettingsError: the settings are not valid.
        """
        if self._service is not None:  # without the lock, which a fork may have copied while held
            return self._service
        with self._lock:
            if self._service is None:
                self._service = WorkerService(
                    self._settings or choose().load(strict=True),
                    send=self._send,
                    stint_s=None if self._alone else STINT_S,
                    asking=Asking,
                )
            return self._service

    @property
    def delivers(self) -> bool:
        """Whether messages are to be obeyed; else the jobs wait in Redis."""
        return self._on and not self.service.stopping.is_set()

    def room(self, pool: Any) -> int:
        """How many of our tasks may be in a worker's pool at once.

        As many as it has threads or processes, where it serves no other queue than ours; else the
        half of them. Never more than COURIER_CONCURRENCY.
        """
        slots = max(1, pool.num_processes or 1)
        ours = slots if self._alone else max(1, slots // 2)
        return min(ours, self.service.settings.concurrency)

    def rest_s(self, pool: Any) -> float:
        """How long our tasks rest, where they have the whole pool while one of them runs."""
        return 0.0 if self._alone or (pool.num_processes or 1) > 1 else STINT_S

    def answered(self) -> None:
        """Messages of ours come, or can come again."""
        if self._on:
            for account in self.service.settings.accounts:
                asking = self.service.account_worker(account).asking
                if asking is not None:
                    asking.answered()

    # --- from the worker's start to its end -------------------------------------------------------

    def prepare(self, worker: Any) -> None:
        """See whether the courier can deliver here, before the pool starts. Says why not."""
        # Not the service of a worker that this process ran before, which stays stopped.
        self._service, self._prepared, self._on, self._said = None, False, False, ""
        try:
            self._prepare(worker)
        except (SettingsError, Unfit) as fault:
            self._say_off(str(fault))
        except Exception as error:
            log.exception("the courier cannot be prepared")
            self._say_off(type(error).__name__)

    def _prepare(self, worker: Any) -> None:
        queues = self._queues()
        served = set(self._app.amqp.queues.consume_from)
        if queues and not queues & served:
            log.warning(
                "the courier delivers nothing in this worker, which does not serve its queue (%s): "
                "another one must, such as one with -Q %s",
                ", ".join(sorted(queues)),
                ",".join(sorted(served | queues)),
            )
            return
        # The default queue is the application's tasks', too.
        self._alone = served <= queues - {self._app.conf.task_default_queue}
        if not self.service.settings.enabled:
            log.warning("the courier is turned off in this worker (COURIER_ENABLED)")
            return
        self._check(worker)
        follow_signals(worker, self.service)
        self._prepared = True

    def _check(self, worker: Any) -> None:
        settings = self.service.settings
        if not settings.names_redis and (runner := running_tests()):
            raise Unfit(f"{runner} runs this, and nobody named a Redis (COURIER_REDIS_URL)")
        if not {"json", "application/json"} & set(self._app.conf.accept_content or ()):
            raise Unfit(
                "the Celery app's accept_content lacks json, which the courier's messages are "
                "written in: add it"
            )
        self.service.check_settings(worker.pool_cls)

    def _queues(self) -> set[str]:
        """The names of the queues to which our messages go; empty where that cannot be told."""
        if self._queue is not None:
            return {self._queue}
        found = set()
        for task in (ACCEPT_TASK, DELIVER_TASK):
            # Not `route()`: it would add a queue that is missing, and the worker would serve it.
            route = self._app.amqp.router.lookup_route(task, [""], {}, {})
            if isinstance(route, str):
                route = {"queue": route}
            if route and "queue" not in route and ("exchange" in route or "routing_key" in route):
                return set()
            queue = (route or {}).get("queue") or self._app.conf.task_default_queue
            found.add(str(getattr(queue, "name", queue)))
        return found

    def start(self, worker: Any) -> None:
        """Begin to deliver, once Redis is fit for it."""
        if self._prepared:
            threading.Thread(target=self._begin, args=[worker], name="courier", daemon=True).start()

    def _begin(self, worker: Any) -> None:
        service, wait_s = self.service, 0.0
        while not service.stopping.wait(wait_s):
            try:
                service.check_redis()
            except RedisError:
                wait_s = TICK_S
            except Unfit as unfit:
                self._say_off(str(unfit))
                wait_s = LOOK_AGAIN_S
            except Exception:
                log.exception("the courier met an unexpected error; trying again")
                wait_s = LOOK_AGAIN_S
            else:
                break
        else:
            return
        try:
            service.start(worker)
        except Unfit as unfit:
            self._say_off(str(unfit))
            return
        except Exception as error:
            log.exception("the courier cannot start")
            self._say_off(type(error).__name__)
            return
        self._on = True
        if self._said:
            log.warning("the courier delivers in this worker from now on")

    def send_events(self, dispatcher: Any) -> None:
        """Show Flower how jobs stand, by this event dispatcher of the worker's."""
        if self._prepared:
            self.service.notifier.send_events(dispatcher)

    def _say_off(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.error(
                "the courier delivers nothing in this worker, whose other tasks go on: %s", reason
            )

    def stop(self) -> None:
        """Stop what `start` began."""
        if self._prepared:
            self.service.stop(STOP_WITHIN_S)


class InWorker(bootsteps.StartStopStep):
    """The courier, from the start of an application's worker to its stop."""

    requires = ("celery.worker.components:Pool",)  # which forks before our threads are there

    def __init__(self, worker: Any, **options: Any) -> None:
        self._hosted: HostedWorker = attached_host(worker.app).worker
        self._hosted.prepare(worker)

    def start(self, worker: Any) -> None:
        self._hosted.start(worker)

    def stop(self, worker: Any) -> None:
        self._hosted.stop()


class InConsumer(SendsEvents):
    """Sends the courier's events while the application's worker is connected."""

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer)
        self._hosted: HostedWorker = attached_host(consumer.app).worker

    def start(self, consumer: Any) -> None:
        super().start(consumer)
        self._hosted.answered()  # what was asked of a broker that was away counts for nothing

    def send(self, dispatcher: Any) -> None:
        self._hosted.send_events(dispatcher)
