"""What release 0.1.0 left in Redis, brought into today's form."""

from __future__ import annotations

import logging

import redis

from ..jobs.keys import Keys
from .transitions import transition

LAYOUT = "2"
"""Of the mailboxes and the inbox; 0.1.0 did not note its own."""

log = logging.getLogger(__name__)


def upgrade(client: redis.Redis, keys: Keys) -> bool:
    """Upgrade an account, unless it was done before. Safe to run twice, and by several at once.

    Returns:
        True: it is done.
    """
    layout = f"{keys.prefix}layout"
    if client.get(layout) == LAYOUT:
        return True
    script = transition(client, "upgrade")
    start = keys.mailbox("")
    upgraded = 0
    for name in client.scan_iter(match=f"{start}*", count=1000):
        upgraded += script(keys=[keys.prefix], args=[name.removeprefix(start)])
    # Its entries have no time in a lane then, and are found all the same (take.lua).
    client.delete(f"{keys.prefix}inbox:since")
    client.set(layout, LAYOUT)
    if upgraded:
        log.warning("account %s: %d mailboxes of release 0.1.0 upgraded", keys.account, upgraded)
    return True
