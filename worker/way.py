"""The way to ChartMogul: its address, a proxy, certificates, and connections that it opens."""

from __future__ import annotations

import http.client
import os
import re
import ssl
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.ssl_match_hostname import CertificateError

from ..config.settings import is_loopback

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""In the order in which `requests` asks for them."""


class Line(Protocol):
    """Who uses a connection."""

    def before_write(self) -> None:
        """Raise an error if a request may not leave any more."""


class Unreachable(Exception):  # noqa: N818  (says what is the matter)
    """There is no connection. `own_side`: because of a proxy, a certificate, the configuration."""

    def __init__(self, reason: str, *, own_side: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.own_side = own_side


class _Response(http.client.HTTPResponse):
    """An answer, without what may come before it: `http.client` takes 103 for the answer.

    The answer itself would then be taken for that of the next request.
    """

    def begin(self) -> None:
        super().begin()
        while self.status < 200:
            self.headers = None  # type: ignore[assignment]  # so `begin` reads another
            super().begin()


class Connection(HTTPConnection):
    """Sends a request in one write, directly after asking its line whether it may leave."""

    response_class = _Response
    line: Line
    _held: list[bytes] | None = None

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._held = []
        try:
            super().request(*args, **kwargs)
            whole = b"".join(self._held)
        finally:
            self._held = None
        assert self.sock is not None  # noqa: S101  (opened before)
        self.line.before_write()
        self.sock.sendall(whole)

    def send(self, data: Any) -> None:
        if self._held is None:  # to a proxy, for a tunnel
            super().send(data)
        else:
            self._held.append(data)


class _TLSConnection(Connection, HTTPSConnection):
    pass


class Way:
    """How ChartMogul is reached: its address, a proxy, certificates. Raises `Unreachable`."""

    headers: Mapping[str, str]
    """What a proxy wants to see of each request."""
    target: str
    """What stands before each request's path."""

    def __init__(self, api_url: str) -> None:
        parts = urlsplit(api_url)
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if parts.scheme not in ("http", "https") or not host or not parts.path.isascii():
            raise Unreachable("CHARTMOGUL_API_URL is not an address", own_side=True)
        self._tls = parts.scheme == "https"
        self._host = host
        self._port = port or (443 if self._tls else 80)
        self._context: ssl.SSLContext | None = None
        environment = requests.Session().merge_environment_settings(api_url, {}, None, None, None)
        self._ca = environment["verify"]
        proxies = {} if is_loopback(host) else environment["proxies"]
        proxy = (select_proxy(api_url, proxies) or "").strip()
        self._proxy = proxy if not proxy or "://" in proxy else f"http://{proxy}"
        self._proxy_headers = HTTPAdapter().proxy_headers(self._proxy) if self._proxy else {}
        forwarded = bool(self._proxy) and not self._tls
        self.headers = self._proxy_headers if forwarded else {}
        self.target = api_url if forwarded else parts.path

    def __str__(self) -> str:
        """In words, without the password that a proxy's address may hold."""
        proxy = urlsplit(self._proxy)
        port = f":{proxy.port}" if proxy.port else ""
        through = f"through the proxy {proxy.hostname}{port}" if self._proxy else "through no proxy"
        ca = DEFAULT_CA_BUNDLE_PATH if self._ca is True else self._ca
        return f"{through}, certificates verified by {ca}" if self._tls else f"{through}, no TLS"

    def connection(self, line: Line) -> Connection:
        """A connection that is not open yet."""
        options: dict[str, Any] = {}
        if self._tls:
            options["ssl_context"] = self._tls_context()
        if not self._proxy:
            connection = self._made(self._tls, self._host, self._port, options)
        else:
            proxy = self._proxy_manager(self._proxy)
            assert proxy.proxy is not None  # noqa: S101
            options |= {"proxy": proxy.proxy, "proxy_config": proxy.proxy_config}
            if proxy.proxy.scheme == "https":
                options["ssl_context"] = self._tls_context()
            tls = self._tls or proxy.proxy.scheme == "https"
            connection = self._made(tls, proxy.proxy.host or "", proxy.proxy.port, options)
            if self._tls:
                connection.set_tunnel(
                    self._host, self._port, self._proxy_headers, scheme=proxy.proxy.scheme or "http"
                )
        connection.line = line
        return connection

    def unreachable(self, error: Exception, connection: HTTPConnection) -> Unreachable:
        """Why the connection could not be opened."""
        words = _connecting_reason(error)
        to = f"{self._host}:{self._port}"
        if self._proxy:
            proxy = f"the proxy at {connection.host}:{connection.port}"
            if refused := re.match(r"Tunnel connection failed: ([0-9]+)", str(error)):
                return Unreachable(
                    f"{proxy} refused ({refused[1]}) to connect to {to}",
                    # With 5xx it says that it did not reach ChartMogul.
                    own_side=not refused[1].startswith("5"),
                )
            if not connection.has_connected_to_proxy:
                return Unreachable(f"no connection to {proxy}: {words}", own_side=True)
            if isinstance(error, http.client.HTTPException):
                return Unreachable(f"{proxy} does not answer as a proxy does", own_side=True)
            to += f" through {proxy}"
        if isinstance(error, ssl.SSLCertVerificationError | CertificateError):
            return Unreachable(f"the certificate of {to} does not verify: {words}", own_side=True)
        if isinstance(error, ValueError | urllib3.exceptions.LocationParseError):
            return Unreachable("CHARTMOGUL_API_URL is not an address", own_side=True)
        return Unreachable(f"no connection to {to}: {words}", own_side=False)

    @staticmethod
    def _made(tls: bool, host: str, port: int | None, options: dict[str, Any]) -> Connection:
        return (_TLSConnection if tls else Connection)(host, port, **options)

    def _proxy_manager(self, proxy: str) -> urllib3.ProxyManager:
        parts = urlsplit(proxy)
        try:
            context = self._tls_context() if parts.scheme == "https" else None
            manager = urllib3.ProxyManager(proxy, proxy_ssl_context=context)
            if manager.proxy and manager.proxy.host:
                return manager
            reason = "the address of the proxy names no host"
        except urllib3.exceptions.ProxySchemeUnknown:
            reason = f"a proxy is http:// or https://, not {parts.scheme}://"
        except (urllib3.exceptions.HTTPError, ValueError):
            reason = "the address of the proxy cannot be read"
        raise Unreachable(reason, own_side=True)

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            ca = DEFAULT_CA_BUNDLE_PATH if self._ca in (True, None) else str(self._ca)
            context = create_urllib3_context()
            try:
                if os.path.isdir(ca):
                    context.load_verify_locations(capath=ca)
                else:
                    context.load_verify_locations(cafile=ca)
            except OSError as error:
                words = "no certificate" if isinstance(error, ssl.SSLError) else error.strerror
                set_by = next((name for name in _CA_VARIABLES if os.environ.get(name)), "built in")
                reason = f"the CA file {ca} ({set_by}) cannot be read: {words}"
                raise Unreachable(reason, own_side=True) from None
            self._context = context
        return self._context


def _connecting_reason(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, CertificateError):
        return "it is another host's"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason})"
    if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return "the connection failed"
