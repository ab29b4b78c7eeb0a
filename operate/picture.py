"""How everything stands, at one look: each account, Redis, and what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..config import Settings
from ..config.connections import Client
from ..state.account import AccountHealth, AccountStatus
from ..state.health import RedisHealth, redis_health
from ..state.hooks import Hooks
from ..state.keys import Keys
from .problems import MAX_AGE_S, Problem, problems


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How everything stands, at one moment."""

    accounts: tuple[AccountStatus, ...]
    redis: RedisHealth
    problems: tuple[Problem, ...]
    """The most urgent first."""


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
    statuses = tuple(
        health_of(client, settings, name).status() for name in accounts or settings.accounts
    )
    redis = redis_health(client)
    found = {each.account: Hooks(client, Keys(each.account)).status() for each in statuses}
    hooks = {account: hook for account, hook in found.items() if hook is not None}
    return Picture(
        accounts=statuses,
        redis=redis,
        problems=tuple(
            problems(
                statuses,
                redis,
                hooks=hooks,
                max_age_s=max_age_s,
                max_waiting=max_waiting,
                min_workers=min_workers,
            )
        ),
    )
