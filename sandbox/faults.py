"""Faults on demand: what the stand-in does wrong, to whom, and how often."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from .checks import check, is_number, is_whole
from .errors import SandboxConfigError
from .requestlog import Exchange

Kind = Literal[
    "status",
    "drop_before",
    "drop_after",
    "latency",
    "slow_body",
    "slow_headers",
    "malformed",
    "hang_up",
    "redirect",
    "revoked",
    "expired",
    "forbidden",
]
Endpoint = Literal["any", "attributes", "ping", "search", "customer"]
Body = Literal["json", "html", "empty", "huge"]

# Faults of the account are answered at the door, before any limit counts the request.
ACCOUNT_KINDS = frozenset[str]({"revoked", "expired", "forbidden"})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A rule: which requests it meets, how often it strikes, and what happens then.

    kind: `status` answers `status` with `body`; `drop_before` and `drop_after` close the connection
        without an answer, before or after the values were applied; `latency` waits, then answers
        properly; `slow_body` and `slow_headers` apply and then drip the answer byte by byte;
        `malformed` applies and answers 200 with broken JSON; `hang_up` answers properly and closes
        the connection without a word; `redirect` answers 302 to another path; `revoked` (401),
        `expired` (402) and `forbidden` (403) are the account's and count for no limit.
    probability: Chance for each request that the rule meets, drawn from the sandbox's seed.
    count: Strikes at most so many times; None is for ever.
    after: Lets so many of the requests that it meets pass first.
    email: Only requests for this email, or for emails of a pattern such as `*@bad.example`.
    key: Only requests with an attribute of this key, or of a pattern of keys.
    account, endpoint: Only requests of this account, to this endpoint.
    seconds: How long to wait before acting; for the slow kinds, over how long to drip.
    status, body: For `status`. `html` is a proxy's page, `huge` JSON of `body_bytes` bytes.
    content: For `status`: the body word for word, instead of `body`.
    apply: For `status`: applies the values before answering so (a 504 that did its work).
    """

    kind: Kind
    probability: float = 1.0
    count: int | None = None
    after: int = 0
    email: str | None = None
    key: str | None = None
    account: str | None = None
    endpoint: Endpoint = "any"
    seconds: float = 0.0
    status: int = 500
    body: Body = "json"
    body_bytes: int = 2_000_000
    content: str | None = None
    apply: bool = False

    def __post_init__(self) -> None:
        rules = {
            "kind": self.kind in get_args(Kind),
            "probability": is_number(self.probability) and self.probability <= 1,
            "count": self.count is None or is_whole(self.count),
            "after": is_whole(self.after),
            "email": isinstance(self.email, str | None),
            "key": isinstance(self.key, str | None),
            "account": isinstance(self.account, str | None),
            "endpoint": self.endpoint in get_args(Endpoint),
            "seconds": is_number(self.seconds),
            "status": is_whole(self.status) and 200 <= self.status <= 599,
            "body": self.body in get_args(Body),
            "body_bytes": is_whole(self.body_bytes),
            "content": isinstance(self.content, str | None),
            "apply": isinstance(self.apply, bool),
        }
        check(self, rules)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fault:
        """A rule from JSON. Raises `SandboxConfigError` for what it does not know."""
        if not isinstance(values, Mapping) or "kind" not in values:
            raise SandboxConfigError('a fault must be an object with a "kind"')
        if unknown := values.keys() - {field.name for field in fields(cls)}:
            raise SandboxConfigError(f"fault: unknown {', '.join(sorted(unknown))}")
        return cls(**values)

    def meets(self, exchange: Exchange, endpoint: str) -> bool:
        return (
            (self.email is None or _fits(exchange.email, self.email))
            and (self.key is None or any(_fits(key, self.key) for key in _keys(exchange.custom)))
            and (self.account is None or self.account == exchange.account)
            and self.endpoint in ("any", endpoint)
        )


def _fits(text: object, pattern: str) -> bool:
    return isinstance(text, str) and (text == pattern or fnmatchcase(text, pattern))


def _keys(custom: object) -> list[object]:
    found = custom if isinstance(custom, list) else []
    return [attribute.get("key") for attribute in found if isinstance(attribute, dict)]


class FaultPlan:
    """Decides, request by request, which fault strikes.

    Each rule has a random sequence of its own, from seed and place, and draws once for each request
    that it meets: the same requests in the same order meet the same faults.
    """

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._rules = [
            _Rule(fault, random.Random(f"{seed}/fault/{place}"))  # noqa: S311
            for place, fault in enumerate(faults)
        ]

    def draw(self, exchange: Exchange, endpoint: str) -> Fault | None:
        """The first rule that strikes this request, if any."""
        struck: Fault | None = None
        for rule in self._rules:
            if rule.fault.meets(exchange, endpoint) and rule.draw() and struck is None:
                struck = rule.fault
                rule.strikes += 1
        return struck


class _Rule:
    def __init__(self, fault: Fault, chance: random.Random) -> None:
        self.fault = fault
        self.met = 0
        self.strikes = 0
        self._chance = chance

    def draw(self) -> bool:
        self.met += 1
        hit = self._chance.random() < self.fault.probability
        spent = self.fault.count is not None and self.strikes >= self.fault.count
        return hit and not spent and self.met > self.fault.after
