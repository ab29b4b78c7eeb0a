"""Is Redis fit for the courier's work? What `courier ping` asks it."""

from __future__ import annotations

import redis

from .keys import Keys

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
}
"""The type of each key that an account has once, by the key's name behind the prefix."""
QUEUES = ("courier:celery:accept", "courier:celery:deliver")
_PROBE = "courier:ping"


def version(client: redis.Redis) -> str:
    """The server's version, after a try of what the courier needs: to write, and to run a script.

    Raises:
        redis.RedisError: it does not answer, or answers with an error.
    """
    client.set(_PROBE, "1", px=1_000)
    client.eval("return redis.call('TIME')", 1, _PROBE)
    info = client.info("server")
    return str(info.get("valkey_version") or info.get("redis_version"))


def faults(client: redis.Redis, accounts: tuple[str, ...]) -> list[str]:
    """What is wrong with Redis although it answers, a sentence each.

    Raises:
        redis.RedisError: it does not answer, or answers with an error.
    """
    found = []
    memory = client.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        found.append(
            f"it throws keys away when its memory is full (maxmemory-policy {policy}), jobs too: "
            "set noeviction"
        )
    expected = {
        Keys(account).of(name): kind for account in accounts for name, kind in TYPES.items()
    } | dict.fromkeys(QUEUES, "list")
    with client.pipeline(transaction=False) as pipeline:
        for key in expected:
            pipeline.type(key)
        kinds = pipeline.execute()
    found += [
        f"the key {key} has the type {kind}, and must have the type {right}: something else wrote "
        "it; delete it"
        for (key, right), kind in zip(expected.items(), kinds, strict=True)
        if kind not in ("none", right)
    ]
    return found
