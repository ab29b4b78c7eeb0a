"""A real Redis Cluster of embedded servers, on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.sandbox.embedded import _free_port

from .waiting import wait_until

SLOTS = 16_384
PASSWORD = "of-the-cluster"
NODE_TIMEOUT_MS = 1_000


class Node(EmbeddedRedis):
    """One of its servers."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, password=PASSWORD)
        self.bus_port = 0

    def _options(self, port: int) -> list[str]:
        if self._port is None:  # it has not started yet
            self.bus_port = _free_port()
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            # One shard that is down leaves the others at work.
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "masterauth": PASSWORD,
        }
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [*super()._options(port), *flags]

    @property
    def port(self) -> int:
        """Where it answers."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    @property
    def client(self) -> Any:
        """A client for this server alone."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=PASSWORD,
            decode_responses=True,
            socket_timeout=10,
        )

    def ask(self, *command: str) -> Any:
        """Its answer to a command."""
        with self.client as client:
            return client.execute_command(*command)

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.running

    @property
    def is_primary(self) -> bool:
        """Whether it takes writes, as far as it knows."""
        return bool(self.ask("ROLE")[0] == "master")

    @property
    def id(self) -> str:
        """As the others know it."""
        return str(self.ask("CLUSTER MYID"))

    def info(self, name: str) -> str:
        """A field of CLUSTER INFO."""
        return str(self.ask("CLUSTER INFO")[name])


class Cluster:
    """Primaries, each with some replicas.

    Args:
        directory: of their data.
        primaries: how many.
        replicas: of each primary.
    """

    def __init__(self, directory: Path, *, primaries: int = 3, replicas: int = 0) -> None:
        self.primaries = [Node(directory / f"primary-{n}") for n in range(primaries)]
        self.replicas = [
            [Node(directory / f"replica-{n}-{m}") for m in range(replicas)]
            for n in range(primaries)
        ]

    @property
    def nodes(self) -> list[Node]:
        """All servers."""
        return [*self.primaries, *(each for some in self.replicas for each in some)]

    @property
    def url(self) -> str:
        """For COURIER_REDIS_URL."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.primaries)
        return f"cluster://:{PASSWORD}@{hosts}"

    def start(self) -> None:
        """Start all, and wait until they are one cluster."""
        for node in self.nodes:
            node.start()
        share = -(-SLOTS // len(self.primaries))
        for n, node in enumerate(self.primaries):
            node.ask("CLUSTER SET-CONFIG-EPOCH", str(n + 1))
            last = min((n + 1) * share, SLOTS) - 1
            node.ask("CLUSTER ADDSLOTSRANGE", str(n * share), str(last))
        first, *others = self.nodes
        for node in others:
            node.ask("CLUSTER MEET", "127.0.0.1", str(first.port), str(first.bus_port))
        everybody = str(len(self.nodes))
        wait_until(
            lambda: all(node.info("cluster_known_nodes") == everybody for node in self.nodes),
            what="the nodes know each other",
        )
        for primary, replicas in zip(self.primaries, self.replicas, strict=True):
            for replica in replicas:
                _patiently(replica, "CLUSTER REPLICATE", primary.id)
        wait_until(
            lambda: all(self._is_well(node) for node in self.nodes), what="the cluster is well"
        )

    def _is_well(self, node: Node) -> bool:
        slots = node.ask("CLUSTER SLOTS")
        link = node.ask("INFO", "replication").get("master_link_status", "up")
        return (
            node.info("cluster_state") == "ok"
            and link == "up"
            and len(slots) == len(self.primaries)
            and all(len(each) == 3 + len(self.replicas[0]) for each in slots)
        )

    def mend(self) -> None:
        """Start what is down, and wait until each shard has its replicas again."""
        for node in self.nodes:
            if not node.is_up:
                node.start()
        wait_until(
            lambda: all(self._is_well(node) for node in self.nodes), what="the cluster is well"
        )

    def flush(self) -> None:
        """Empty all of it."""
        for node in self.nodes:
            if node.is_primary:
                node.ask("FLUSHALL")

    def shard_of(self, account: str) -> int:
        """Which of the primaries had an account's slot at the start."""
        return key_slot(account.encode()) // -(-SLOTS // len(self.primaries))

    def accounts(self, shard: int) -> Iterator[str]:
        """Names of accounts that one of the primaries holds."""
        return (f"a{n}" for n in range(1_000) if self.shard_of(f"a{n}") == shard)

    def holder(self, account: str) -> Node:
        """The primary that holds an account now, as it says itself."""
        return wait_until(lambda: self._holder(account), what=f"somebody holds {account}")

    def _holder(self, account: str) -> Node | None:
        slot = key_slot(account.encode())
        for node in self.nodes:
            if node.is_up and node.is_primary:
                for first, last, (_, port, *_), *_ in node.ask("CLUSTER SLOTS"):
                    if first <= slot <= last and port == node.port:
                        return node
        return None

    def replica(self, account: str) -> Node:
        """A replica of the primary that holds an account."""
        holder = self.holder(account)
        known = holder.ask("CLUSTER NODES")
        ports = [
            int(place.partition("@")[0].rpartition(":")[2])
            for place, each in known.items()
            if each["master_id"] == holder.id
        ]
        return next(node for node in self.nodes if node.port in ports)

    def move(self, account: str, to: Node, *, pause_s: float = 0.0) -> None:
        """Move an account's slot, key by key, as `redis-cli --cluster reshard` does."""
        slot, source = str(key_slot(account.encode())), self.holder(account)
        to.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", to.id)
        while keys := source.ask("CLUSTER GETKEYSINSLOT", slot, "5"):
            source.ask(
                *("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000"),
                *("AUTH", PASSWORD, "KEYS", *keys),
            )
            time.sleep(pause_s)
        others = (node for node in self.nodes if node.is_primary and node not in (to, source))
        for node in (to, source, *others):
            node.ask("CLUSTER SETSLOT", slot, "NODE", to.id)

    def move_at_once(self, account: str, to: Node) -> None:
        """Move an account's slot in one step, as Valkey does from version 9 on."""
        slot = str(key_slot(account.encode()))
        self.holder(account).ask(
            *("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id)
        )
        wait_until(lambda: self.holder(account) is to, what="the slot is moved")

    def stop(self) -> None:
        """End all."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.stop)


@contextmanager
def running(directory: Path, *, primaries: int = 3, replicas: int = 0) -> Iterator[Cluster]:
    """A cluster, for the block of a `with`."""
    cluster = Cluster(directory, primaries=primaries, replicas=replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _patiently(node: Node, *command: str) -> None:
    def is_done() -> bool:
        try:
            node.ask(*command)
        except redis.ResponseError:  # "Unknown node", as yet
            return False
        return True

    wait_until(is_done, what=" ".join(command))
