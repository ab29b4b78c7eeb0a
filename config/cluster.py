"""Redis Cluster: for each key a plain client, which leads to the node that holds its slot.

All keys of an account have one slot, so one node has all of them, and its client can do whatever a
client of a single Redis can: transactions, channels, scripts, that node's time. (redis-py's own
client of a cluster sends each command by itself where it belongs. In older versions it has no
transactions, and it knows nothing of the rules of `connections`.)

A node that is not, or not now, the one to ask says so: `MOVED` names another one; `ASK` and
`TRYAGAIN` come while a slot is moved, key by key. All of them count as a lost connection: the
command is tried again, with the pauses that any lost connection has. Nobody follows `ASK`: the
first key of each script does not exist, so no script runs where half of its keys are elsewhere.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.crc import key_slot

Node = tuple[str, int]
"""Host and port."""

ASK_EVERY_S = 0.1
"""The nodes are asked at most so often who holds what."""


class Nodes:
    """Which node holds a slot, as the nodes say. May be shared by threads, and made before a fork.

    Args:
        seeds: some nodes of the cluster.
        ask: gives a node's answer to CLUSTER SLOTS.
    """

    def __init__(self, seeds: Sequence[Node], ask: Callable[[Node], Any]) -> None:
        self._seeds = tuple(seeds)
        self._ask = ask
        self._known = list(seeds)
        """All nodes; the one that answered last comes first."""
        self._holders: list[tuple[int, int, Node]] = []
        """First and last slot, and the primary that has them."""
        self._moved: dict[int, Node] = {}
        """Slot → the node that has it, as another one has said since then."""
        self._doubted: set[Node] = set()
        self._asked_s = float("-inf")
        self._lock, self._process = threading.Lock(), os.getpid()

    def holder(self, slot: int | None, *, within_s: float | None = None) -> Node:
        """The node that holds a slot; for None any node.

        Args:
            within_s: seconds to wait for another thread that asks the nodes.

        Raises:
            redis.ConnectionError, redis.TimeoutError: no node answers, or none holds it.
            redis.ResponseError: this user may not ask, or it is no cluster.
        """
        found = self._holder(slot)
        if found is None or found in self._doubted:
            self._look(within_s)
            found = self._holder(slot)
        if found is None:
            raise redis.ConnectionError(f"no node of the cluster holds the slot {slot}")
        return found

    def moved(self, slot: int, node: Node) -> None:
        """A node has said that another one holds a slot."""
        self._moved[slot] = node

    def doubt(self, node: Node) -> None:
        """A node does not answer, or is not well: another one may hold what it held."""
        self._doubted.add(node)

    def _holder(self, slot: int | None) -> Node | None:
        if slot is None:
            return self._known[0]
        if (moved := self._moved.get(slot)) is not None:
            return moved
        return next((node for first, last, node in self._holders if first <= slot <= last), None)

    def _look(self, within_s: float | None) -> None:
        if self._process != os.getpid():  # another thread may have had the lock at the fork
            self._lock, self._process = threading.Lock(), os.getpid()
        began_s, lock = time.monotonic(), self._lock  # two threads may have made one each
        if not lock.acquire(timeout=-1 if within_s is None else within_s):
            raise redis.TimeoutError("another thread still asks the nodes of the cluster")
        try:
            if self._asked_s < began_s - ASK_EVERY_S:
                self._ask_somebody()
                self._asked_s = time.monotonic()
        finally:
            lock.release()

    def _ask_somebody(self) -> None:
        fault: Exception = redis.ConnectionError("no node of the cluster knows its slots")
        doubted, self._doubted = self._doubted, set()
        for asked in sorted(self._known, key=doubted.__contains__):
            try:
                slots = self._ask(asked)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                fault = error
                continue
            if not slots:  # it is in no cluster any more
                continue
            # A node without a name has the one under which this one was reached.
            shards = [
                (first, last, [(host or asked[0], port) for host, port, *_ in nodes])
                for first, last, *nodes in slots
            ]
            self._holders = [(first, last, nodes[0]) for first, last, nodes in shards]
            self._moved = {}
            others = (node for _, _, nodes in shards for node in nodes)
            self._known = list(dict.fromkeys([asked, *others, *self._seeds]))
            return
        raise fault


class ClusterClient(redis.Redis):
    """A client for any node of a cluster, for what concerns no key.

    `holding` gives the client for what does. May be made before a fork.

    Args:
        nodes: of the cluster.
        pool_of: gives a pool of connections to the node that holds a slot; for None to any.
    """

    def __init__(self, nodes: Nodes, pool_of: Callable[[int | None], redis.ConnectionPool]) -> None:
        super().__init__(connection_pool=pool_of(None))
        self.auto_close_connection_pool = True
        self._nodes = nodes
        self._pool_of = pool_of
        self._clients: dict[int, redis.Redis] = {}

    def holding(self, key: str) -> redis.Redis:
        """The client for the node that holds a key, and with it all keys of the same hash tag."""
        slot = key_slot(key.encode())
        if slot not in self._clients:
            self._clients.setdefault(slot, redis.Redis.from_pool(self._pool_of(slot)))
        return self._clients[slot]

    def holder(self, key: str) -> Node:
        """The node that holds a key now.

        Raises:
            redis.ConnectionError, redis.TimeoutError: no node answers, or none holds it.
            redis.ResponseError: this user may not ask, or it is no cluster.
        """
        return self._nodes.holder(key_slot(key.encode()))

    def close(self) -> None:
        """Close all connections. New ones are opened when needed."""
        for client in list(self._clients.values()):
            client.close()
        super().close()
