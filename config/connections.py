"""Connections to Redis, where the truth about every job is.

Three things are the connection's business, so that no caller has to think of them:

- **Another server.** After a failover the old primary may live on as a replica and keep its
  connections. An answer that says so ends the connection, and counts as a lost one: it is retried
  on a new connection, which finds the new primary. Our scripts may all be run twice. Where
  Sentinels name the primary, each new connection asks them. Of a cluster, see `cluster`.
- **Silence.** A connection that was dropped without a word is noticed within seconds.
- **Time.** Within `until(...)` connecting, sending and reading end with the deadline.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import hiredis
import redis
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry

from .cluster import ClusterClient, Node, Nodes
from .redis_errors import TimeIsUpError, WrongServerError, code_of, text_of
from .redis_url import RedisAddress, written_node
from .secret import Secret
from .sentinels import Sentinels
from .settings import Settings

Client = redis.Redis
"""What `connect_…` gives; for rooms that do not import redis."""

PROTOCOL = 2
"""The version of Redis's protocol; the third would cost a new connection a round trip (HELLO)."""
PATIENT_TIMEOUT_S = 5.0
"""What a worker waits for an answer. No script runs nearly as long."""
CONNECT_TIMEOUT_S = 2.0
"""What a worker waits for a new connection: short, so that it goes on soon once Redis is well."""

SENTINEL_TIMEOUT_S = 1.0
"""What a worker waits for a Sentinel's answer, and for a connection to it: others know it, too."""

AGE_S = 10.0
"""A connection older than this is opened anew before it is used again."""

_AT_ONCE_S = 0.001

_NOT_HERE = ("READONLY", "MASTERDOWN", "UNBLOCKED", "CLUSTERDOWN", "NOREPLICAS")
"""Codes of answers that say: not this server, or not now."""

_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}
"""In seconds: 11 s after the last word from a machine that is gone, its connections end."""

_NO_SETINFO: dict[str, Any] = (
    {"driver_info": None}
    if find_spec("redis.driver_info")
    else {"lib_name": None, "lib_version": None}  # before redis-py 7.2
)

_deadline_s: ContextVar[float | None] = ContextVar("deadline_s", default=None)
_tries_s: dict[int, float] = {}


def last_try_s(thread: int) -> float:
    """When a thread (by its ident) last began to connect, by `time.monotonic()`; 0.0: never.

    A name server that does not answer can keep it for half a minute, once for each try.
    """
    return _tries_s.get(thread, 0.0)


@contextmanager
def until(deadline_s: float) -> Iterator[None]:
    """Within this block, Redis is waited for until `deadline_s` (by `time.monotonic()`), at most.

    It holds for the clients of `connect_briefly`, whatever they do: connect, send, read, retry.
    """
    token = _deadline_s.set(deadline_s)
    try:
        yield
    finally:
        _deadline_s.reset(token)


def connect_patiently(settings: Settings) -> redis.Redis:
    """A client for the worker: it waits some seconds for a Redis that restarts."""
    return _client(
        settings,
        socket_timeout=PATIENT_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        # redis-py nests them: connecting again within each try, some four seconds in all. Without
        # a health check, whose own tries would be a third storey.
        retry=Retry(FullJitterBackoff(base=0.05, cap=0.5), retries=4),
    )


def connect_briefly(settings: Settings) -> redis.Redis:
    """A client for application code and commands: an answer within the enqueue timeout, or none.

    A pooled connection that turns out to be dead costs half of the time, and is tried once more.
    `until` bounds several calls together. There is no health check, which would be a round trip.
    """
    step_s = settings.enqueue_timeout_s / 2
    return _client(
        settings,
        socket_timeout=step_s,
        socket_connect_timeout=step_s,
        retry=Retry(NoBackoff(), retries=1),
    )


