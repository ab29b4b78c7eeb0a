"""The address of Redis, parsed once: what redis-py or Kombu could not take is refused here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from .secret import Secret

_LOOKS_LIKE = "must look like redis://[user:password@]host:6379/0 (rediss:// for TLS)"
_NOT_YET = {
    "sentinel": "Redis Sentinel is",
    "redis+sentinel": "Redis Sentinel is",
    "rediss+sentinel": "Redis Sentinel is",
    "cluster": "Redis Cluster is",
    "redis+cluster": "Redis Cluster is",
    "rediss+cluster": "Redis Cluster is",
    "unix": "Unix sockets are",
    "redis+socket": "Unix sockets are",
    "socket": "Unix sockets are",
}
_UNVERIFIED = "?ssl_cert_reqs=none"
_OPTIONS = (
    *("db", "virtual_host", "health_check_interval", "max_connections", "protocol", "timeout"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry_on_timeout"),
    *("retry_on_error", "client_name", "decode_responses", "username", "password"),
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"),
)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """Where Redis answers, and with which login."""

    host: str
    """A name, or an address; IPv6 without brackets."""
    port: int = 6379
    db: int = 0
    username: str | None = None
    password: Secret | None = field(default=None)
    tls: bool = False
    """Whether the connection is encrypted."""
    verified: bool = True
    """Whether the server's certificate is verified then."""

    def shown(self) -> str:
        """The URL without user and password, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"

    def url(self) -> Secret:
        """The URL with everything in it, written as every client reads it."""
        login = ""
        if self.username or self.password:
            password = self.password.reveal() if self.password else ""
            login = f"{quote(self.username or '', safe='')}:{quote(password, safe='')}@"
        options = "" if self.verified else _UNVERIFIED
        return Secret(self.shown().replace("://", f"://{login}", 1) + options)


def parse_redis_url(text: str) -> RedisAddress:
    """Read an address.

    Raises:
        ValueError: it is none, or one that is not supported. The text shows no part of what may
            be a password.
    """
    found = _SCHEME.fullmatch(text.strip())
    if not found:
        raise _wrong(_LOOKS_LIKE)
    scheme, rest = found[1].lower(), found[2]
    if scheme in _NOT_YET:
        raise _wrong(
            f"{scheme}:// : {_NOT_YET[scheme]} not supported in this release; "
            "name one Redis as redis://host:6379/0"
        )
    if scheme not in ("redis", "rediss"):
        raise _wrong(f"{_LOOKS_LIKE}; its scheme is another one")
    # Passwords with '/', '#', '?' or '@' cut the URL at the wrong place, so that a part of them
    # would count as host or database: look for the last '@' before anything else.
    login, at, place = rest.rpartition("@")
    if set("/?#") & set(login):
        raise _wrong(
            "the user or password holds '/', '?' or '#': percent-encode these in it "
            "('/' as %2F, '?' as %3F, '#' as %23)"
        )
    if "@" in login:
        raise _wrong("the user or password holds '@': percent-encode it in it, as %40")
    if re.search(r"\s", rest):
        raise _wrong("holds a blank: remove it, or percent-encode it in the password, as %20")
    authority, _, query = place.partition("?")
    if "#" in place:
        raise _wrong(
            "holds a '#': in a password it must be percent-encoded, as %23, and nothing else "
            "may stand behind one"
        )
    verified = f"?{query}" != _UNVERIFIED or scheme != "rediss"
    if query and verified and query != "ssl_cert_reqs=required":
        raise _wrong(_options(query))
    hostport, _, path = authority.partition("/")
    username, password = _login(login) if at else (None, None)
    host, port = _host_and_port(hostport)
    return RedisAddress(
        host=host,
        port=port,
        db=_database(path),
        username=username,
        password=password,
        tls=scheme == "rediss",
        verified=verified,
    )


def _login(text: str) -> tuple[str | None, Secret | None]:
    if _BAD_ESCAPE.search(text):
        raise _wrong("the user or password holds '%': percent-encode it in it, as %25")
    username, _, password = map(unquote, text.partition(":"))
    if username and not password:
        raise _wrong(
            "names a user without a password; a password alone is written with a ':' before it, "
            "as redis://:password@host:6379/0"
        )
    return username or None, Secret(password) if password else None


def _host_and_port(text: str) -> tuple[str, int]:
    if "," in text or ";" in text:
        raise _wrong("names several hosts; it must name one")
    host, port = text, ""
    if text.startswith("["):
        address, bracket, port = text.partition("]")
        host = address + bracket
        if not _IPV6.fullmatch(host) or (port and not port.startswith(":")):
            raise _wrong("has a wrong IPv6 address; it must look like redis://[2001:db8::1]:6379/0")
        port = port.removeprefix(":")
    elif ":" in text:
        host, _, port = text.partition(":")
        if port.count(":") >= 1 and re.fullmatch(r"[0-9A-Fa-f:.]+", text):
            raise _wrong("put brackets around an IPv6 address, as in redis://[2001:db8::1]:6379/0")
    if not host:
        raise _wrong(f"{_LOOKS_LIKE}; its host is missing")
    if not host.startswith("[") and not _HOST.fullmatch(host):
        raise _wrong(f"{_LOOKS_LIKE}; its host is no name and no address")
    if port and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise _wrong(
            f"{_LOOKS_LIKE}; its port must be a number from 1 to 65535. "
            "If a password stands there, it needs an '@' behind it, and '/', '?', '#' and '@' "
            "in it percent-encoded"
        )
    return host.strip("[]"), int(port or 6379)


def _database(path: str) -> int:
    path = path.removesuffix("/")
    if not path:
        return 0
    if not (path.isascii() and path.isdigit() and len(path) <= 6):
        raise _wrong(f"{_LOOKS_LIKE}; behind the host stands the number of a database, or nothing")
    return int(path)


def _options(query: str) -> str:
    names = [part.partition("=")[0] for part in query.split("&")]
    # Other names are not repeated: they may be a piece of something secret.
    known = [name for name in names if name in _OPTIONS]
    text = "takes no options behind '?'"
    if known:
        text += f" ({', '.join(known)})"
    if "db" in known or "virtual_host" in known:
        text += "; the database's number stands behind the host: redis://host:6379/3"
    if any(name.startswith("ssl_") for name in known):
        text += (
            ", but rediss://…?ssl_cert_reqs=none, which verifies no certificate; "
            "a CA of your own is named by SSL_CERT_FILE"
        )
    return text


def _wrong(reason: str) -> ValueError:
    return ValueError(reason)
