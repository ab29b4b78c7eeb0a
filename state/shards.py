"""Which Redis holds what: all in one, or on a cluster, each account in one of its shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import redis

from ..config.cluster import ClusterClient
from ..config.connections import until
from ..config.redis_url import written_node
from .keys import Keys

T = TypeVar("T")

MOST_AT_ONCE = 20
SHORTLY_S = 5.0


def client_of(client: redis.Redis, key: str) -> Any:
    """The client for the Redis that holds a key, or all keys of an account, by their prefix.

    Only on a cluster it is another one. All that an account's part of `state` does goes by it:
    scripts, transactions, channels, Redis's time.
    """
    return client.holding(key) if isinstance(client, ClusterClient) else client


def by_shard(client: redis.Redis, accounts: Sequence[str]) -> list[tuple[Any, list[str]]]:
    """Clients, each with the accounts that can only be served together.

    On a cluster each account is by itself: its shard may be down while others are well, and may
    change at any time.
    """
    if not isinstance(client, ClusterClient):
        return [(client, list(accounts))]
    return [(client_of(client, Keys(account).prefix), [account]) for account in accounts]


@contextmanager
def shortly(client: redis.Redis) -> Iterator[None]:
    """On a cluster, wait for a shard some seconds at most: others wait behind it."""
    cluster = isinstance(client, ClusterClient)
    with until(time.monotonic() + SHORTLY_S) if cluster else nullcontext():
        yield


def node_of(client: redis.Redis, account: str) -> str:
    """The node of the cluster that holds an account now, as `host:port`; "" of a single Redis.

    Raises:
        redis.RedisError: no node answers, or none holds it.
    """
    if not isinstance(client, ClusterClient):
        return ""
    return written_node(client.holder(Keys(account).prefix))


def one_of_each(client: redis.Redis, accounts: Sequence[str]) -> dict[str, str]:
    """Node of the cluster → one of the accounts that it holds. Of a single Redis: "" → the first.

    Raises:
        redis.RedisError: no node answers.
    """
    nodes, _ = ask_each(client, accounts, partial(node_of, client))
    return {node: account for account, node in reversed(nodes.items())}


def first_of(
    client: redis.Redis, accounts: Sequence[str], ask: Callable[[str], T | None]
) -> T | None:
    """The first answer that is not None, one account after the other.

    On a cluster, a shard that is down hides no answer of another one.

    Raises:
        redis.RedisError: Redis failed, and no other account had an answer.
    """
    fault = None
    for _, some in by_shard(client, accounts):
        try:
            for account in some:
                if (answer := ask(account)) is not None:
                    return answer
        except redis.RedisError as error:
            fault = error
    if fault is not None:
        raise fault
    return None


def ask_each(
    client: redis.Redis, accounts: Sequence[str], ask: Callable[[str], T]
) -> tuple[dict[str, T], dict[str, redis.RedisError]]:
    """Ask the same about each account. On a cluster at once, so that no shard waits for another.

    Returns:
        Account → answer; and account → error, for those whose shard failed.

    Raises:
        redis.RedisError: Redis failed for all of them.
    """

    if not isinstance(client, ClusterClient):
        return {account: ask(account) for account in accounts}, {}

    def one(account: str) -> T | redis.RedisError:
        try:
            return ask(account)
        except redis.RedisError as error:
            return error

    answers, errors = {}, {}
    with ThreadPoolExecutor(min(len(accounts), MOST_AT_ONCE)) as threads:
        running = {each: threads.submit(copy_context().run, one, each) for each in accounts}
        for account, done in running.items():
            answer = done.result()
            if isinstance(answer, redis.RedisError):
                errors[account] = answer
            else:
                answers[account] = answer
    if errors and not answers:
        raise next(iter(errors.values()))
    return answers, errors
