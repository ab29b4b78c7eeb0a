"""The address of Redis, parsed once: what cannot be used is refused here, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, unquote

from .secret import Secret

Kind = Literal["single", "unix", "sentinel", "cluster"]
"""One Redis at a host; one at a Unix socket; one that Sentinels name; a cluster."""

SENTINEL_PORT = 26379
"""Where Sentinels listen unless told otherwise."""

_UNVERIFIED = "ssl_cert_reqs=none"
_VERIFIED = "ssl_cert_reqs=required"
_OPTIONS = (
    *("db", "virtual_host", "health_check_interval", "max_connections", "protocol", "timeout"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry_on_timeout"),
    *("retry_on_error", "client_name", "decode_responses", "username", "password"),
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"),
    *("master_name", "service_name", "sentinel_password", "sentinel_kwargs"),
)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9._-]+")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DB = re.compile(r"[0-9]{1,6}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How addresses of one kind look."""

    kind: Kind
    like: str
    port: int = 6379
    tls: bool = False


_SINGLE = _Form(kind="single", like="redis://[user:password@]host:6379/0 (rediss:// for TLS)")
_UNIX = _Form(kind="unix", like="unix://[user:password@]/run/redis.sock (?db=3 for a database)")
_SENTINEL = _Form(
    kind="sentinel",
    like="sentinel://[user:password@]host:26379,host:26379/MASTER/0 (rediss+sentinel:// for TLS)",
    port=SENTINEL_PORT,
)
_CLUSTER = _Form(
    kind="cluster",
    like="cluster://[user:password@]host:6379,host:6379 (rediss+cluster:// for TLS)",
)
_SCHEMES = {
    "redis": _SINGLE,
    "unix": _UNIX,
    "sentinel": _SENTINEL,
    "cluster": _CLUSTER,
    # As other libraries write them.
    "redis+socket": _UNIX,
    "redis+sentinel": _SENTINEL,
    "redis+cluster": _CLUSTER,
}
_TLS_SCHEMES = {"rediss": _SINGLE, "rediss+sentinel": _SENTINEL, "rediss+cluster": _CLUSTER}
_TLS_SCHEME_OF: dict[Kind, str] = {form.kind: scheme for scheme, form in _TLS_SCHEMES.items()}


@dataclass(frozen=True, kw_only=True)
class RedisAddress:
    """Where Redis answers, and with which login."""

    kind: Kind = "single"
    nodes: tuple[tuple[str, int], ...] = ()
    """Hosts and their ports: Redis itself, the Sentinels, or some nodes of the cluster; IPv6
    without brackets. None of a socket."""
    path: str = ""
    """Of the socket."""
    master: str = ""
    """What the Sentinels call the primary."""
    db: int = 0
    username: str | None = None
    password: Secret | None = field(default=None)
    """Of Redis; the Sentinels' own is a setting."""
    tls: bool = False
    """Whether connections are encrypted, to Sentinels too."""
    verified: bool = True
    """Whether the server's certificate is verified then."""

    @property
    def host(self) -> str:
        """Of the first node; "" for a socket."""
        return self.nodes[0][0] if self.nodes else ""

    @property
    def port(self) -> int:
        """Of the first node; 0 for a socket."""
        return self.nodes[0][1] if self.nodes else 0

    def shown(self) -> str:
        """The URL without user and password, for people."""
        return self._written("")

    def url(self) -> Secret:
        """The URL with everything in it; `parse_redis_url` reads the same address from it."""
        login = ""
        if self.username or self.password:
            password = self.password.reveal() if self.password else ""
            login = f"{quote(self.username or '', safe='')}:{quote(password, safe='')}@"
        options = "" if self.verified else f"?{_UNVERIFIED}"
        return Secret(self._written(login) + options)

    def _written(self, login: str) -> str:
        hosts = ",".join(map(written_node, self.nodes))
        scheme: str = "redis" if self.kind == "single" else self.kind
        if self.tls:
            scheme = _TLS_SCHEME_OF[self.kind]
        match self.kind:
            case "single":
                place = f"{hosts}/{self.db}"
            case "unix":
                place = quote(self.path) + (f"?db={self.db}" if self.db else "")
            case "sentinel":
                place = f"{hosts}/{self.master}/{self.db}"
            case "cluster":
                place = hosts
        return f"{scheme}://{login}{place}"


def written_node(node: tuple[str, int]) -> str:
    """A host and its port, as in a URL."""
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_redis_url(text: str) -> RedisAddress:
    """Read an address.

    Raises:
        ValueError: it is none, or one that cannot be used. The text shows no part of what may be
            a password.
    """
    found = _SCHEME.fullmatch(text.strip())
    if not found:
        raise ValueError(f"must look like {_SINGLE.like}")
    scheme, rest = found[1].lower(), found[2]
    tls = scheme in _TLS_SCHEMES
    form = _TLS_SCHEMES.get(scheme) or _SCHEMES.get(scheme)
    if form is None:
        raise ValueError(
            f"must look like {_SINGLE.like}; its scheme is another one. "
            "unix://, sentinel:// and cluster:// are accepted, too"
        )
    # Passwords with '/', '#', '?' or '@' cut the URL at the wrong place, so that a part of them
    # would count as host or database: look for the last '@' before anything else.
    login, at, place = rest.rpartition("@")
    if set("/?#") & set(login):
        raise ValueError(
            "the user or password holds '/', '?' or '#': percent-encode these in it "
            "('/' as %2F, '?' as %3F, '#' as %23)"
        )
    if "@" in login:
        raise ValueError("the user or password holds '@': percent-encode it in it, as %40")
    if re.search(r"\s", rest):
        raise ValueError("holds a blank: remove it, or percent-encode it in the password, as %20")
    if "#" in place:
        raise ValueError(
            "holds a '#': in a password it must be percent-encoded, as %23, and nothing else "
            "may stand behind one"
        )
    place, mark, query = place.partition("?")
    username, password = _login(login) if at else (None, None)
    unverified = tls and query == _UNVERIFIED
    where: dict[str, Any]
    if form is _UNIX:
        where = {"path": _path(place), "db": _database_option(query) if mark else 0}
    elif mark and not unverified and not (tls and query == _VERIFIED):
        raise ValueError(_options(query))
    else:
        where = _where(form, place)
    return RedisAddress(
        kind=form.kind,
        username=username,
        password=password,
        tls=tls,
        verified=not unverified,
        **where,
    )


