"""How everything stands, at one look: each account, Redis, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import Settings
from ..config.connections import Client
from ..state.account import AccountHealth, AccountStatus
from ..state.health import RedisHealth, redis_health
from ..state.keys import Keys
from .problems import MAX_AGE_S, Problem, problems


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How everything stands, at one moment."""

    accounts: tuple[AccountStatus, ...]
    redis: RedisHealth
    problems: tuple[Problem, ...]
    """The most urgent first."""


def look(
    client: Client,
    settings: Settings,
    *,
    accounts: Sequence[str] = (),
    max_age_s: float = MAX_AGE_S,
) -> Picture:
    """Look at all that there is.

    Args:
        client: a connection with `decode_responses`.
        settings: whose accounts are looked at.
        accounts: only these; all, unless given.
        max_age_s: jobs may wait for so many seconds.

    Raises:
        RedisError: Redis does not answer, or answers with an error.
    """
    statuses = tuple(
        AccountHealth(
            client,
            Keys(name),
            rate_limit=settings.rate_limit,
            max_parallel=settings.max_parallel,
            probe_delays_s=settings.probe_delays_s,
        ).status()
        for name in accounts or settings.accounts
    )
    redis = redis_health(client)
    return Picture(
        accounts=statuses,
        redis=redis,
        problems=tuple(problems(statuses, redis, max_age_s=max_age_s)),
    )
