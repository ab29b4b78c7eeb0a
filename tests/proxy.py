"""A TCP proxy before a server: it can be slow, fall silent, lead elsewhere, or answer itself."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Passes on what comes to a port of its own.

    Args:
        url: the server's URL.
        delay_s: how long each piece takes, each way.
        tls: encrypts, and says which certificates clients show; the server is spoken to in plain.
    """

    def __init__(self, url: str, *, delay_s: float = 0, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._parts = urlsplit(url)
        self.lead_to(url)
        self.delay_s = delay_s
        self.answer: bytes | None = None
        """What each request gets in place of the server's answer."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[_Pair] = []

    @property
    def url(self) -> str:
        login, at, _ = self._parts.netloc.rpartition("@")
        port = self._listener.getsockname()[1]
        return urlunsplit(self._parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))

    def lead_to(self, url: str) -> None:
        """New connections go to this server; those that are open stay where they are."""
        parts = urlsplit(url)
        self._to = (parts.hostname or "", parts.port or 0)

    def fall_silent(self) -> None:
        """Nothing more comes through the open connections, and none is closed."""
        for pair in self._pairs:
            pair.silent = True

    def cut(self) -> None:
        """End the open connections, as a server that restarts does."""
        for pair in self._pairs:
            pair.close()
        self._pairs.clear()

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        for pair in self._pairs:
            pair.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._to)
                except OSError:
                    client.close()
                    continue
                if self._tls is not None:
                    try:
                        client.settimeout(10)
                        client = self._tls.wrap_socket(client, server_side=True)
                        client.settimeout(None)
                    except OSError:  # the client refuses, or is refused
                        client.close()
                        server.close()
                        continue
                self._pairs.append(_Pair(self, client, server))


class _Pair:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = (client, server)
        self.silent = False
        self._threads = []
        for ends in ((client, server), (server, client)):
            ends[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._threads.append(threading.Thread(target=self._pass_on, args=ends, daemon=True))
        for thread in self._threads:
            thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if self.silent:
                    continue
                if self._proxy.delay_s:
                    time.sleep(self._proxy.delay_s)
                if self._proxy.answer is not None and source is self._sockets[0]:
                    source.sendall(self._proxy.answer)
                else:
                    target.sendall(data)
        if not self.silent:
            self._shut()

    def _shut(self) -> None:
        # Not closed: the other thread may be about to read, and the number of a closed socket is
        # soon another connection's.
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._shut()
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()
