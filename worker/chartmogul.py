"""The requests to ChartMogul: one try each, within one deadline."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssltransport import SSLTransport

from ..config.secret import Secret
from ..config.settings import is_loopback
from .retry_after import retry_after_s

MAX_BODY = 1024 * 1024
"""Bytes that are read of an answer."""

WATCH_EVERY_S = 0.05
"""How often it is looked whether a request has used up its time."""

USER_AGENT = f"attribute-courier/{version('attribute-courier')}"

Departing = Callable[[], contextlib.AbstractContextManager[None]]
"""Entered when a request is ready, its connection too, and left when it is sent."""

_PATH = "/customers/attributes/custom"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    retry_after_s: float | None = None
    """Seconds that it asks to wait (`Retry-After`)."""


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """Nothing came back that can be read as an answer."""

    reason: str
    """In words, without what was sent."""
    sent: bool
    """Whether the request may have reached ChartMogul, which then may still act on it."""


class ChartMogul:
    """One account of ChartMogul's API. May be used by several threads; each has its own connection.

    Args:
        api_url: without a slash at the end.
        api_key: goes as the user name of HTTP Basic, with an empty password (ChartMogul
            reference: authentication), and to no other host: redirects are not followed.
        timeout_s: seconds from the claim or the start of a request to the last byte of its answer.
    """

    def __init__(
        self,
        api_url: str,
        api_key: Secret,
        *,
        timeout_s: float,
        with_associated_emails: bool = False,
    ) -> None:
        self._api_url = api_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._with_associated_emails = with_associated_emails
        self._threads = threading.local()

    def add_attributes(
        self,
        email: str,
        custom: list[dict[str, Any]],
        *,
        departing: Departing = contextlib.nullcontext,
        since_s: float | None = None,
    ) -> Answer | NoAnswer:
        """Set custom attributes of all customers with this email. Raises nothing of HTTP's.

        `since_s`: from when on its time is counted, by the monotonic clock; now unless given.
        """
        body: dict[str, Any] = {"email": email, "custom": custom}
        if self._with_associated_emails:
            body["with_associated_emails"] = True
        return self._request("POST", _PATH, body, departing, since_s)

    def ping(self) -> Answer | NoAnswer:
        """Ask whether the API key is valid. Raises nothing of HTTP's."""
        return self._request("GET", "/ping")

    def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        departing: Departing = contextlib.nullcontext,
        since_s: float | None = None,
    ) -> Answer | NoAnswer:
        deadline = _Deadline(time.monotonic() if since_s is None else since_s, self._timeout_s)
        _current.deadline, _current.departing = deadline, departing
        try:
            line = self._line()
            request = line.blank.copy()
            request.prepare_method(method)
            request.url = self._api_url + path
            request.prepare_body(None, None, json=body)
            with (
                deadline,
                line.adapter.send(
                    request,
                    timeout=(min(5, self._timeout_s), self._timeout_s),
                    **line.environment,
                ) as response,
            ):
                content = _read(response)
            if deadline.over:  # cut off, the body may only look complete
                raise requests.Timeout
            return Answer(
                status=response.status_code,
                body=content,
                retry_after_s=retry_after_s(response.headers),
            )
        except (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
        ) as error:
            reason = f"no answer within {self._timeout_s:g} s" if deadline.over else _reason(error)
            return NoAnswer(reason=reason, sent=deadline.sent)

    def _line(self) -> _Line:
        line: _Line | None = getattr(self._threads, "line", None)
        if line is None:
            session = requests.Session()
            # A proxy of the environment has no business between this machine and itself.
            session.trust_env = not is_loopback(urlsplit(self._api_url).hostname or "")
            session.auth = (self._api_key.reveal(), "")
            session.headers["User-Agent"] = USER_AGENT
            session.headers["Accept"] = "application/json"
            environment = session.merge_environment_settings(self._api_url, {}, True, None, None)
            self._threads.line = line = _Line(
                adapter=_DeadlineAdapter(pool_maxsize=1),
                blank=session.prepare_request(requests.Request("GET", self._api_url)),
                environment=dict(environment),
            )
        return line


