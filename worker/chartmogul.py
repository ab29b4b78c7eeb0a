"""The requests to ChartMogul: one try each, within one deadline."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

import urllib3
from urllib3.util.ssltransport import SSLTransport

from ..config.secret import Secret
from .retry_after import retry_after_s
from .way import Connection, Unreachable, Way

MAX_BODY = 4 * 1024 * 1024
"""Bytes that are read of an answer: over twice what 20 customers with 300 long attributes make."""

CONNECT_WITHIN_S = 5.0
"""A connection is opened within this time, or the shorter time that a request has."""

WATCH_EVERY_S = 0.05
"""How often it is looked whether a request has used up its time."""

USER_AGENT = f"attribute-courier/{version('attribute-courier')}"


_BROKEN = (
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # of a host that cannot be written as one, or an answer that is none
)
"""What connecting, writing and reading raise."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    """Decoded; its first `MAX_BODY` bytes where it is larger."""
    retry_after_s: float | None = None
    """Seconds that it asks to wait (`Retry-After`)."""
    elapsed_s: float = field(default=0.0, compare=False)
    """Seconds from the write to the end of the answer."""


@dataclass(frozen=True, kw_only=True)
class NoAnswer:
    """Nothing came back that can be read as an answer."""

    reason: str
    """In words, without what was sent."""
    sent: bool
    """Whether the request may have reached ChartMogul, which then may still act on it."""
    own_side: bool = False
    """Whether our own side is at fault: a proxy, a certificate, the configuration."""
    timed_out: bool = field(default=False, compare=False)
    """Whether the time was up."""
    elapsed_s: float = field(default=0.0, compare=False)
    """Seconds since the write; 0 when nothing was sent."""


@dataclass(frozen=True)
class NotSent:
    """The time to leave had passed, so no request was sent."""


class Transport(Protocol):
    """A way to send one request at a time."""

    def connect(self, ends_by_s: float) -> NoAnswer | None:
        """As `ChartMogul.connect`, until `ends_by_s` of `time.monotonic()`."""
        ...

    def exchange(
        self, method: str, path: str, body: bytes | None, *, leave_by_s: float, ends_by_s: float
    ) -> Answer | NoAnswer | NotSent:
        """One request and its answer, in the times of `ChartMogul.add_attributes`."""
        ...


class ChartMogul:
    """One account of ChartMogul's API. May be used by several threads; each has its own connection.

    The variables that `requests` knows for proxies and for certificates (`REQUESTS_CA_BUNDLE`)
    are honoured; no proxy is used within this machine.

    Args:
        api_url: without a slash at the end.
        api_key: goes as the user name of HTTP Basic, with an empty password (ChartMogul
            reference: authentication), and to no other host: redirects are not followed.
        timeout_s: seconds that a ping, or opening a connection ahead of time, may take.
        with_associated_emails: match customers through their contacts' emails too.
        line: by which all requests go, in place of connections to `api_url`.
    """

    def __init__(
        self,
        api_url: str,
        api_key: Secret,
        *,
        timeout_s: float,
        with_associated_emails: bool = False,
        line: Transport | None = None,
    ) -> None:
        self._api_url = api_url
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._with_associated_emails = with_associated_emails
        self._given = line
        self._threads = threading.local()

    def connect(self) -> NoAnswer | None:
        """Make sure that this thread's connection is open and alive. Never raises.

        Returns:
            Why there is no connection; None when there is one.
        """
        return self._line().connect(time.monotonic() + self._timeout_s)

    def add_attributes(
        self,
        email: str,
        custom: list[dict[str, Any]],
        *,
        leave_by_s: float,
        ends_by_s: float,
    ) -> Answer | NoAnswer | NotSent:
        """Set custom attributes of all customers with this email. Raises nothing of HTTP's.

        The request leaves in one write, and `leave_by_s` is compared with the clock directly
        before it: a process that stood still earlier sends nothing. What remains is a process
        that stops between that comparison and the write, or in the middle of a write that the
        network holds up.

        Args:
            email: as the job names it.
            custom: the attributes, as the reference has them.
            leave_by_s: nothing is written after this time of `time.monotonic()`.
            ends_by_s: the request is cut off at this time of `time.monotonic()`.
        """
        body: dict[str, Any] = {"email": email, "custom": custom}
        if self._with_associated_emails:
            body["with_associated_emails"] = True
        return self._line().exchange(
            "POST",
            "/customers/attributes/custom",
            json.dumps(body, allow_nan=False, separators=(",", ":")).encode(),
            leave_by_s=leave_by_s,
            ends_by_s=ends_by_s,
        )

    def ping(self) -> Answer | NoAnswer:
        """Ask whether the API key is valid. Raises nothing of HTTP's."""
        ends_by_s = time.monotonic() + self._timeout_s
        found = self._line().exchange(
            "GET", "/ping", None, leave_by_s=math.inf, ends_by_s=ends_by_s
        )
        assert not isinstance(found, NotSent)  # noqa: S101  (it may leave at any time)
        return found

    def _line(self) -> Transport:
        if self._given is not None:
            return self._given
        line: Line | None = getattr(self._threads, "line", None)
        if line is None or line.pid != os.getpid():  # a connection is not shared after a fork
            credentials = base64.b64encode(f"{self._api_key.reveal()}:".encode()).decode()
            headers = {
                "User-Agent": USER_AGENT,
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "Content-Type": "application/json",
                "Authorization": f"Basic {credentials}",
            }
            self._threads.line = line = Line(self._api_url, headers, self._timeout_s)
        return line


