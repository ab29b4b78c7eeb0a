"""The HTTP server of `courier metrics`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from ..config import Settings
from .metrics import registry

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_INDEX = b"""<!doctype html>
<html lang="en">
<title>Attribute Courier</title>
<h1>Attribute Courier</h1>
<p><a href="/metrics">Metrics</a> for Prometheus
"""


class Exporter:
    """Serves the metrics at /metrics, and /healthz, which asks nobody.

    Args:
        settings: which Redis, which accounts.
        host: address to listen on.
        port: 0 chooses a free one.
        tell: is called with a sentence when Redis stops answering, and when it answers again.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(
        self, settings: Settings, host: str, port: int, tell: Callable[[str], object]
    ) -> None:
        self._metrics = make_wsgi_app(registry(settings, tell))
        server = _Server6 if ":" in host else _Server
        self._server = server((host, port), _Handler)
        self._server.set_app(self._answer)

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        return f"http://{shown!s}:{port}/metrics"

    def serve(self) -> None:
        """Answer until Ctrl-C, or `stop` in another thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Let `serve` end."""
        self._server.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start_response)
                return answer
            case "/healthz":
                return _said(start_response, "200 OK", b"ok\n")
            case "/":
                return _said(start_response, "200 OK", _INDEX, "text/html; charset=utf-8")
        return _said(start_response, "404 Not Found", b"not found\n")


def _said(
    start_response: StartResponse, status: str, body: bytes, type_: str = "text/plain"
) -> Iterable[bytes]:
    start_response(status, [("Content-Type", type_), ("Content-Length", str(len(body)))])
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, so that one who is slow holds up nobody."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away, or that is silent."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds of silence

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: Prometheus asks every few seconds."""
