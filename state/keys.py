"""Names of the keys in Redis. DESIGN, "State in Redis", says what each holds."""

from __future__ import annotations

import hashlib

from ..jobs.job import Lane


class Keys:
    """The keys of one account.

    The braces are a hash tag: all keys of an account live in one slot of a Redis Cluster, so one
    script may touch several. Scripts get `prefix` and build the other names from it.
    """

    def __init__(self, account: str) -> None:
        self.account = account
        self.prefix = f"courier:{{{account}}}:"
        self.inbox = self.prefix + "inbox"
        self.types = self.prefix + "types"
        self.outcomes = self.prefix + "outcomes"

    def inbox_lane(self, lane: Lane) -> str:
        return f"{self.prefix}inbox:{lane}"

    def outcome(self, job_id: str) -> str:
        return f"{self.prefix}outcome:{job_id}"

    def mailbox(self, mailbox_id: str) -> str:
        return f"{self.prefix}mailbox:{mailbox_id}"

    def history(self, mailbox_id: str) -> str:
        return f"{self.prefix}outcomes:{mailbox_id}"

    def idempotency(self, key: str) -> str:
        return f"{self.prefix}idem:{hashlib.sha256(key.encode()).hexdigest()}"
