"""How entries of the broker's queues come into the worker, whatever is in them.

To Kombu and Celery, an entry that cannot be read is an "unrecoverable error", and the worker ends:
text that is no JSON, JSON that is no envelope, a body of another form. Here such an entry is
dropped and the worker goes on. No job is lost with it: messages hold none, and the ticker finds
what is in the inbox.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty
from typing import Any

import redis
from celery.worker.consumer import Consumer
from kombu.exceptions import InconsistencyError
from kombu.transport.redis import Channel

log = logging.getLogger(__name__)

# What is not the entry's fault. Kombu's own lists will not do: they count a KeyError among the
# connection's errors, and so take a missing field for a lost connection.
_THE_BROKERS = (Empty, OSError, InconsistencyError, redis.RedisError)


class Intake(Consumer):
    """Celery's consumer, which survives what it cannot read. Set as `worker_consumer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Workers have nothing to say to each other: what they share is in Redis. And gossip does
        # not always come back when Redis was away.
        options = kwargs.get("worker_options") or {}
        kwargs["worker_options"] = options | {"without_gossip": True, "without_mingle": True}
        super().__init__(*args, **kwargs)

    def ensure_connected(self, conn: Any) -> Any:
        conn.transport.Channel = _Channel
        return super().ensure_connected(conn)

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # the stubs are wrong
        """Nothing: events are sent by the clock (app.py, `Reports`)."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        receive = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                receive(message)
            except Exception as error:
                if _is_the_brokers(error):
                    raise
                _tell(error)
                # Until then it counts as one that a thread is busy with.
                if not message.acknowledged:
                    message.reject_log_error(log, _THE_BROKERS)

        return on_task_received


class _Channel(Channel):
    # Closing, kombu puts back what was not acknowledged; when it closes since Redis is away, that
    # attempt can end the worker. The inbox and the leases put back what matters.
    do_restore = False

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except Exception as error:
            if _is_the_brokers(error):
                raise
            _tell(error)  # without what it holds, which may be anything
            return True


def _is_the_brokers(error: Exception) -> bool:
    # Of redis-py's errors, DataError is raised before anything is sent: for a part of the entry.
    return isinstance(error, _THE_BROKERS) and not isinstance(error, redis.DataError)


def _tell(error: Exception) -> None:
    log.error("dropped an entry of the broker's queue that is no task (%s)", type(error).__name__)