def _login(text: str) -> tuple[str | None, Secret | None]:
    if _BAD_ESCAPE.search(text):
        raise ValueError("the user or password holds '%': percent-encode it in it, as %25")
    username, _, password = map(unquote, text.partition(":"))
    if username and not password:
        raise ValueError(
            "names a user without a password; a password alone is written with a ':' before it, "
            "as redis://:password@host:6379/0"
        )
    return username or None, Secret(password) if password else None


def _where(form: _Form, place: str) -> dict[str, Any]:
    """What stands behind the login, where it begins with hosts."""
    hosts, _, path = place.partition("/")
    if ";" in hosts:
        raise ValueError(f"must look like {form.like}; put commas between hosts, and a scheme once")
    if form is _SINGLE and "," in hosts:
        raise ValueError(
            "names several hosts; redis:// names one, sentinel:// and cluster:// take several"
        )
    nodes = tuple(_host_and_port(each, form) for each in hosts.split(","))
    if len(set(nodes)) < len(nodes):
        raise ValueError("names a host twice")
    path = path.removesuffix("/")
    match form.kind:
        case "sentinel":
            master, _, db = path.partition("/")
            if not master:
                raise ValueError(
                    f"must look like {form.like}; behind the Sentinels stands what they call the "
                    "primary: the name in their `sentinel monitor`"
                )
            if not _HOST.fullmatch(master):
                raise ValueError(
                    f"must look like {form.like}; the name of the primary has letters, digits, "
                    "'.', '-' and '_' only"
                )
            return {"nodes": nodes, "master": master, "db": _database(db, form)}
        case "cluster" if path not in ("", "0"):
            raise ValueError(
                f"must look like {form.like}; a cluster has the database 0 alone, so nothing "
                "stands behind its hosts"
            )
    return {"nodes": nodes, "db": _database(path, form)}


def _host_and_port(text: str, form: _Form) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):
        address, bracket, port = text.partition("]")
        host = address + bracket
        if not _IPV6.fullmatch(host) or (port and not port.startswith(":")):
            raise ValueError(
                "has a wrong IPv6 address; it must look like redis://[2001:db8::1]:6379/0"
            )
        port = port.removeprefix(":")
    elif ":" in text:
        host, _, port = text.partition(":")
        if port.count(":") >= 1 and re.fullmatch(r"[0-9A-Fa-f:.]+", text):
            raise ValueError(
                "put brackets around an IPv6 address, as in redis://[2001:db8::1]:6379/0"
            )
    if not host:
        raise ValueError(f"must look like {form.like}; its host is missing")
    if not host.startswith("[") and not _HOST.fullmatch(host):
        raise ValueError(f"must look like {form.like}; its host is no name and no address")
    if port and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(
            f"must look like {form.like}; its port must be a number from 1 to 65535. "
            "If a password stands there, it needs an '@' behind it, and '/', '?', '#' and '@' "
            "in it percent-encoded"
        )
    return host.strip("[]"), int(port or form.port)


def _database(path: str, form: _Form) -> int:
    path = path.removesuffix("/")
    if path and not _DB.fullmatch(path):
        raise ValueError(
            f"must look like {form.like}; what stands last is the number of a database, or nothing"
        )
    return int(path or 0)


def _path(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ValueError("the socket's path holds '%': percent-encode it in it, as %25")
    path = unquote(text)
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError(
            f"must look like {_UNIX.like}; three slashes before the path of the socket, or an '@' "
            "between password and path"
        )
    return path


def _database_option(query: str) -> int:
    name, _, db = query.partition("=")
    if name not in ("db", "virtual_host") or not _DB.fullmatch(db):
        raise ValueError(
            f"must look like {_UNIX.like}; behind '?' stands the number of a database, as ?db=3, "
            "or nothing"
        )
    return int(db)


def _options(query: str) -> str:
    names = [part.partition("=")[0] for part in query.split("&")]
    # Other names are not repeated: they may be a piece of something secret.
    known = [name for name in names if name in _OPTIONS]
    text = "takes no options behind '?'"
    if known:
        text += f" ({', '.join(known)})"
    if "db" in known or "virtual_host" in known:
        text += "; the database's number stands behind the host: redis://host:6379/3"
    if "sentinel_password" in known:
        text += "; the password of the Sentinels is COURIER_SENTINEL_PASSWORD"
    if any(name.startswith("ssl_") for name in known):
        text += (
            ", but rediss://…?ssl_cert_reqs=none, which verifies no certificate; "
            "a CA of your own is named by COURIER_REDIS_CA_FILE, a certificate of the client by "
            "COURIER_REDIS_CERT_FILE"
        )
    return text
