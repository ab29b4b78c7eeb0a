"""What the user of COURIER_REDIS_URL may do, as Redis says or as it turns out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis

from ..config.redis_url import RedisAddress
from ..config.rights import needed_rights
from .keys import Keys
from .shards import client_of

_WITHOUT_KEY = {
    *("config|get", "exec", "info", "multi", "ping", "script|exists", "script|load", "select"),
    *("time", "wait", "scan", "publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"),
    "cluster|slots",
}
_ASK = """
if not redis.acl_check_cmd then return false end
local missing = {}
for position, text in ipairs(ARGV) do
  if not redis.acl_check_cmd(unpack(cjson.decode(text))) then
    missing[#missing + 1] = position
  end
end
return missing
"""


def missing_rights(
    client: redis.Redis, keys: Keys, address: RedisAddress
) -> tuple[list[str], list[str]]:
    """What a producer needs and this user may not do, and what a worker needs beyond that.

    Redis 7 says it of each right. With an older one some are tried, on a key or channel that nobody
    else uses.

    Args:
        client: a connection with `decode_responses`.
        keys: of an account; on a cluster, the node that holds it is asked.
        address: of Redis.

    Raises:
        redis.RedisError: Redis does not answer, or answers with another error.
    """
    key = keys.of("doctor", secrets.token_hex(8))
    any_client = client_of(client, key)
    producer, worker = (each.split() for each in needed_rights(address))
    rights = [right for right in worker if not right.startswith("~")]
    commands = [json.dumps(_command(right, key)) for right in rights]
    try:
        positions = any_client.eval(_ASK, 1, key, *commands)
    except redis.exceptions.NoPermissionError as error:
        return (["+eval"] if "eval" in str(error) else ["~courier:*"]), []
    if positions is None:
        return _tried(any_client, key, address)
    missing = [rights[position - 1] for position in positions]
    # A channel cannot be looked at without the command that takes it.
    needs = {each: f"+{_command(each, key)[0]}" for each in missing if each.startswith("&")}
    missing = [each for each in missing if needs.get(each) not in missing]
    of_producers = [each for each in missing if each in producer]
    return of_producers, [each for each in missing if each not in of_producers]


def _command(right: str, key: str) -> Sequence[str]:
    """A command that takes this right."""
    name = right[1:]
    if right.startswith("&"):
        return ("publish", key, "") if name == "courier:*" else ("psubscribe", name)
    words = name.split("|")
    return words if name in _WITHOUT_KEY else (*words, key, key)


def _tried(client: Any, key: str, address: RedisAddress) -> tuple[list[str], list[str]]:
    producers: dict[str, Callable[[], object]] = {
        "+ping": client.ping,
        "+set": lambda: client.set(key, "1", px=1_000),
        "+get": lambda: client.get(key),
        "+multi +exec": lambda: client.pipeline(transaction=True).ping().execute(),
        "+time": client.time,
        "&courier:* +publish": lambda: client.publish(key, ""),
        "&courier:* +subscribe": partial(_listen, client, "subscribe", key),
    }
    if address.kind == "cluster":  # which carries no messages
        producers["+cluster|slots"] = lambda: client.execute_command("CLUSTER SLOTS")
        return _refused(producers), _refused({"+info": lambda: client.info("server")})
    db = address.db
    pidbox, events = f"courier:celery:/{db}.celery.pidbox", f"courier:celery:/{db}.celeryev/*"
    workers: dict[str, Callable[[], object]] = {
        "+info": lambda: client.info("server"),
        f"&{pidbox} +psubscribe": partial(_listen, client, "psubscribe", pidbox),
        f"&{events} +psubscribe": partial(_listen, client, "psubscribe", events),
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
