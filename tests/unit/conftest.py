"""Fixtures of the tests of `state/`: an account whose clock the test moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from ..account_state import Account
from ..redis_clock import RedisClock, on_test_time


@pytest.fixture
def clock(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> RedisClock:
    """Redis's clock, which stands still until the test moves it."""
    return on_test_time(client, monkeypatch)


@pytest.fixture
def account(client: redis.Redis, clock: RedisClock) -> Iterator[Account]:
    """An account, of which every key has the account's prefix in the end."""
    account = Account(client, clock)
    yield account
    assert all(key.startswith("courier:{default}:") for key in account.names())
