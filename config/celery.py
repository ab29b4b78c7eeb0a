"""The Celery application, with the settings that this work needs.

Celery carries messages to workers; the truth about every job is in Redis. So a message that is
lost or comes twice does no harm, and the settings aim at noticing trouble within seconds.

It may live in a process beside an application's own Celery. So it takes nothing from there: no
variable `CELERY_…`, no current app, no connection pool; and it changes nothing there.
"""

from __future__ import annotations

import ssl
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from celery.loaders.app import AppLoader
from kombu import Connection, Queue
from kombu.pools import ProducerPool

from .connections import CONNECT_TIMEOUT_S, PATIENT_TIMEOUT_S
from .messages import (
    ACCEPT_QUEUE as ACCEPT_QUEUE,
)
from .messages import (
    ACCEPT_SHOWN as ACCEPT_SHOWN,
)
from .messages import (
    ACCEPT_TASK as ACCEPT_TASK,
)
from .messages import (
    DELIVER_QUEUE as DELIVER_QUEUE,
)
from .messages import (
    DELIVER_TASK as DELIVER_TASK,
)
from .messages import (
    JOB_TASK as JOB_TASK,
)
from .messages import (
    KEY_PREFIX as KEY_PREFIX,
)
from .redis_url import RedisAddress
from .settings import Settings
from .transport import HEARTBEAT_S, QUEUE_ARGUMENTS, Transport, transport_of

POOL_LIMIT = 10
"""Connections for sending messages, at most."""


class PlainLoader(AppLoader):
    def read_configuration(self, env: str = "") -> dict[str, Any]:
        """Nothing: CELERY_CONFIG_MODULE is the application's."""
        return {}


class _AMQP(AMQP):
    app: Any
    _producer_pool: Any

    def Connection(  # type: ignore[override]  # noqa: N802
        self, *args: Any, **options: Any
    ) -> Connection:
        """To the broker. Celery knows it by this name."""
        from .broker import BrokerConnection

        settings: Settings = self.app.settings
        if settings.broker is None:
            return Connection(*args, **options)
        if settings.own_broker:
            settings = settings.of_broker()
        return BrokerConnection(*args, settings=settings, **options)

    @property
    def producer_pool(self) -> ProducerPool:
        """Of our own connections. Kombu's pools are shared by all Celery apps of a process."""
        if self._producer_pool is None:
            self._producer_pool = ProducerPool(
                self.app.pool,
                limit=POOL_LIMIT,
            )
        pool: ProducerPool = self._producer_pool
        return pool


class CourierCelery(Celery):
    """Celery, and the settings that the outcome backend needs to find Redis."""

    settings: Settings
    transport: Transport | None
    """How the broker is talked to, if it is no Redis."""
    patience: dict[str, Any]
    """Options of sending: what is lost with a connection is sent once more, where that is asked."""
    _pool: Any

    log_cls = "attribute_courier.config.logs:WorkerLog"
    # Outcomes are the results (DESIGN: one truth, written once, in the step that settles).
    backend_cls = "attribute_courier.state.result_backend:OutcomeBackend"

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError: Kombu cannot talk to the broker."""
        super().__init__(
            "attribute-courier",
            loader=PlainLoader,
            amqp=_AMQP,
            set_as_current=False,
            fixups=[],  # Django's would set Django up for us
        )
        self.settings = settings
        self.transport = None if settings.broker is not None else transport_of(settings)
        self.patience = {"retry": False}
        if self.transport is not None:
            # A pooled connection that was lost; a connection of Redis's opens itself anew.
            once = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
            self.patience = {"retry": True, "retry_policy": once}
        self._broker_url = self.transport.url if self.transport else _redis_url(settings)

    # Celery takes CELERY_BROKER_URL and its like before what is configured.
    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        return super().connection_for_read(url or self._broker_url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        return super().connection_for_write(url or self._broker_url, **options)

    @property
    def pool(self) -> Any:
        if self._pool is None:
            self._ensure_after_fork()  # type: ignore[attr-defined]
            options: dict[str, Any] = {}
            if self.transport is not None and self.transport.amqp:
                # RabbitMQ says that it has a message, or the worker works without it.
                options["transport_options"] = {"confirm_publish": True}
            self._pool = self.connection_for_write(**options).Pool(limit=POOL_LIMIT)
        return self._pool

    def close(self) -> None:
        """Celery's own leaves the connections of its pool to the garbage collector."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.force_close_all()
        super().close()