class _TooLate(Exception):  # noqa: N818  (not an error)
    """The time to leave has passed."""


class Line:
    """A thread's connection to a server, with the times of the request that is on it.

    Args:
        url: what stands before each request's path.
        headers: of every request.
        timeout_s: what a request that took too long is said to have had.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self.pid = os.getpid()
        self._url = url
        self._headers = headers
        self._timeout_s = timeout_s
        self._way: Way | None = None
        self._connection: Connection | None = None
        self._sock: socket.socket | SSLTransport | None = None
        self._leave_by_s = self._ends_by_s = 0.0
        self._sent_s: float | None = None

    def __del__(self) -> None:
        self._close()

    def connect(self, ends_by_s: float) -> NoAnswer | None:
        """As `ChartMogul.connect`."""
        self._ends_by_s, self._sent_s = ends_by_s, None
        try:
            with _watch.watching(self):
                self._open()
        except Unreachable as unreachable:
            return NoAnswer(reason=unreachable.reason, sent=False, own_side=unreachable.own_side)
        return None

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        leave_by_s: float = math.inf,
        ends_by_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | NoAnswer | NotSent:
        """One request and its answer. `headers`: beside those of every request of the line."""
        self._leave_by_s, self._ends_by_s, self._sent_s = leave_by_s, ends_by_s, None
        try:
            with _watch.watching(self):
                connection, way = self._open()
                connection.timeout = self._left_s()
                connection.request(
                    method,
                    way.target + path,
                    body,
                    {**self._headers, **(headers or {}), **way.headers},
                    preload_content=False,
                )
                response = connection.getresponse()
                content = self._read(response)
            return Answer(
                status=response.status,
                body=content,
                retry_after_s=retry_after_s(response.headers),
                elapsed_s=self._elapsed_s(),
            )
        except Unreachable as unreachable:
            return NoAnswer(reason=unreachable.reason, sent=False, own_side=unreachable.own_side)
        except _TooLate:
            self._close()
            return NotSent()
        except _BROKEN as error:
            self._close()
            sent = self._sent_s is not None
            reason = f"no answer within {self._timeout_s:g} s" if self.over else _reason(error)
            timed_out = self.over or isinstance(error, TimeoutError)
            return NoAnswer(
                reason=reason, sent=sent, timed_out=timed_out, elapsed_s=self._elapsed_s()
            )

    def before_write(self) -> None:
        """To be called directly before a request's bytes are written. Raises `_TooLate`."""
        now_s = time.monotonic()
        if now_s > self._leave_by_s:
            raise _TooLate
        if now_s >= self._ends_by_s:
            raise TimeoutError
        self._sent_s = now_s

    @property
    def over(self) -> bool:
        """Whether the time has passed; if so, the watch cuts the request off, or soon will."""
        return time.monotonic() >= self._ends_by_s

    def cut(self) -> None:
        """End the request, whatever it waits for. Called by another thread."""
        connection = self._connection
        sock = self._sock or (connection.sock if connection else None)
        while isinstance(sock, SSLTransport):  # TLS through the TLS of a proxy
            sock = sock.socket
        if sock is not None:
            with contextlib.suppress(OSError):  # closed in this moment
                # Not SSLSocket's own, which takes TLS off a socket that another thread uses.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _open(self) -> tuple[Connection, Way]:
        """The connection, opened again if the server has closed it. Raises `Unreachable`."""
        if self._way and self._connection and self._sock and _is_alive(self._sock):
            return self._connection, self._way
        self._close()
        self._way = way = self._way or Way(self._url)
        self._connection = connection = way.connection(self)
        connection.timeout = min(CONNECT_WITHIN_S, self._left_s())
        try:
            connection.connect()
        except _BROKEN as error:
            # Cut off, a connection looks as if the other side had ended it.
            unreachable = way.unreachable(TimeoutError() if self.over else error, connection)
            self._close()
            raise unreachable from None
        # Keep the socket: urllib3 clears `connection.sock` on `Connection: close` while the body
        # is still being read.
        self._sock = connection.sock
        return connection, way

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """The body, as far as it came: without it an error still has its status."""
        content = bytearray()
        try:
            for chunk in response.stream(65_536):
                content += chunk
                if len(content) >= MAX_BODY:
                    self._close()  # what is left unread would be taken for the next answer
                    break
            else:
                if self._connection and self._connection.sock is None:
                    self._close()
            if self.over:  # cut off, the body may only look complete
                raise TimeoutError
        except _BROKEN:
            if response.status < 300:
                raise
            self._close()
        return bytes(content[:MAX_BODY])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._sock = None

    def _left_s(self) -> float:
        return max(0.001, self._ends_by_s - time.monotonic())

    def _elapsed_s(self) -> float:
        return 0.0 if self._sent_s is None else time.monotonic() - self._sent_s


