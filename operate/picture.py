"""How everything stands, at one look: each account, Redis, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import Settings
from ..config.connections import Client
from ..config.redis_errors import describe_redis_error
from ..state.account import AccountHealth, AccountStatus
from ..state.health import RedisHealth, nodes_health
from ..state.hooks import Hooks, HookStatus
from ..state.keys import Keys
from ..state.shards import ask_each
from .problems import MAX_AGE_S, Problem, problems


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How everything stands, at one moment."""

    accounts: tuple[AccountStatus, ...]
    """Those that could be asked: of a cluster, a shard may be down."""
    redis: RedisHealth
    """Of a cluster, the node that has least room."""
    problems: tuple[Problem, ...]
    """The most urgent first."""
    nodes: tuple[RedisHealth, ...] = ()
    """Of a cluster, each node that answers and holds one of the accounts."""


def health_of(client: Client, settings: Settings, account: str) -> AccountHealth:
    """An account's state as a whole, by the settings."""
    return AccountHealth(
        client,
        Keys(account),
        rate_limit=settings.rate_limit,
        max_parallel=settings.max_parallel,
        probe_delays_s=settings.probe_delays_s,
    )


def look(
    client: Client,
    settings: Settings,
    *,
    accounts: Sequence[str] = (),
    max_age_s: float = MAX_AGE_S,
    max_waiting: int | None = None,
    min_workers: int = 1,
) -> Picture:
    """Look at all that there is.

    Args:
        client: a connection with `decode_responses`.
        settings: whose accounts are looked at.
        accounts: only these; all, unless given.
        max_age_s, max_waiting, min_workers: what counts as too much; see `problems`.

    Raises:
        RedisError: Redis does not answer, or answers with an error.
    """
    names = accounts or settings.accounts
    nodes = nodes_health(client, names)
    found, errors = ask_each(client, names, lambda account: _look_at(client, settings, account))
    statuses = tuple(status for status, _ in found.values())
    return Picture(
        accounts=statuses,
        redis=min(nodes, key=_room),
        nodes=tuple(each for each in nodes if each.node),
        problems=tuple(
            problems(
                statuses,
                *nodes,
                hooks={name: hook for name, (_, hook) in found.items() if hook is not None},
                away={name: describe_redis_error(settings, each) for name, each in errors.items()},
                max_age_s=max_age_s,
                max_waiting=max_waiting,
                min_workers=min_workers,
            )
        ),
    )


def _look_at(
    client: Client, settings: Settings, account: str
) -> tuple[AccountStatus, HookStatus | None]:
    status = health_of(client, settings, account).status()
    return status, Hooks(client, Keys(account)).status()


def _room(redis: RedisHealth) -> tuple[bool, float]:
    """The less, the sooner a Redis takes no job, or loses one."""
    return not redis.evicts, 1.0 if redis.head_room is None else redis.head_room
