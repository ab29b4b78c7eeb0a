"""Finding what nothing points to: mailboxes and jobs whose entries elsewhere are lost."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import redis

from .keys import Keys
from .scripts import Script

EVERY_S = 600
"""How often a repair pass begins, by one of the workers."""
_AT_ONCE = 200
_PAUSE_S = 0.01
"""Between two looks, so that a pass over millions of keys disturbs nobody."""


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a pass found."""

    mailboxes: int = 0
    """Mailboxes that stood in no lane, nor elsewhere. They are due again."""
    jobs: int = 0
    """Jobs of the inbox without an arrival. They will be accepted."""


def repair(client: redis.Redis, keys: Keys, *, at_start: bool = False) -> Repaired | None:
    """Look at all mailboxes and at the inbox. None when another worker did so lately.

    Args:
        at_start: look although another worker did so lately.

    Raises:
        redis.RedisError: Redis fails. What was repaired so far stays so.
    """
    any_client: Any = client
    first = any_client.set(keys.of("repairing"), "1", ex=EVERY_S, nx=True)
    if not first and not at_start:
        return None
    script = Script(client, keys.prefix, "repair")
    mailboxes = jobs = 0
    start = keys.of("mailbox", "")
    pattern = start.replace("[", "\\[") + "*"
    cursor = 0
    while True:
        cursor, names = any_client.scan(cursor, match=pattern, count=_AT_ONCE * 5)
        if names:
            found, _ = script(mailboxes=[name.removeprefix(start) for name in names], jobs=[])
            mailboxes += found
        if cursor == 0:
            break
        time.sleep(_PAUSE_S)
    cursor = 0
    while True:
        cursor, documents = any_client.hscan(keys.inbox, cursor, count=_AT_ONCE)
        if documents:
            _, found = script(mailboxes=[], jobs=list(documents))
            jobs += found
        if cursor == 0:
            return Repaired(mailboxes=mailboxes, jobs=jobs)
