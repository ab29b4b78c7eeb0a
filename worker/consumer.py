"""How entries of the broker's queues come into the worker, whatever is in them, whatever happens.

To Kombu and Celery, an entry that cannot be read is an "unrecoverable error", and the worker ends:
text that is no JSON, JSON that is no envelope, a body of another form. Here such an entry is
dropped and the worker goes on. No job is lost with it: messages hold none, and the ticker finds
what is in the inbox.

And when Redis is away or answers with errors, the consumer connects again, every two seconds at
the latest, and says once what is wrong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any
from warnings import catch_warnings, simplefilter

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import InconsistencyError, OperationalError

from ..config.broker import Channel, Transport
from ..config.redis_errors import DataError, RedisError
from .steps import service_of

log = logging.getLogger(__name__)

_CELERYS_LOG = logging.getLogger("celery.worker.consumer.consumer")


def _worth_a_word(record: logging.LogRecord) -> bool:
    """All but what says, with a traceback, that a task's connection was lost while it ran.

    Its message comes again, which does no harm.
    """
    return not str(record.msg).startswith("Couldn't ack ")


logging.getLogger("celery.worker.request").addFilter(_worth_a_word)

PART = "consumer"
RECONNECT_S = 2.0
"""The longest pause between two tries to connect."""

# What is not the entry's fault. Kombu's own lists will not do: they count a KeyError among the
# connection's errors, and so take a missing field for a lost connection.
_THE_BROKERS = (Empty, OSError, InconsistencyError, OperationalError, RedisError)


class Intake(Consumer):
    """Celery's consumer, which survives what it cannot read. Set as `worker_consumer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Workers have nothing to say to each other: what they share is in Redis. And gossip does
        # not always come back when Redis was away.
        options = kwargs.get("worker_options") or {}
        kwargs["worker_options"] = options | {"without_gossip": True, "without_mingle": True}
        super().__init__(*args, **kwargs)
        self._service = service_of(self.app)
        self._last_error_s = 0.0
        own: Any = self  # the stubs lack these
        own.connection_errors = (*own.connection_errors, OperationalError)
        known = (*_THE_BROKERS, *own.connection_errors, *own.channel_errors)
        own.loop = _going_on(own.loop, known)

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, as often as it takes. Celery's own pauses grow to half a minute."""
        if isinstance(conn.transport, Transport):
            conn.transport.Channel = _Channel
        connected: Any = conn.ensure_connection(
            lambda error, _interval_s: self._service.broker_trouble.met(PART, error),
            None,
            interval_start=0.5,
            interval_step=0.5,
            interval_max=RECONNECT_S,
            callback=self._go_on,
        )
        self.first_connection_attempt = False
        return connected

    def perform_pending_operations(self) -> None:
        """Each round of the loop for transports that are not asynchronous."""
        self._service.liveness.beat("consumer")
        super().perform_pending_operations()

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        _drop(type(exc).__name__)
        message.reject_log_error(log, _THE_BROKERS)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        with _silenced(_CELERYS_LOG), catch_warnings():  # it would say the same, each time
            simplefilter("ignore", PendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        self._pause(exc)

    def _pause(self, error: Exception) -> None:
        """Say it. The first error costs no time; where others follow, wait before the next."""
        self._service.broker_trouble.met(PART, error)
        last_s, self._last_error_s = self._last_error_s, time.monotonic()
        until_s = last_s + RECONNECT_S
        while (left_s := until_s - time.monotonic()) > 0:
            self._go_on()
            time.sleep(min(left_s, 0.1))

    def _go_on(self) -> None:
        """While it waits for Redis: it is alive, and ends when it is to."""
        self._service.liveness.beat("consumer")
        maybe_shutdown()

    def on_send_event_buffered(self) -> None:  # type: ignore[override]  # the stubs are wrong
        """Nothing: events are sent by the clock (`steps.Reports`)."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        receive = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> Any:
            fault = _fault(message, self.app.tasks)
            if fault:
                _drop(fault)
            else:
                try:
                    return receive(message)
                except _THE_BROKERS:
                    raise
                except Exception:
                    log.exception("a message could not be given to the pool; it is dropped")
            if not message.acknowledged:  # until then it counts as one that a thread is busy with
                message.reject_log_error(log, _THE_BROKERS)
            return None

        return on_task_received


def _going_on(loop: Callable[..., None], known: Any) -> Callable[..., None]:
    """Celery's loop. With a transport that is not ours, an error that the transport does not name
    counts as a lost connection."""

    def run(worker: Any, connection: Any, *args: Any) -> None:
        try:
            loop(worker, connection, *args)
        except known:
            raise
        except Exception as error:
            if isinstance(connection.transport, Transport):
                raise
            raise OperationalError(f"{type(error).__name__}: {error}") from error

    return run


class _Channel(Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack it
        except DataError as error:
            # Of redis-py's errors, the one that is raised before anything is sent.
            _drop(type(error).__name__)
        except _THE_BROKERS:
            raise
        except Exception as error:
            # What was read is the envelope; `on_task_received` raises nothing else.
            _drop(type(error).__name__)
        return True


def _fault(message: Any, tasks: Any) -> str:
    """Why a message is no task of ours; "" if it is one. Without what it holds: that may be all."""
    headers = message.headers
    if not isinstance(headers, dict):
        return "it has no headers"
    if not isinstance(headers.get("task"), str) or headers["task"] not in tasks:
        return "it names no task of ours"
    if not isinstance(headers.get("id"), str):
        return "it has no id"
    limits = headers.get("timelimit") or []
    if headers.get("eta") or headers.get("expires") or limits not in ([], [None, None]):
        return "it has a time of its own"
    try:
        body = message.decode()
    except Exception as error:  # of any decoder
        return type(error).__name__
    kinds = [type(part) for part in body] if isinstance(body, list) else []
    if kinds not in ([list, dict, dict], [list, dict, type(None)]):
        return "its body has another form"
    return ""


def _drop(fault: str) -> None:
    log.error("dropped an entry of the broker's queue that is no task (%s)", fault)


@contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
