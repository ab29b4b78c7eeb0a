"""Sentinels: which Redis is the primary now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from .redis_errors import SentinelError, TimeIsUpError, code_of, reason_of, text_of
from .redis_url import written_node

Node = tuple[str, int]

ENOUGH = 2
"""Answers of Sentinels that are compared."""
ASIDE_S = 10.0
"""For so long, a Sentinel that failed is asked only if no other answers."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What Sentinels said at one time."""

    named: dict[Node, tuple[int, Node]] = field(default_factory=dict)
    """Sentinel → the number of the failover that it knows of, and the primary since then."""
    faults: dict[Node, Exception | str] = field(default_factory=dict)
    """Sentinel → why it names no primary."""

    @property
    def primary(self) -> Node | None:
        """As the Sentinel says that knows of the latest failover.

        One that was away meanwhile names the old primary for some seconds after its return, which
        would take writes, and lose them.
        """
        return max(self.named.values())[1] if self.named else None

    @property
    def failover(self) -> int:
        """The number of the latest failover that one of them knows of; -1 if none answers."""
        return max((number for number, _ in self.named.values()), default=-1)


class Sentinels:
    """Asks for the primary. May be shared by threads.

    Args:
        master: what Sentinels call it.
        clients: the Sentinels, and a client for each, with `decode_responses`.
    """

    def __init__(self, master: str, clients: Mapping[Node, redis.Redis]) -> None:
        self._master = master
        self._clients = clients
        self._aside_until_s = dict.fromkeys(clients, 0.0)
        self._last: Node | None = None
        self._failover = -1
        """The number of the latest failover, as was said the last time."""
        self.moved_s = 0.0
        """When another primary was named than before, by `time.monotonic()`."""

    def primary(self) -> Node:
        """Where the primary is.

        Raises:
            SentinelError: no Sentinel names one.
            TimeIsUpError: the caller's time is up.
        """
        found = Round()
        for node, aside in self._in_order():
            enough = len(found.named) >= ENOUGH or (found.named and aside)
            if enough and found.failover >= self._failover:  # else all of these are late
                break
            self._ask(node, found)
        if found.primary is None:
            raise SentinelError(self._in_words(found.faults))
        self._failover = found.failover
        if found.primary != self._last:
            self._last, self.moved_s = found.primary, time.monotonic()
        return found.primary

    def ask_all(self) -> Round:
        """What each of them says.

        Raises:
            TimeIsUpError: the caller's time is up.
        """
        found = Round()
        for node in self._clients:
            self._ask(node, found)
        return found

    def in_words(self, fault: Exception | str) -> str:
        """Why a Sentinel names no primary."""
        if isinstance(fault, str):
            return fault
        match code_of(fault):
            case "":
                if isinstance(fault, redis.TimeoutError):
                    return "does not answer in time"
                if "SSL" in str(fault):
                    return (
                        f"cannot be talked to by TLS ({reason_of(str(fault))}): "
                        "COURIER_REDIS_CA_FILE names a CA of your own, COURIER_REDIS_CERT_FILE a "
                        "certificate of this client"
                    )
                return f"does not answer ({reason_of(str(fault))})"
            case "NOAUTH":
                return "asks for a password: set COURIER_SENTINEL_PASSWORD"
            case "WRONGPASS":
                return f"refuses COURIER_SENTINEL_PASSWORD ({text_of(fault)})"
            case "NOPERM":
                return (
                    f"refuses a command ({text_of(fault)}): its user needs "
                    "+sentinel|get-master-addr-by-name +sentinel|master"
                )
        if "unknown command" in str(fault).lower():
            return "is no Sentinel: a Redis answers there"
        return f"answers with an error ({text_of(fault)})"

    def _in_words(self, faults: Mapping[Node, Exception | str]) -> str:
        return "; ".join(
            f"the Sentinel {written_node(node)} {self.in_words(fault)}"
            for node, fault in faults.items()
        )

    def _in_order(self) -> Iterator[tuple[Node, bool]]:
        """Sentinels, and whether they failed lately; these come last."""
        now_s = time.monotonic()
        aside = {node: until_s > now_s for node, until_s in self._aside_until_s.items()}
        yield from sorted(aside.items(), key=lambda each: each[1])

    def _ask(self, node: Node, found: Round) -> None:
        client: Any = self._clients[node]
        pipeline = client.pipeline(transaction=False)
        pipeline.sentinel_get_master_addr_by_name(self._master)
        pipeline.sentinel_master(self._master)
        try:
            place, state = pipeline.execute(raise_on_error=False)
            for answer in (place, state):
                if isinstance(answer, Exception) and "No such master" not in str(answer):
                    raise answer
        except TimeIsUpError:
            raise
        except redis.RedisError as error:
            self._aside_until_s[node] = time.monotonic() + ASIDE_S
            found.faults[node] = error
            return
        if place is None or isinstance(state, Exception):
            found.faults[node] = f"knows no primary {self._master!r}"
            return
        self._aside_until_s[node] = 0.0
        found.named[node] = (int(state["config-epoch"]), (place[0], int(place[1])))
