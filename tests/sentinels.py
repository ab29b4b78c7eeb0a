"""Redis under Sentinels: a primary, replicas and Sentinels, all real and of the embedded binary."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import redis

from attribute_courier.sandbox import EmbeddedRedis, LeashedProcess
from attribute_courier.sandbox.embedded import find_server_binary

from .waiting import wait_until

MASTER = "main"
PASSWORD = "of-redis"
SENTINEL_PASSWORD = "of-sentinels"


def port_of(server: EmbeddedRedis) -> int:
    return urlsplit(server.url).port or 0


class Sentinel:
    """One Sentinel.

    Args:
        home: its directory.
        monitored: the primary's port, as it believes at first.
        quorum: how many must agree that the primary is down.
        password: its own; "" for none.
        others: lines of its configuration.
    """

    def __init__(
        self,
        home: Path,
        monitored: int,
        *,
        quorum: int = 1,
        password: str = SENTINEL_PASSWORD,
        others: Mapping[str, str] | None = None,
        down_after_ms: int = 1000,
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        home.mkdir()
        self._conf, self._log = home / "sentinel.conf", home / "log"
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {home}",
            f"sentinel monitor {MASTER} 127.0.0.1 {monitored} {quorum}",
            f"sentinel auth-pass {MASTER} {PASSWORD}",
            f"sentinel down-after-milliseconds {MASTER} {down_after_ms}",
            f"sentinel failover-timeout {MASTER} 5000",
            *([f"requirepass {password}"] if password else []),
            *(f"{name} {value}" for name, value in (others or {}).items()),
        ]
        self._conf.write_text("\n".join(lines) + "\n")
        self._password = password
        self.client = redis.Redis(
            port=self.port, password=password or None, decode_responses=True, socket_timeout=5
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = LeashedProcess(
                [str(find_server_binary()), str(self._conf), "--sentinel"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, what=f"a Sentinel answers: {self._log.read_text()[-500:]}")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def state(self) -> dict[str, Any]:
        """What it knows of the primary."""
        found: dict[str, Any] = self.client.sentinel_master(MASTER)  # type: ignore[no-untyped-call]
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.client.close()


class _Server(EmbeddedRedis):
    follows: int | None = None
    """The port of its primary, if it starts as a replica."""

    def _options(self, port: int) -> list[str]:
        options = ["--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"]
        if self.follows is not None:
            options += ["--replicaof", f"127.0.0.1 {self.follows}"]
        return [*super()._options(port), *options]


class Watched:
    """A primary, replicas, and Sentinels that know of all of them.

    Args:
        home: their directories are made there.
        replicas: how many.
        sentinels: how many.
    """

    def __init__(self, home: Path, *, replicas: int = 1, sentinels: int = 3) -> None:
        self._stack = ExitStack()
        self.servers = [
            _Server(home / f"redis-{n}", password=PASSWORD) for n in range(replicas + 1)
        ]
        self._home, self._count = home, sentinels
        self.sentinels: list[Sentinel] = []

    def __enter__(self) -> Self:
        first, *others = self.servers
        self._stack.enter_context(first)
        for server in others:
            server.follows = port_of(first)
            self._stack.enter_context(server)
        self.wait_for_replicas()
        for n in range(self._count):
            sentinel = Sentinel(
                self._home / f"sentinel-{n}", port_of(first), quorum=self._count // 2 + 1
            )
            self.sentinels.append(self._stack.enter_context(sentinel))
        for sentinel in self.sentinels:
            wait_until(
                lambda: self._knows_all(sentinel),  # noqa: B023
                timeout_s=60,
                what="a Sentinel knows all",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def client(self, server: EmbeddedRedis) -> redis.Redis:
        """Directly to one of them."""
        return self._stack.enter_context(
            redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=10)
        )

    def start_again(self, server: EmbeddedRedis) -> None:
        """One that was killed, as a replica: the Sentinels would see to it some seconds later."""
        assert isinstance(server, _Server)
        server.follows = port_of(self.primary)
        server.start()

    def wait_for_replicas(self) -> None:
        """Until all servers but one are replicas that have all."""
        wait_until(
            lambda: sum(map(self.replica_is_up, self.servers)) == len(self.servers) - 1,
            timeout_s=60,
            what="the replicas have all",
        )

    @property
    def primary(self) -> EmbeddedRedis:
        """As the Sentinels agree; waits until they do."""
        [port] = wait_until(
            lambda: ports if len(ports := self._named()) == 1 else None,
            timeout_s=60,
            what="the Sentinels agree on the primary",
        )
        return next(server for server in self.servers if port_of(server) == port)

    def wait_for_another_than(self, old: EmbeddedRedis) -> None:
        """Until the Sentinels agree on another primary."""
        wait_until(lambda: self.primary is not old, timeout_s=60, what="another one is the primary")

    def _named(self) -> set[int]:
        return {sentinel.state()["port"] for sentinel in self.sentinels}

    def replica_is_up(self, server: EmbeddedRedis) -> bool:
        try:
            found = self.client(server).info("replication")
        except redis.ConnectionError:
            return False
        return found["role"] == "slave" and found["master_link_status"] == "up"

    def _knows_all(self, sentinel: Sentinel) -> bool:
        state = sentinel.state()
        found = state["num-slaves"], state["num-other-sentinels"]
        return found == (len(self.servers) - 1, self._count - 1) and state["flags"] == "master"

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"sentinel://:{quote(PASSWORD)}@{places}/{MASTER}/0"

    def fail_over(self) -> None:
        """In a coordinated way: the primary takes no more writes, and the replica has them all."""
        wait_until(self._fails_over, timeout_s=60, what="the Sentinel can fail over")

    def _fails_over(self) -> bool:
        try:
            self.sentinels[0].client.execute_command("SENTINEL", "FAILOVER", MASTER, "COORDINATED")  # type: ignore[no-untyped-call]
        except redis.ResponseError:  # it thinks the replicas down for the moment: a busy machine
            return False
        return True
