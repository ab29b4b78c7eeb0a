"""What the user of COURIER_REDIS_URL may do: tried, since few users may ask Redis for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import redis

from .keys import Keys
from .shards import client_of


def missing_rights(client: redis.Redis, keys: Keys, db: int = 0) -> tuple[list[str], list[str]]:
    """What a producer needs and this user may not do, and what a worker needs beyond that.

    Each is tried on a key or channel that nobody else uses, or by listening to a channel.

    Args:
        client: a connection with `decode_responses`.
        keys: of an account; on a cluster, the node that holds it is asked.
        db: the number of the database.

    Raises:
        redis.RedisError: Redis does not answer, or answers with another error.
    """
    key = keys.of("doctor", secrets.token_hex(8))
    any_client = client_of(client, key)
    producers: dict[str, Callable[[], object]] = {
        "+@connection": any_client.ping,
        "~courier:* +@write": lambda: any_client.set(key, "1", px=1_000),
        "~courier:* +@read": lambda: any_client.get(key),
        "+@scripting": lambda: any_client.eval("return 1", 1, key),
        "+@transaction": lambda: any_client.pipeline(transaction=True).ping().execute(),
        "+time": any_client.time,
        "&courier:* +@pubsub": lambda: any_client.publish(key, ""),
        "&courier:*": partial(_listen, any_client, "subscribe", key),
    }
    if any_client is not client:  # a cluster, which carries no messages
        producers["+cluster|slots"] = lambda: any_client.execute_command("CLUSTER SLOTS")
        return _refused(producers), _refused({"+info": lambda: any_client.info("server")})
    pidbox, events = f"courier:celery:/{db}.celery.pidbox", f"courier:celery:/{db}.celeryev/*"
    workers: dict[str, Callable[[], object]] = {
        "+info": lambda: any_client.info("server"),
        f"&{pidbox}": partial(_listen, any_client, "subscribe", pidbox),
        f"&{events}": partial(_listen, any_client, "psubscribe", events),
    }
    return _refused(producers), _refused(workers)


def _refused(tries: dict[str, Callable[[], object]]) -> list[str]:
    found = []
    for right, attempt in tries.items():
        try:
            attempt()
        except redis.exceptions.NoPermissionError:
            found.append(right)
        except redis.OutOfMemoryError:
            pass  # it may; Redis is full
    return found


def _listen(client: Any, command: str, channel: str) -> None:
    with client.pubsub() as pubsub:
        getattr(pubsub, command)(channel)
        pubsub.get_message(timeout=1)
