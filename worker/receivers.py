"""Who is told what became of jobs: a webhook, or a Celery task of an application."""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from celery import Celery
from kombu import Connection, Queue
from kombu.exceptions import KombuError, OperationalError

from ..config.celery import PlainLoader
from ..config.connections import CONNECT_TIMEOUT_S
from ..config.redis_errors import RedisError
from ..config.secret import Secret
from ..config.settings import Settings
from ..jobs.hooks import HookEvent
from .chartmogul import USER_AGENT, Answer, Line

MAX_WAITING = 10_000
"""Messages in the queue of a task, beyond which the application counts as down: a queue that nobody
reads must not fill up a Redis."""
LOOK_AT_QUEUE_S = 1.0
GONE_S = 300.0
"""After a receiver said that it is gone for good (410), it is asked so seldom."""

_ITS_OWN_FAULT = frozenset({400, 406, 409, 411, 412, 413, 414, 415, 422, 431, 451})
"""Answers that say something of one event, and nothing of the next."""
_BROKERS: tuple[type[Exception], ...] = (KombuError, OSError, RedisError)
_NAMESPACE = uuid.UUID("5f1c2a3e-7c0b-5a7e-9f5d-2f6f0b1f7a10")


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A receiver did not take an event."""

    reason: str
    """In words, without what is private."""
    by_all: bool = True
    """Whether it says something of the receiver as a whole, not of this event alone."""
    retry_after_s: float | None = None
    """Seconds that it asks to wait."""


class Receiver(Protocol):
    """May be used by several threads."""

    name: str
    """For people, without what is secret."""

    def send(self, event: HookEvent) -> Refused | None:
        """Hand over an event. None if it was taken. Raises nothing that is to be expected."""


def receiver_of(settings: Settings) -> Receiver | None:
    """The receiver that the settings name; None if there is none."""
    if settings.hook_url is not None:
        return Webhook(settings.hook_url, settings.hook_secrets, timeout_s=settings.hook_timeout_s)
    if settings.hook_task and settings.hook_broker_url is not None:
        return Task(
            settings.hook_task,
            settings.hook_broker_url,
            settings.hook_queue,
            timeout_s=settings.hook_timeout_s,
        )
    return None


class Webhook:
    """Signs events and posts them. TLS is verified, and redirects are not followed.

    Args:
        url: a user and password in it go as HTTP Basic.
        secrets: `whsec_<base64>`. With several, a receiver may know any one of them.
        timeout_s: from opening the connection to the end of the answer.
    """

    def __init__(self, url: Secret, secrets: Sequence[Secret], *, timeout_s: float) -> None:
        parts = urlsplit(url.reveal())
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        self.name = f"the webhook at {host}{port}"
        self._server = f"{parts.scheme}://{host}{port}"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json"}
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            encoded = base64.b64encode(credentials.encode()).decode()
            self._headers["Authorization"] = f"Basic {encoded}"
        self._threads = threading.local()

    def send(self, event: HookEvent) -> Refused | None:
        body = json.dumps(event.document(), separators=(",", ":")).encode()
        answer = self._line().exchange(
            "POST",
            self._path,
            body,
            ends_by_s=time.monotonic() + self._timeout_s,
            headers=signed(event.id, int(time.time()), body, self._secrets),
        )
        if not isinstance(answer, Answer):
            return Refused(reason=getattr(answer, "reason", "no answer"))
        return _refusal(answer)

    def _line(self) -> Line:
        line: Line | None = getattr(self._threads, "line", None)
        if line is None:
            line = self._threads.line = Line(self._server, self._headers, self._timeout_s)
        return line


def signed(
    event_id: str, timestamp_s: int, body: bytes, secrets: Sequence[Secret]
) -> dict[str, str]:
    """The headers of the Standard Webhooks specification.

    These lines, and no library: `standardwebhooks`, which does the same, would bring an HTTP client
    and eight more packages for them.
    """
    content = f"{event_id}.{timestamp_s}.".encode() + body
    signatures = []
    for secret in secrets:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"))
        signatures.append(f"v1,{base64.b64encode(hmac.digest(key, content, 'sha256')).decode()}")
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }


def _refusal(answer: Answer) -> Refused | None:
    status = answer.status
    if 200 <= status < 300:
        return None
    wait_s = answer.retry_after_s
    if 300 <= status < 400:
        return Refused(reason=f"HTTP {status}: redirects are not followed", retry_after_s=wait_s)
    if status == 410:
        return Refused(reason="HTTP 410: it is gone for good", retry_after_s=GONE_S)
    by_all = status not in _ITS_OWN_FAULT
    return Refused(reason=f"HTTP {status}", by_all=by_all, retry_after_s=wait_s)


class Task:
    """Sends each event as a message for a task of an application, as JSON.

    Args:
        task: its name.
        broker_url: of the application's broker.
        queue: that its workers read.
        timeout_s: of each step of a connection.
    """

    def __init__(self, task: str, broker_url: Secret, queue: str, *, timeout_s: float) -> None:
        parts = urlsplit(broker_url.reveal())
        self.name = f"the task {task} by the broker at {parts.hostname}"
        self._task = task
        self._broker_url = broker_url
        self._queue = queue
        self._options = _connection_options(parts.scheme, timeout_s)
        self._app = Celery(
            "attribute-courier-hooks",
            loader=PlainLoader,
            set_as_current=False,
            fixups=[],
        )
        self._app.conf.update(
            task_serializer="json", accept_content=["json"], task_queues=[Queue(queue)]
        )
        self._threads = threading.local()
        self._full = False
        self._looked_s = -LOOK_AT_QUEUE_S

    def send(self, event: HookEvent) -> Refused | None:
        connection = self._connection()
        try:
            if self._is_full(connection):
                return Refused(reason=f"its queue holds {MAX_WAITING:,} messages already")
            self._app.send_task(
                self._task,
                [event.document()],
                task_id=str(uuid.uuid5(_NAMESPACE, event.id)),
                queue=self._queue,
                connection=connection,
                ignore_result=True,
                retry=False,
                argsrepr=event.summary(),
                kwargsrepr="",
                headers={"webhook-id": event.id},
            )
        except (*_BROKERS, *connection.connection_errors) as error:
            self._threads.connection = None
            connection.release()
            return Refused(reason=f"the broker does not take it ({_kind(error)})")
        return None

    def _connection(self) -> Connection:
        found: Connection | None = getattr(self._threads, "connection", None)
        if found is None:
            found = Connection(self._broker_url.reveal(), **self._options)
            self._threads.connection = found
        return found

    def _is_full(self, connection: Connection) -> bool:
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_AT_QUEUE_S:
            self._looked_s = now_s
            channel: Any = connection.channel()
            with channel:
                try:
                    waiting = channel.queue_declare(self._queue, passive=True).message_count
                except connection.channel_errors:  # there is no such queue yet
                    waiting = 0
            self._full = waiting >= MAX_WAITING
        return self._full


def _connection_options(scheme: str, timeout_s: float) -> dict[str, Any]:
    if scheme in ("redis", "rediss"):
        options: dict[str, Any] = {
            "transport_options": {
                "socket_timeout": timeout_s,
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
            }
        }
        # Kombu verifies no certificate unless told to.
        verified = {"ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED}}
        return options | (verified if scheme == "rediss" else {})
    options = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        # Without a confirmation, a message may be lost with nobody knowing.
        "transport_options": {
            "confirm_publish": True,
            "read_timeout": timeout_s,
            "write_timeout": timeout_s,
        },
    }
    tls = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    return options | ({"ssl": tls} if scheme == "amqps" else {})


def _kind(error: BaseException) -> str:
    """An error in a word: its own text may hold the address of the broker, with a password."""
    cause = error.__cause__ if isinstance(error, OperationalError) else None
    return type(cause or error).__name__
