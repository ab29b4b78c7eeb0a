"""Is Redis fit for the courier's work?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from ..config.messages import ACCEPT_QUEUE, DELIVER_QUEUE, KEY_PREFIX
from .keys import Keys
from .shards import ask_each, client_of, one_of_each

TYPES = {
    "inbox": "hash",
    "inbox:live": "zset",
    "inbox:bulk": "zset",
    "inbox:taken": "zset",
    "arrivals": "string",
    "due:live": "zset",
    "due:bulk": "zset",
    "due:failing": "zset",
    "later": "zset",
    "leases": "zset",
    "leases:failing": "zset",
    "waiting": "zset",
    "ledger": "zset",
    "clock": "hash",
    "pace": "hash",
    "circuit": "hash",
    "pause": "hash",
    "probes": "string",
    "types": "hash",
    "outcomes": "stream",
    "events": "stream",
    "watched": "hash",
    "hooks": "hash",
    "hooks:aside": "hash",
    "layout": "string",
    "counts": "hash",
    "workers": "hash",
}
"""The type of each key that an account has once, by the key's name behind the prefix."""
QUEUES = (KEY_PREFIX + ACCEPT_QUEUE, KEY_PREFIX + DELIVER_QUEUE)


@dataclass(frozen=True, kw_only=True)
class RedisHealth:
    """What Redis says of itself; None where it does not tell this user."""

    version: str | None = None
    used_bytes: int | None = None
    """Memory in use."""
    maxmemory_bytes: int | None = None
    """The most that it may use; 0 for no limit."""
    policy: str | None = None
    """What it does at that limit: its `maxmemory-policy`."""
    evicted_keys: int | None = None
    """Keys that it threw away since it started."""
    persists: bool | None = None
    """Whether its data outlives its process: an append-only file, or snapshots."""
    append_only: bool | None = None
    """Whether it is the append-only file: snapshots lose the last minutes."""
    save_failed: bool = False
    """Whether its last attempt to write its data to disk failed."""
    replicas: int | None = None
    role: str | None = None
    """`master`, or `slave` for a replica."""
    mode: str | None = None
    """`standalone`, `cluster` or `sentinel`."""
    full_coverage: bool | None = None
    """Of a cluster, whether a shard that is down stops the others, too."""
    node: str = ""
    """Of a cluster, as `host:port`; "" of a single Redis."""

    @property
    def evicts(self) -> bool:
        """Whether it throws keys away when its memory is full."""
        return self.policy not in (None, "noeviction") and self.maxmemory_bytes != 0

    @property
    def head_room(self) -> float | None:
        """The share of its memory that is free; None without a limit."""
        if not self.maxmemory_bytes or self.used_bytes is None:
            return None
        return max(0.0, 1 - self.used_bytes / self.maxmemory_bytes)


def nodes_health(client: redis.Redis, accounts: Sequence[str]) -> tuple[RedisHealth, ...]:
    """How Redis is; of a cluster, each node that holds one of these accounts and that answers.

    Raises:
        redis.RedisError: none answers.
    """
    node_of = {account: node for node, account in one_of_each(client, accounts).items()}
    found, _ = ask_each(
        client,
        list(node_of),
        lambda account: redis_health(client_of(client, Keys(account).prefix), node_of[account]),
    )
    return tuple(found.values())


def redis_health(client: redis.Redis, node: str = "") -> RedisHealth:
    """How Redis is, in two commands that need the rights for INFO and CONFIG.

    Args:
        client: of a single Redis, or for one node of a cluster.
        node: of the cluster.

    Raises:
        redis.RedisError: it does not answer, or answers with another error than a missing right.
    """
    any_client: Any = client
    try:
        info = any_client.info()
    except redis.exceptions.NoPermissionError:
        return RedisHealth(node=node)
    append_only = bool(info.get("aof_enabled"))
    mode = info.get("server_mode") or info.get("redis_mode")
    return RedisHealth(
        version=str(info.get("valkey_version") or info.get("redis_version") or "") or None,
        used_bytes=_number(info, "used_memory"),
        maxmemory_bytes=_number(info, "maxmemory"),
        policy=info.get("maxmemory_policy"),
        evicted_keys=_number(info, "evicted_keys"),
        persists=append_only or _is_set(any_client, "save"),
        append_only=append_only,
        save_failed=(
            info.get("rdb_last_bgsave_status", "ok") != "ok"
            or info.get("aof_last_write_status", "ok") != "ok"
        ),
        replicas=_number(info, "connected_slaves"),
        role=info.get("role"),
        mode=mode,
        full_coverage=(
            _is_set(any_client, "cluster-require-full-coverage") if mode == "cluster" else None
        ),
        node=node,
    )


def _is_set(client: Any, name: str) -> bool | None:
    try:
        return client.config_get(name).get(name) not in (None, "", "no")
    except redis.ResponseError:  # no right, or a service that has no CONFIG
        return None


def _number(info: Mapping[str, Any], name: str) -> int | None:
    return int(info[name]) if name in info else None


def version(client: redis.Redis, keys: Keys) -> str:
    """The server's version, after a try of what the courier needs: to write, and to run a script.

    Raises:
        redis.RedisError: it does not answer, or answers with an error.
    """
    probe = keys.of("ping")
    client = client_of(client, probe)
    client.set(probe, "1", px=1_000)
    client.eval("return redis.call('TIME')", 1, probe)
    info = client.info("server")
    return str(info.get("valkey_version") or info.get("redis_version"))


def wrong_types(client: redis.Redis, accounts: tuple[str, ...]) -> list[str]:
    """Which of our keys something else has written, a sentence each.

    Raises:
        redis.RedisError: it does not answer, or answers with an error.
    """

    def wrong(account: str) -> list[str]:
        shard = client_of(client, Keys(account).prefix)
        expected = {Keys(account).of(name): kind for name, kind in TYPES.items()}
        if shard is client and account == accounts[0]:  # a cluster has no queues
            expected |= dict.fromkeys(QUEUES, "list")
        with shard.pipeline(transaction=False) as pipeline:
            for key in expected:
                pipeline.type(key)
            kinds = pipeline.execute()
        return [
            f"the key {key} has the type {kind}, and must have the type {right}: something else "
            "wrote it; delete it"
            for (key, right), kind in zip(expected.items(), kinds, strict=True)
            if kind not in ("none", right)
        ]

    found, _ = ask_each(client, accounts, wrong)
    return [text for account in accounts for text in found.get(account, ())]