def _client(settings: Settings, **options: Any) -> redis.Redis:
    node_s = options["socket_connect_timeout"] / 2
    way = way_to(settings, sentinel_timeout_s=node_s)
    options |= {
        # Before redis-py 6, a command is tried again only after the errors that are named here.
        "retry_on_error": [redis.ConnectionError, redis.TimeoutError],
        "decode_responses": True,
        # What is not UTF-8 comes through as lone surrogates, which no schema lets pass, instead
        # of an exception far from whoever could name the entry. `_Packer` sends it back as it was.
        "encoding_errors": "surrogateescape",
    }

    def pool(**which: Any) -> _Pool:
        return _Pool(connection_class=way.connection_class, **{**way.options, **options, **which})

    if settings.redis.kind == "cluster":
        return ClusterClient(way.options["nodes"], lambda slot: pool(slot=slot))
    return redis.Redis.from_pool(pool())


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to connect to Redis: what a pool of redis-py takes, Kombu's too."""

    connection_class: type[Any]
    options: dict[str, Any] = field(repr=False)
    """Of the class, without times, retries and decoding."""


def way_to(
    settings: Settings,
    address: RedisAddress | None = None,
    *,
    sentinel_timeout_s: float = SENTINEL_TIMEOUT_S,
) -> Way:
    """The way to an address, whatever its kind.

    Args:
        settings: have the certificates, and the password of Sentinels.
        address: the one of the settings unless given.
        sentinel_timeout_s: seconds that a Sentinel may take to connect, and to answer.
    """
    address = address or settings.redis
    options: dict[str, Any] = {"db": address.db, "protocol": PROTOCOL}
    if address.password:
        options |= _login(address.password, address.username)
    tls = _tls_options(settings, address) if address.tls else {}
    match address.kind:
        case "unix":
            return Way(connection_class=SocketConnection, options={**options, "path": address.path})
        case "sentinel":
            sentinels = Sentinels(
                address.master,
                {
                    node: _sentinel(settings, node, tls, sentinel_timeout_s)
                    for node in address.nodes
                },
            )
            return Way(
                connection_class=TLSSentinelConnection if tls else SentinelConnection,
                options={**options, **tls, "sentinels": sentinels},
            )
        case "single":
            return Way(
                connection_class=TLSConnection if tls else Connection,
                options={**options, **tls, "host": address.host, "port": address.port},
            )
        case "cluster":
            asked = {**options, **tls}
            nodes = Nodes(
                address.nodes, lambda node: _slots(_one_of_several(node, asked, sentinel_timeout_s))
            )
            return Way(
                connection_class=TLSClusterConnection if tls else ClusterConnection,
                options={**options, **tls, "nodes": nodes},
            )


def sentinels_of(client: redis.Redis) -> Sentinels | None:
    """Those that a client asks for the primary, if it does."""
    found: Sentinels | None = client.connection_pool.connection_kwargs.get("sentinels")
    return found


def _sentinel(
    settings: Settings, node: tuple[str, int], tls: dict[str, Any], timeout_s: float
) -> redis.Redis:
    options = {"protocol": PROTOCOL, **tls}
    if settings.sentinel_password:
        options |= _login(settings.sentinel_password)
    return _one_of_several(node, options, timeout_s)


def _login(password: Secret, username: str | None = None) -> dict[str, Any]:
    """As options of a connection. Pools of redis-py 6, Kombu's too, show them in their `repr`."""
    provider = UsernamePasswordCredentialProvider(username, password.reveal())
    return {"credential_provider": provider}


def _slots(node: redis.Redis) -> Any:
    with node:
        return node.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]


def _one_of_several(
    node: tuple[str, int], options: dict[str, Any], timeout_s: float
) -> redis.Redis:
    pool = _Pool(
        connection_class=TLSConnection if "ssl_cert_reqs" in options else Connection,
        host=node[0],
        port=node[1],
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), retries=0),  # there are others to ask
        **options,
    )
    return redis.Redis.from_pool(pool)


