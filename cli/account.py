"""What the operator's commands share: the accounts that they speak of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..config import Settings, load_settings
from ..config.connections import Client, connect_briefly
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs.errors import NotReachable
from ..operate.picture import health_of
from ..state.account import AccountHealth
from .main import EXIT_USAGE, Failure


def check_enabled(settings: Settings) -> None:
    """Refuse to hand over jobs where the courier is turned off: they would be dropped."""
    if not settings.enabled:
        raise Failure(
            "the courier is turned off (COURIER_ENABLED): nothing would be delivered", EXIT_USAGE
        )


def accounts_of(settings: Settings, account: str | None) -> list[str]:
    """The one asked for, or all."""
    if account is None:
        return list(settings.accounts)
    if account not in settings.accounts:
        known = ", ".join(settings.accounts)
        raise Failure(f"--account: COURIER_ACCOUNTS names {known}", EXIT_USAGE)
    return [account]


@contextmanager
def reaching_redis(settings: Settings) -> Iterator[Client]:
    """A connection; a Redis that does not answer is a clear error."""
    try:
        yield connect_briefly(settings)
    except RedisError as error:
        raise NotReachable(describe_redis_error(settings, error)) from error


@contextmanager
def healths(account: str | None) -> Iterator[list[AccountHealth]]:
    """The account asked for, or all of them."""
    settings = load_settings()
    with reaching_redis(settings) as client:
        yield [health_of(client, settings, name) for name in accounts_of(settings, account)]


def account_words(account: str | None) -> str:
    """The option `--account`, for a command that a hint names, where one was given."""
    return f" --account {account}" if account else ""
