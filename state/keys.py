"""Names of the keys in Redis. docs/design.md says what each holds."""

from __future__ import annotations

import hashlib


class Keys:
    """The keys of one account.

    The braces are a hash tag: all keys of an account live in one slot of a Redis Cluster, so one
    script may touch several. Scripts get `prefix` and build names from it, as `of` does.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.prefix = f"courier:{{{account}}}:"
        self.inbox = self.of("inbox")
        self.outcomes = self.of("outcomes")

    def of(self, *parts: str) -> str:
        """The key of this name: `of("outcome", job_id)`."""
        return self.prefix + ":".join(parts)


def idempotency_hash(key: str) -> str:
    """What stands for an idempotency key in Redis: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
