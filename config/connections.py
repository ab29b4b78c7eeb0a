"""Connections to Redis, where the truth about every job is.

Three things are the connection's business, so that no caller has to think of them:

- **Another server.** After a failover the old primary may live on as a replica and keep its
  connections. An answer that says so ends the connection, and counts as a lost one: it is retried
  on a new connection, which finds the new primary. Our scripts may all be run twice.
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
from importlib.util import find_spec
from typing import Any

import hiredis
import redis
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.retry import Retry

from .cluster import ClusterClient, Node, Nodes
from .redis_errors import WrongServerError, code_of, text_of
from .redis_url import written_node
from .settings import Settings

Client = redis.Redis
"""What `connect_…` gives; for rooms that do not import redis."""

PROTOCOL = 2
"""The version of Redis's protocol; the third would cost a new connection a round trip (HELLO)."""
PATIENT_TIMEOUT_S = 5.0
"""What a worker waits for an answer. No script runs nearly as long."""
CONNECT_TIMEOUT_S = 2.0
"""What a worker waits for a new connection: short, so that it goes on soon once Redis is well."""

AGE_S = 10.0
"""A connection older than this is opened anew before it is used again."""

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
    address = settings.redis
    if not address.verified:
        options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    options |= {
        "db": address.db,
        "username": address.username,
        "password": address.password.reveal() if address.password else None,
        # Before redis-py 6, a command is tried again only after the errors that are named here.
        "retry_on_error": [redis.ConnectionError, redis.TimeoutError],
        "protocol": PROTOCOL,
        "decode_responses": True,
        # What is not UTF-8 comes through as lone surrogates, which no schema lets pass, instead
        # of an exception far from whoever could name the entry. `_Packer` sends it back as it was.
        "encoding_errors": "surrogateescape",
    }
    plain = TLSConnection if address.tls else Connection
    if address.kind == "cluster":
        asking = {**options, "retry": Retry(NoBackoff(), retries=0)}
        nodes = Nodes(
            address.nodes,
            lambda node: _slots(
                _Pool(connection_class=plain, host=node[0], port=node[1], **asking)
            ),
        )
        of_cluster = TLSClusterConnection if address.tls else ClusterConnection
        return ClusterClient(
            nodes,
            lambda slot: _Pool(connection_class=of_cluster, nodes=nodes, slot=slot, **options),
        )
    pool = _Pool(connection_class=plain, host=address.host, port=address.port, **options)
    return redis.Redis.from_pool(pool)


def _slots(pool: _Pool) -> Any:
    with redis.Redis.from_pool(pool) as node:
        return node.execute_command("CLUSTER SLOTS")


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


class Connection(redis.Connection):
    """A connection to Redis that does what this module's text says."""

    met_wrong_server = False
    """Whether it led to a server that is not, or not now, the one to ask."""
    opened_s = 0.0
    """When, by `time.monotonic()`."""

    def __init__(self, **options: Any) -> None:
        # Each of these would cost a new connection a round trip: CLIENT SETNAME, and CLIENT
        # SETINFO, twice.
        options |= {"client_name": None, **_NO_SETINFO}
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
        options["command_packer"] = _Packer()
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._step_s: float | None = options.get("socket_timeout")
        self._connect_step_s: float | None = options.get("socket_connect_timeout")

    def _connect(self) -> Any:
        self.opened_s = _tries_s[threading.get_ident()] = time.monotonic()
        self.socket_timeout = _bounded(self._step_s)
        self.socket_connect_timeout = _bounded(self._connect_step_s)
        return super()._connect()  # type: ignore[no-untyped-call]

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._sock is not None:
            self._sock.settimeout(_bounded(self._step_s))
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        if self._sock is not None and _deadline_s.get() is not None:
            self._sock.settimeout(_bounded(self._step_s))
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            if not self.is_wrong_server(error):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            self.met_wrong_server = True
            raise WrongServerError(f"{code_of(error)} {text_of(error)}") from error

    def is_wrong_server(self, error: redis.ResponseError) -> bool:
        """Whether this answer means that another server, or the same later, is to be asked."""
        return code_of(error) in _NOT_HERE


class ClusterConnection(Connection):
    """A connection to the node of a cluster that holds a slot; for None to any node."""

    _node: Node | None = None
    """The node, once it is known."""

    def __init__(self, *, nodes: Nodes, slot: int | None, **options: Any) -> None:
        self._nodes = nodes
        self._slot = slot
        super().__init__(**options)

    def connect(self, *args: Any, **options: Any) -> None:
        with self._doubting():
            super().connect(*args, **options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self._node = None
        within_s = _bounded(self._connect_step_s)
        self._node = self.host, self.port = self._nodes.holder(self._slot, within_s=within_s)
        with self._doubting():
            return super()._connect()

    def read_response(self, *args: Any, **options: Any) -> Any:
        with self._doubting():  # behind a connection that still stands, a node may have stopped
            return super().read_response(*args, **options)

    def is_wrong_server(self, error: redis.ResponseError) -> bool:
        """Whether this answer means that another node, or the same later, is to be asked."""
        if isinstance(error, redis.exceptions.MovedError):
            self._nodes.moved(error.slot_id, (error.host or self.host, error.port))
        return code_of(error) in ("MOVED", "ASK", "TRYAGAIN") or super().is_wrong_server(error)

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


class _Pool(redis.ConnectionPool):
    def release(self, connection: Any) -> None:
        """Put a connection back. Where it led to a replica, so do the others that were open then.

        A replica answers reads, with what was true before the failover, and nothing says so. So no
        connection grows old.
        """
        if isinstance(connection, Connection) and time.monotonic() > connection.opened_s + AGE_S:
            connection.disconnect()  # type: ignore[no-untyped-call]
        super().release(connection)
        if getattr(connection, "met_wrong_server", False):
            connection.met_wrong_server = False
            self.disconnect(inuse_connections=False)


class TLSConnection(Connection, redis.SSLConnection):
    """The same, encrypted."""


class TLSClusterConnection(ClusterConnection, TLSConnection):
    """The same, encrypted."""


def _bounded(step_s: float | None) -> float | None:
    """The time that a step may take: its own, or what is left of the whole.

    Raises:
        redis.TimeoutError: nothing is left.
    """
    deadline_s = _deadline_s.get()
    if deadline_s is None:
        return step_s
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise redis.TimeoutError("the time for this call is up")
    return left_s if step_s is None else min(step_s, left_s)
