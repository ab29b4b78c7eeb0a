"""The message that wakes a worker up: "there is something in this account's inbox".

It is a Celery message, written here by hand: Celery's own way of sending reads the environment of
the application (`CELERY_BROKER_URL` and others), shares its connection pools with it, and hangs
each message as a child under the application's current task. None of this may happen, and all of it
costs time while the application waits.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import time
from functools import cached_property
from uuid import uuid4

from ..config import Settings
from ..config.connections import Client, connect_briefly, until
from ..config.messages import ACCEPT_QUEUE, ACCEPT_SHOWN, ACCEPT_TASK, KEY_PREFIX
from ..config.redis_errors import describe_redis_error
from ..config.waking import current_waker
from ..state.inbox import WakeMessage

log = logging.getLogger(__name__)


class WakeUp:
    """Sends wake-ups. May be shared by threads, and made before a fork.

    Args:
        client: a client for Redis to send by; a new one unless given.
    """

    def __init__(self, settings: Settings, client: Client | None = None) -> None:
        self._settings = settings
        self._given = client

    @cached_property
    def _client(self) -> Client:
        return self._given or connect_briefly(self._settings)

    def message(self, account: str) -> WakeMessage | None:
        """The wake-up, for the inbox to send it in the step that takes the jobs.

        None where an application's own Celery app wakes the workers (`worker.install`).
        """
        if current_waker() is not None:
            return None
        return WakeMessage(queue=KEY_PREFIX + ACCEPT_QUEUE, message=_message(account))

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
            with until(deadline_s):
                self._client.lpush(KEY_PREFIX + ACCEPT_QUEUE, _message(account))
        except Exception as error:  # whatever it is, the job was taken, and the caller is told so
            log.warning(
                "no message sent to the workers, which find the jobs without one: %s",
                describe_redis_error(self._settings, error),
            )
            return False
        return True

    def close(self) -> None:
        """Close the connections that were opened here. New ones are opened when needed."""
        client = self.__dict__.pop("_client", None)
        if client is not None and client is not self._given:
            client.close()


def _message(account: str) -> str:
    """A Celery message (protocol 2) for the task `accept`, as Kombu lays it into a Redis list.

    Sources: Celery's reference "Message Protocol", version 2; Kombu's virtual transports
    (properties, base64 for the body).
    """
    task_id = str(uuid4())
    body = [[account], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
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
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": ACCEPT_QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
    )
