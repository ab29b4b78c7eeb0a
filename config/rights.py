"""The least rights that an ACL user of Redis needs, as `ACL SETUSER` takes them."""

from __future__ import annotations

from .redis_url import RedisAddress

_KEYS = "~courier:* &courier:*"
_CONNECTION = "+ping +select"
_SCRIPTS = "+eval +evalsha +script|exists +script|load +multi +exec"
_READS = (
    "+exists +get +hexists +hget +hgetall +hkeys +hlen +hmget +hscan +llen +mget +scan +sismember "
    "+smembers +time +type +xlen +xrange +xrevrange +zcard +zcount +zrange +zrangebyscore "
    "+zrevrangebyscore +zscan +zscore"
)
_MESSAGES = "+publish +subscribe +unsubscribe"
_PRODUCER_WRITES = (
    "+del +expire +hdel +hincrby +hset +hsetnx +lpush +pexpire +set +sadd +srem +xadd +zadd "
    "+zrem +wait"
)
_WORKER_ONLY = (
    "+brpop +hvals +incr +persist +psubscribe +punsubscribe +rpop +xread +zpopmax +zpopmin "
    "+zremrangebyrank +zremrangebyscore +info +config|get"
)

PRODUCER_RIGHTS = " ".join((_KEYS, _CONNECTION, _SCRIPTS, _READS, _MESSAGES, _PRODUCER_WRITES))
"""Of an application: it hands over jobs, takes them back, and asks what became of them."""


def worker_rights(db: int = 0) -> str:
    """Of a worker, and of whoever uses every `courier` command and Flower's buttons.

    The two long channels are patterns, which Redis allows only where they are listed letter by
    letter; they hold the number of the database.
    """
    return f"{PRODUCER_RIGHTS.replace(_KEYS, _channels(db))} {_WORKER_ONLY}"


def needed_rights(address: RedisAddress) -> tuple[str, str]:
    """Of a producer and of a worker, in the Redis at this address."""
    if address.kind == "cluster":  # which carries no messages
        slots = "+cluster|slots"
        return f"{PRODUCER_RIGHTS} {slots}", f"{PRODUCER_RIGHTS} {_WORKER_ONLY} {slots}"
    return PRODUCER_RIGHTS, worker_rights(address.db)


def watcher_rights(db: int = 0) -> str:
    """Of `courier status`, `top`, `outcomes`, the metrics, and Flower without its buttons.

    It cannot enqueue, cancel, replay, pause or resume.
    """
    return " ".join((_channels(db), _CONNECTION, _SCRIPTS, _READS, _MESSAGES, _WATCHER_ONLY))


def _channels(db: int) -> str:
    return f"{_KEYS} &courier:celery:/{db}.celery.pidbox &courier:celery:/{db}.celeryev/*"


_WATCHER_ONLY = (  # most of it is for the messages between Flower and workers
    "+brpop +del +expire +hset +info +psubscribe +punsubscribe +rpop +sadd +srem +xread +zadd +zrem"
)