def _tls_options(settings: Settings, address: RedisAddress) -> dict[str, Any]:
    files = {
        "ssl_ca_certs": settings.redis_ca_file,
        "ssl_certfile": settings.redis_cert_file,
        "ssl_keyfile": settings.redis_key_file,
    }
    return {
        # Before redis-py 6, the name in the certificate is not looked at unless one asks for it.
        "ssl_check_hostname": address.verified,
        "ssl_cert_reqs": "required" if address.verified else "none",
        **{name: str(path) for name, path in files.items() if path is not None},
    }


class _Packer:
    """Writes commands by hiredis, and text with surrogates, which hiredis does not take.

    redis-py's own packer needs the hiredis that redis-py's parser needs, another one in each
    release; beside an older hiredis, redis-py reads without it.
    """

    def pack(self, *args: Any) -> list[bytes]:
        """A command as bytes for Redis.

        Raises:
            redis.DataError: an argument is of a type that Redis does not take.
        """
        name = args[0].encode() if isinstance(args[0], str) else args[0]
        command = (*name.split(), *args[1:])  # "SCRIPT LOAD" is two arguments
        try:
            try:
                return [hiredis.pack_command(command)]
            except UnicodeEncodeError:
                return [hiredis.pack_command(tuple(map(_as_bytes, command)))]
        except TypeError as error:
            raise redis.DataError(str(error)) from None


def _as_bytes(arg: Any) -> Any:
    return arg.encode(errors="surrogateescape") if isinstance(arg, str) else arg


class _Connection(redis.connection.AbstractConnection):
    """What all of our connections do: what this module's text says.

    Args:
        mistrustful: whether each error answer counts as a lost connection. Celery's worker ends
            with one that it does not expect; after a lost connection it connects again, as often
            as it takes.
    """

    met_wrong_server = False
    """Whether it led to a server that is not, or not now, the one to ask."""
    opened_s = 0.0
    """When, by `time.monotonic()`."""

    def __init__(self, *, mistrustful: bool = False, **options: Any) -> None:
        # Each of these would cost a new connection a round trip: CLIENT SETNAME, and CLIENT
        # SETINFO, twice.
        options |= {"client_name": None, **_NO_SETINFO}
        options["command_packer"] = _Packer()
        super().__init__(**options)
        self._mistrustful = mistrustful
        self._step_s: float | None = options.get("socket_timeout")
        self._connect_step_s: float | None = options.get("socket_connect_timeout")

    def is_outdated(self, at_s: float) -> bool:
        """Whether it must be opened anew to be used at that time, by `time.monotonic()`."""
        return at_s > self.opened_s + AGE_S

    @property
    def socket_connect_timeout(self) -> float | None:
        """Seconds. redis-py asks for it before each of the addresses that a host has."""
        try:
            return bounded(self._connect_step_s)
        except TimeIsUpError:
            return _AT_ONCE_S  # an error from here would leave a socket open

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._connect_step_s = value

    def _connect(self) -> Any:
        self.opened_s = _tries_s[threading.get_ident()] = time.monotonic()
        self.socket_timeout = bounded(self._step_s)
        return super()._connect()  # type: ignore[no-untyped-call, safe-super]

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._sock is not None:
            self._sock.settimeout(bounded(self._step_s))
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        if self._sock is not None and _deadline_s.get() is not None:
            self._sock.settimeout(bounded(self._step_s))
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            if not self._is_wrong_server(error):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            self.met_wrong_server = True
            raise WrongServerError(f"{code_of(error)} {text_of(error)}") from error

    def _is_wrong_server(self, error: redis.ResponseError) -> bool:
        """Whether this answer means that another server, or the same later, is to be asked."""
        code = code_of(error)
        # Kombu loads a script when Redis says that it does not know it.
        return code in _NOT_HERE or (self._mistrustful and code != "NOSCRIPT")


class Connection(_Connection, redis.Connection):
    """A connection to a host."""

    def __init__(self, **options: Any) -> None:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
        super().__init__(**options)


class TLSConnection(Connection, redis.SSLConnection):
    """The same, encrypted."""