def _is_alive(sock: socket.socket | SSLTransport) -> bool:
    """Whether the server has kept an idle connection open."""
    try:
        sock.settimeout(0)
        # Nothing may come while no request is under way. TLS takes up its own messages here, such
        # as session tickets.
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _reason(error: Exception) -> str:
    """The error in a few words. Its own text can hold what was sent, so only its kind is told."""
    match error:
        case TimeoutError() | urllib3.exceptions.TimeoutError():
            return "no answer in time"
        case urllib3.exceptions.DecodeError():
            return "the answer could not be decoded"
        case ConnectionError() | urllib3.exceptions.ConnectionError():
            if isinstance(error, urllib3.exceptions.ProtocolError):
                return "the answer broke off"
            return "the connection failed"
        case http.client.HTTPException():
            return "the answer is not HTTP"
        case urllib3.exceptions.HTTPError():
            return "the answer broke off"
    return "the connection failed"


class _Watch:
    """Cuts off requests whose time is over: read timeouts start anew with every byte.

    A lease is longer than a request's time, so that no second request for an email can start while
    one is under way (promise 3). One thread looks after all of them: a timer for each would be a
    seventh of a worker's CPU time.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Watch nothing yet."""
        self._lock = threading.Lock()
        self._lines: set[Line] = set()
        self._any = threading.Event()
        self._thread = threading.Thread()

    @contextlib.contextmanager
    def watching(self, line: Line) -> Any:
        """Cut this line off when its time is over."""
        with self._lock:
            self._lines.add(line)
            self._any.set()
            if not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._lines.discard(line)

    def _run(self) -> None:
        while self._any.wait():
            time.sleep(WATCH_EVERY_S)
            with self._lock:  # so none is cut off that has just ended: its connection lives on
                for line in self._lines:
                    if line.over:
                        line.cut()
                if not self._lines:
                    self._any.clear()


_watch = _Watch()
# A process that is forked inherits neither the thread nor, maybe, a lock that anybody opens.
os.register_at_fork(after_in_child=_watch.begin)
