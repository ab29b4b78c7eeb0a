"""All that is in a Redis, to see that something is not."""

from __future__ import annotations

from typing import Any

import redis


def everything(client: redis.Redis) -> dict[str, str]:
    """Each key with its name, its content and its dump, as lowercase text."""
    any_client: Any = client
    read = {
        "hash": any_client.hgetall,
        "zset": lambda key: any_client.zrange(key, 0, -1, withscores=True),
        "list": lambda key: any_client.lrange(key, 0, -1),
        "set": any_client.smembers,
        "stream": any_client.xrange,
        "string": any_client.get,
    }
    found = {}
    for key in any_client.scan_iter(count=1000):
        kind = any_client.type(key)
        if kind == "none":
            continue  # it has ended meanwhile
        found[key] = f"{key} {read[kind](key)} {_dumped(client, key)}".lower()
    return found


def _dumped(client: redis.Redis, key: str) -> str:
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("DUMP", key)
        dump = connection.read_response(disable_decoding=True)
    finally:
        client.connection_pool.release(connection)
    return "" if dump is None else dump.decode("latin-1")


def holding(client: redis.Redis, *words: str) -> dict[str, str]:
    """The keys that hold one of these words, in any case, and what they hold."""
    return {
        key: content
        for key, content in everything(client).items()
        if any(word.lower() in content for word in words)
    }
