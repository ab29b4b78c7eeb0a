"""What Celery's worker runs for our own app, from its start to its stop."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import Any

from celery import bootsteps, signals

from ..config.broker import Transport
from ..config.redis_errors import RedisError
from .attached import attached_service
from .liveness import STAMP_S
from .notifier import Notifier
from .own_threads import OwnThreads
from .service import Unfit, WorkerService

log = logging.getLogger(__name__)

EVENTS_EVERY_S = 0.25
EVENTS_AT_ONCE = 200
LAST_EVENTS_WITHIN_S = 1.0
"""A process of the prefork pool ends after so long, although its last events are not sent."""
WELL_AFTER_S = 3.0
"""So long after the consumer has connected without an error, it counts as well."""


def service_of(app: Any) -> WorkerService:
    """What a worker of this app needs."""
    found: WorkerService = attached_service(app)
    return found


class Checks(bootsteps.Step):
    """Refuses to start, in words, where a worker could not work."""

    def __init__(self, worker: Any, autoscale: Any = None, **options: Any) -> None:
        service = service_of(worker.app)
        try:
            service.check_settings(worker.pool_cls)
        except Unfit as unfit:
            raise SystemExit(f"Error: {unfit}") from None
        if autoscale:
            raise SystemExit(
                "Error: a worker does not work with --autoscale. Its idle threads cost nothing: "
                "set their number by --concurrency or COURIER_CONCURRENCY"
            )
        follow_signals(worker, service)


class Living(bootsteps.StartStopStep):
    """Shows `courier health` that this worker can work, from its start to its end."""

    def __init__(self, worker: Any, **options: Any) -> None:
        self._liveness = service_of(worker.app).liveness

    def start(self, worker: Any) -> None:
        self._liveness.start(worker)

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:
        """Each time that the consumer has connected."""
        hub.call_repeatedly(STAMP_S, self._liveness.beat, "consumer")

    def stop(self, worker: Any) -> None:
        self._liveness.stopping()


class Ticking(bootsteps.StartStopStep):
    """Runs the ticker, the hooks and the outbox, from the worker's start to its stop."""

    # Its threads begin after the pool's processes were forked, which would have their locks.
    requires = (Living, "celery.worker.components:Pool")

    def __init__(self, worker: Any, **options: Any) -> None:
        self._service = service_of(worker.app)
        self._threads: OwnThreads | None = None

    def start(self, worker: Any) -> None:
        service = self._service
        if service.settings.own_broker:
            self._threads = OwnThreads(worker.app, service.settings.concurrency)
            service.notifier.own_threads = self._threads
            service.notifier.broker_is_away = lambda: service.broker_trouble.present
        try:
            with suppress(RedisError):  # each task and tick looks again
                service.check_redis()
            service.start(worker)
        except Unfit as unfit:
            raise SystemExit(f"Error: {unfit}") from None

    def stop(self, worker: Any) -> None:
        self._service.stopping.set()
        if self._threads is not None:
            self._threads.finish(self._service.settings.timeout_s + 2)
        self._service.stop()


def follow_signals(worker: Any, service: WorkerService) -> None:
    """Let a service know, by Celery's signals, when its worker stops and its pool forks."""
    service.notifier.hostname = worker.hostname
    service.notifier.keep_events(True)

    def shutting_down(**_: Any) -> None:
        service.liveness.stopping()
        service.stopping.note()  # what is in flight is finished, and nothing further begins

    def forked(**_: Any) -> None:
        """In a process of the prefork pool: it has a dispatcher, and a clock, of its own."""
        service.forked()
        service.notifier.keep_events(worker.task_events)
        if worker.task_events:
            _send_events_of_a_child(worker.app, worker.hostname, service.notifier)

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_process_init.connect(forked, weak=False)


def _send_events_of_a_child(app: Any, hostname: str, notifier: Notifier) -> None:
    dispatcher = app.events.Dispatcher(
        app.connection_for_write(),
        hostname=hostname,
        buffer_group=["task"],
        on_send_buffered=lambda: None,
    )
    dispatcher.buffer_limit = EVENTS_AT_ONCE
    ending = threading.Event()

    def send() -> None:
        ended = False
        while not ended:
            ended = ending.wait(EVENTS_EVERY_S)
            try:
                notifier.send_events(dispatcher)
                dispatcher.flush()  # keeps what the broker does not take
            except Exception:
                log.exception("events for Flower were not sent; trying again")

    def last(**_: Any) -> None:
        ending.set()
        thread.join(LAST_EVENTS_WITHIN_S)

    thread = threading.Thread(target=send, name="events", daemon=True)
    thread.start()
    signals.worker_process_shutdown.connect(last, weak=False)


class SendsEvents(bootsteps.StartStopStep):
    """Sends events by the worker's dispatcher while it is connected, a few times a second."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self.timers: list[Any] = []

    def start(self, consumer: Any) -> None:
        # A transport that is not asynchronous has no hub.
        self.timers = [consumer.timer.call_repeatedly(EVENTS_EVERY_S, self._send, (consumer,))]

    def stop(self, consumer: Any) -> None:
        for timer in self.timers:  # none, where it was never connected
            timer.cancel()

    def shutdown(self, consumer: Any) -> None:
        """Once the pool has stopped, which says what came of its last tasks."""
        self._send(consumer)

    def _send(self, consumer: Any) -> None:
        if consumer.event_dispatcher is not None:
            self.send(consumer.event_dispatcher)

    def send(self, dispatcher: Any) -> None:
        raise NotImplementedError


class Reports(SendsEvents):
    """Sends all of our worker's events together.

    Celery sends nearly each by itself, which would be a quarter of the worker's CPU time.
    """

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer)
        self._service = service_of(consumer.app)

    def start(self, consumer: Any) -> None:
        super().start(consumer)
        consumer.event_dispatcher.buffer_limit = EVENTS_AT_ONCE
        self.timers.append(
            consumer.timer.call_after(
                WELL_AFTER_S, self._service.broker_trouble.over, ("consumer",)
            )
        )

    def stop(self, consumer: Any) -> None:
        super().stop(consumer)
        self._send(consumer)  # the next dispatcher does not know what this one keeps

    def send(self, dispatcher: Any) -> None:
        self._service.notifier.send_events(dispatcher)
        dispatcher.flush()


class Watch(bootsteps.StartStopStep):
    """Looks once a second whether a connection of our transport for Redis has fallen silent."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        transport = consumer.connection.transport
        if isinstance(transport, Transport):
            self._timer = consumer.timer.call_repeatedly(1.0, self._look, (transport,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @staticmethod
    def _look(transport: Any) -> None:
        for channel in transport.channels:
            channel.check_silence()