class SocketConnection(_Connection, redis.UnixDomainSocketConnection):
    """A connection to a Unix socket."""

    def __init__(self, **options: Any) -> None:
        for of_tcp in ("socket_keepalive", "socket_keepalive_options", "host", "port"):
            options.pop(of_tcp, None)
        super().__init__(**options)


class SentinelConnection(Connection):
    """A connection to the primary that Sentinels name at the time."""

    host: str
    port: int

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    def is_outdated(self, at_s: float) -> bool:
        """Whether it is old, or the Sentinels have named another primary since."""
        return super().is_outdated(at_s) or self.opened_s < self._sentinels.moved_s

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.primary()
        try:
            return super()._connect()
        except TimeoutError as error:
            # redis-py would leave out whereto.
            raise redis.TimeoutError(f"Timeout connecting to {self.host}:{self.port}") from error


class TLSSentinelConnection(SentinelConnection, TLSConnection):
    """The same, encrypted."""


class ClusterConnection(Connection):
    """A connection to the node of a cluster that holds a slot; for None to any node."""

    host: str
    port: int
    _node: Node | None = None
    """The node, once it is known."""

    def __init__(self, *, nodes: Nodes, slot: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._nodes = nodes
        self._slot = slot

    def connect(self, *args: Any, **options: Any) -> None:
        with self._doubting():
            super().connect(*args, **options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self._node = None
        within_s = bounded(self._connect_step_s)
        self._node = self.host, self.port = self._nodes.holder(self._slot, within_s=within_s)
        with self._doubting():
            return super()._connect()

    def read_response(self, *args: Any, **options: Any) -> Any:
        with self._doubting():  # behind a connection that still stands, a node may have stopped
            return super().read_response(*args, **options)

    def _is_wrong_server(self, error: redis.ResponseError) -> bool:
        code = code_of(error)
        if code == "MOVED":  # 3999 10.0.0.1:6381
            slot, place = text_of(error).split()[:2]
            host, _, port = place.rpartition(":")
            self._nodes.moved(int(slot), (host or self.host, int(port)))
        return code in ("MOVED", "ASK", "TRYAGAIN") or super()._is_wrong_server(error)

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Note which node it is that does not answer, or not as it should."""
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            if self._node is not None:
                self._nodes.doubt(self._node)
                vars(error).setdefault("node", written_node(self._node))
            raise


class TLSClusterConnection(ClusterConnection, TLSConnection):
    """The same, encrypted."""


class _Pool(redis.ConnectionPool):
    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.connection_class.__name__}>"  # no password

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """A connection that leads to the primary, as far as is known.

        An old primary that was cut off takes writes, which are lost, until it is told better. So
        one that nobody used for a while is opened anew.
        """
        asked_s = time.monotonic()
        connection = super().get_connection(*args, **options)
        if isinstance(connection, _Connection) and connection.is_outdated(asked_s):
            try:
                connection.disconnect()  # type: ignore[no-untyped-call]
                connection.connect()  # type: ignore[no-untyped-call]
            except BaseException:
                self.release(connection)
                raise
        return connection

    def release(self, connection: Any) -> None:
        """Put a connection back. Where it led to a replica, so do the others that were open then.

        A replica answers reads, with what was true before the failover, and nothing says so. So no
        connection grows old.
        """
        if isinstance(connection, _Connection) and connection.is_outdated(time.monotonic()):
            connection.disconnect()  # type: ignore[no-untyped-call]
        super().release(connection)
        if getattr(connection, "met_wrong_server", False):
            connection.met_wrong_server = False
            self.disconnect(inuse_connections=False)


def bounded(step_s: float | None) -> float | None:
    """The time that a step may take: its own, or what is left of the whole.

    Raises:
        TimeIsUpError: nothing is left.
    """
    deadline_s = _deadline_s.get()
    if deadline_s is None:
        return step_s
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeIsUpError("the time for this call is up")
    return left_s if step_s is None else min(step_s, left_s)
