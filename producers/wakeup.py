"""The message that wakes a worker up: "there is something in this account's inbox"."""

from __future__ import annotations

import logging
import os
import socket
import time
from uuid import uuid4

from ..config import Settings
from ..config.broker_errors import describe_broker_error
from ..config.connections import Client
from ..config.messages import ACCEPT_QUEUE, ACCEPT_SHOWN, ACCEPT_TASK, KEY_PREFIX
from ..config.waking import current_waker
from ..state.inbox import WakeMessage
from .broker import Broker, Message, NotNow, RedisBroker, as_redis_holds_it
from .over_kombu import KombuBroker

log = logging.getLogger(__name__)


class WakeUp:
    """Sends wake-ups. May be shared by threads, and made before a fork.

    Args:
        client: of the Redis that holds the state, to send by where it is the broker, too; a new
            one unless given.
    """

    def __init__(self, settings: Settings, client: Client | None = None) -> None:
        self._settings = settings
        self.broker: Broker = (
            KombuBroker(settings) if settings.broker is None else RedisBroker(settings, client)
        )
        """What carries the messages."""

    def message(self, account: str) -> WakeMessage | None:
        """The wake-up, for the inbox to send it in the step that takes the jobs.

        None where another broker than the inbox's Redis carries it, or an application's own Celery
        app: `send` does that.
        """
        if self._settings.own_broker or current_waker() is not None:
            return None
        message = as_redis_holds_it(_message(account))
        return WakeMessage(queue=KEY_PREFIX + ACCEPT_QUEUE, message=message)

    def send(self, account: str, *, deadline_s: float) -> bool:
        """Tell a worker that an account's inbox is not empty. Never raises an exception.

        Args:
            account: its name.
            deadline_s: when to give up, by `time.monotonic()`.

        Returns:
            Whether the message was sent. If not, the jobs are found all the same: each worker looks
            into the inbox about once a second.
        """
        if time.monotonic() >= deadline_s:
            return False
        waker = current_waker()
        if waker is not None:
            return waker(account, deadline_s)
        try:
            self.broker.send(_message(account), deadline_s=deadline_s)
        except NotNow:
            return False
        except Exception as error:  # whatever it is, the job was taken, and the caller is told so
            log.warning(
                "no message sent to the workers, which find the jobs without one: %s",
                describe_broker_error(self._settings, error),
            )
            return False
        return True

    def close(self) -> None:
        """Close the connections that were opened here. New ones are opened when needed."""
        self.broker.close()


def _message(account: str) -> Message:
    """A message for the task `accept` (Celery's reference "Message Protocol", version 2)."""
    task_id = str(uuid4())
    return Message(
        body=[[account], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        headers={
            "lang": "py",
            "task": ACCEPT_TASK,
            "id": task_id,
            "root_id": task_id,
            "parent_id": None,
            "group": None,
            "argsrepr": ACCEPT_SHOWN,
            "kwargsrepr": "",
            "origin": f"{os.getpid()}@{socket.gethostname()}",
            "ignore_result": True,
        },
        routing_key=ACCEPT_QUEUE,
        message_id=task_id,
    )