def _redis_url(settings: Settings) -> str:
    """What Kombu is to parse. Where to connect `BrokerConnection` knows."""
    if settings.broker is None or settings.broker.kind == "single":
        return settings.messages_url.reveal()
    return f"redis://localhost/{settings.broker.db}"


def _tls(address: RedisAddress) -> dict[str, Any]:
    # Kombu verifies no certificate unless told to, and would send the password to whoever answers.
    if address.verified:
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}


def make_celery(settings: Settings) -> CourierCelery:
    """The application for `settings`."""
    app = CourierCelery(settings)
    app.conf.update(
        broker_url=app._broker_url,
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # an error answer within a transaction's answer
        broker_connection_max_retries=None,  # the default gives up after 100
        result_backend=CourierCelery.backend_cls,
        task_ignore_result=True,
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        task_queues=[_queue(ACCEPT_QUEUE), _queue(DELIVER_QUEUE)],
        task_default_queue=ACCEPT_QUEUE,
        task_create_missing_queues=False,
        task_routes={
            ACCEPT_TASK: {"queue": ACCEPT_QUEUE},
            DELIVER_TASK: {"queue": DELIVER_QUEUE},
        },
        # Kombu counts what is not acknowledged: late, a worker takes no more than it has threads.
        task_acks_late=True,
        worker_pool="threads",
        worker_concurrency=settings.concurrency,
        worker_prefetch_multiplier=1,
        # The pace is the account's, and Redis keeps it. A limit that somebody sets from outside
        # (Flower has a field for it) would hold messages back in a worker's memory.
        worker_disable_rate_limits=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # threads cannot be ended
        worker_enable_prefetch_count_reduction=False,  # after a connection was lost
        worker_send_task_events=True,  # for Flower
        timezone="UTC",
        **_broker(app),
    )
    return app


def _queue(name: str) -> Queue:
    return Queue(name, routing_key=name, queue_arguments=QUEUE_ARGUMENTS)


def _broker(app: CourierCelery) -> dict[str, Any]:
    """How the broker is talked to."""
    if (way := app.transport) is not None:
        return {
            "broker_transport": way.name,
            "broker_use_ssl": way.ssl,
            "broker_heartbeat": HEARTBEAT_S if way.amqp else None,
            "broker_connection_timeout": CONNECT_TIMEOUT_S,
            "broker_transport_options": way.options,
            # Two workers may have one name, as two on one machine do: an exclusive queue would keep
            # the second from connecting. One that is neither durable nor exclusive is deprecated
            # in RabbitMQ. Celery has these settings from 5.6 on.
            "control_queue_exclusive": False,
            "control_queue_durable": True,
        }
    redis = app.settings.broker or app.settings.redis
    return {
        "broker_transport": "attribute_courier.config.broker:Transport",
        "broker_use_ssl": _tls(redis) if redis.tls else None,
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            # No record of unacknowledged messages, so none comes back: the inbox and the leases
            # recover what a dead worker held, and sooner. With the record, a worker whose Redis
            # restarts may end with an AttributeError when it acknowledges on the old channel.
            "ack_emulation": False,
            # A blocking pop waits a second at a time, so these need not be longer.
            "socket_timeout": PATIENT_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            # Seconds of silence after which Kombu takes a blocking pop's connection for dead.
            "health_check_interval": 4,
        },
    }
