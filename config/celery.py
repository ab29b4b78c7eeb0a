"""The Celery application, with the settings that this work needs.

Celery carries messages to workers; the truth about every job is in Redis. So a message that is
lost or comes twice does no harm, and the settings aim at noticing trouble within seconds.
"""

from __future__ import annotations

import ssl

from celery import Celery
from kombu import Queue

from .settings import Settings

ACCEPT_TASK = "attribute_courier.accept"
"""Task name; argument: account."""
ACCEPT_SHOWN = "what is in the inbox"
ACCEPT_QUEUE = "accept"
DELIVER_TASK = "attribute_courier.deliver"
"""Task name; arguments: account, mailbox id, lease token."""
DELIVER_QUEUE = "deliver"

JOB_TASK = "attribute_courier.add_attributes"
"""The name under which Flower shows live jobs. No message has it."""

KEY_PREFIX = "courier:celery:"
"""Before every key of Celery's: another application's queues in the same Redis stay apart."""


class CourierCelery(Celery):
    """Celery, and the settings that the outcome backend needs to find Redis."""

    settings: Settings


def make_celery(settings: Settings, *, socket_timeout_s: float = 30) -> CourierCelery:
    """The application for `settings`.

    `socket_timeout_s`: seconds to wait for the broker. The worker's blocking pops need the
    default; application code that only publishes wants far less.
    """
    app = CourierCelery("attribute-courier", set_as_current=False)
    app.settings = settings
    app.conf.update(
        broker_url=settings.redis_url.reveal(),
        # For rediss://, where kombu checks no certificate unless told to.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if _is_tls(settings) else None,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # the default gives up after 100
        broker_transport_options={
            "global_keyprefix": KEY_PREFIX,
            # No record of unacknowledged messages, so none comes back: the inbox and the leases
            # recover what a dead worker held, and sooner. With the record, a worker whose Redis
            # restarts may end with an AttributeError when it acknowledges on the old channel.
            "ack_emulation": False,
            "socket_timeout": socket_timeout_s,
            "socket_connect_timeout": min(5, socket_timeout_s),
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        # Outcomes are the results (DESIGN: one truth, written once, in the step that settles).
        result_backend="attribute_courier.state.result_backend:OutcomeBackend",
        task_ignore_result=True,
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        task_queues=[Queue(ACCEPT_QUEUE), Queue(DELIVER_QUEUE)],
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
        worker_cancel_long_running_tasks_on_connection_loss=False,  # threads cannot be ended
        worker_send_task_events=True,  # for Flower
        timezone="UTC",
    )
    return app


def _is_tls(settings: Settings) -> bool:
    return settings.redis_url.reveal().startswith("rediss:")
