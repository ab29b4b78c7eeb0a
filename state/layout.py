"""Which form an account's keys have: stamped, so that no worker reads what it does not know."""

from __future__ import annotations

import redis

from ..jobs.errors import OtherLayout
from .keys import Keys
from .shards import client_of

LAYOUT = "1"
"""Changes when a release changes what a key holds."""


def check_layout(client: redis.Redis, keys: Keys) -> None:
    """Stamp an account's keys with this release's layout, or find the same stamp there.

    Raises:
        OtherLayout: another release wrote them. Nothing was changed.
        redis.RedisError: Redis fails.
    """
    name = keys.of("layout")
    any_client = client_of(client, name)
    any_client.set(name, LAYOUT, nx=True)
    found = any_client.get(name)
    if found != LAYOUT:
        raise OtherLayout(
            f"account {keys.account}: the keys in Redis have layout {found!r}, and this release "
            f"reads {LAYOUT!r}: run the release that wrote them, or give this one another Redis "
            "database (COURIER_REDIS_URL)"
        )