@dataclass(frozen=True, kw_only=True, repr=False)
class _Line:
    """A thread's connection to ChartMogul, and what all its requests have in common.

    What a session makes of it is the same each time, and would cost more than the sending. An
    adapter follows no redirect and keeps no cookie.
    """

    adapter: HTTPAdapter
    blank: requests.PreparedRequest
    environment: dict[str, Any]
    """Proxies, whose certificates hold, and to read an answer bit by bit."""


def _read(response: requests.Response) -> bytes:
    content = bytearray()
    for chunk in response.iter_content(65_536):
        content += chunk
        if len(content) >= MAX_BODY:
            break
    return bytes(content[:MAX_BODY])


def _reason(error: Exception) -> str:
    """The error in a few words. Its own text can hold addresses, so only its kind is told."""
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS failed: the server's certificate was not accepted"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "could not connect in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return "the answer could not be decoded"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off"
    if isinstance(error, requests.ConnectionError):
        return "the connection failed"
    return type(error).__name__


class _Deadline:
    """Ends a request for good: read timeouts start anew with every byte, this does not.

    A lease is longer than this deadline, so that no second request for an email can start while
    one is under way (promise 3).
    """

    def __init__(self, since_s: float, timeout_s: float) -> None:
        self.sent = False
        self._ends_s = since_s + timeout_s
        self._sock: socket.socket | SSLTransport | None = None

    @property
    def over(self) -> bool:
        """Whether the time has passed; if so, the watch cuts the request off, or soon will."""
        return time.monotonic() >= self._ends_s

    def __enter__(self) -> None:
        _watch.add(self)

    def __exit__(self, *_: object) -> None:
        _watch.remove(self)

    def before_sending(self, connection: HTTPConnection) -> None:
        """Raises ConnectTimeoutError when connecting has used up the time."""
        # Not the connection: it forgets its socket while an answer that ends it is still read.
        self._sock = connection.sock
        if self.over:
            raise urllib3.exceptions.ConnectTimeoutError
        self.sent = True

    def cut(self) -> None:
        """End the request, whatever it waits for."""
        sock = self._sock
        while isinstance(sock, SSLTransport):  # TLS through the TLS of a proxy
            sock = sock.socket
        if sock is not None:
            with contextlib.suppress(OSError):  # closed in this moment
                # Not SSLSocket's own, which takes TLS off a socket that another thread uses.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Watch:
    """Cuts off requests whose deadline is over.

    One thread looks after all of them: a timer for each would be a seventh of a worker's CPU time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadlines: set[_Deadline] = set()
        self._any = threading.Event()
        self._thread = threading.Thread()

    def add(self, deadline: _Deadline) -> None:
        with self._lock:
            self._deadlines.add(deadline)
            self._any.set()
            if not self._thread.is_alive():  # also in a process that was forked
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()

    def remove(self, deadline: _Deadline) -> None:
        with self._lock:
            self._deadlines.discard(deadline)

    def _run(self) -> None:
        while self._any.wait():
            time.sleep(WATCH_EVERY_S)
            with self._lock:  # so none is cut off that has just ended: its connection lives on
                for deadline in self._deadlines:
                    if deadline.over:
                        deadline.cut()
                if not self._deadlines:
                    self._any.clear()


_watch = _Watch()


class _Current(threading.local):
    deadline: _Deadline
    departing: Departing


_current = _Current()


class _Bounded(HTTPConnection):
    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        with _current.departing():
            _current.deadline.before_sending(self)
            super().request(*args, **kwargs)


class _BoundedTLS(_Bounded, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _Bounded


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedTLS


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class _DeadlineAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        if not isinstance(manager, urllib3.ProxyManager):
            raise requests.exceptions.InvalidProxyURL  # SOCKS: its connections know no deadline
        manager.pool_classes_by_scheme = _POOLS
        return manager
