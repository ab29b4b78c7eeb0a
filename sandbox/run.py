"""A run of the stand-in: everything that a reset starts anew."""

from __future__ import annotations

import base64
import math
import random
from collections.abc import Mapping
from typing import Any

from .customers import CustomerStore
from .faults import ACCOUNT_KINDS, FaultPlan
from .limits import AccountLimits
from .requestlog import RequestLog
from .settings import SandboxConfig


class Account:
    """One account: its customers and what it has used of its limits."""

    def __init__(self, name: str, config: SandboxConfig) -> None:
        self.name = name
        self.customers = CustomerStore(config)
        self.limits = AccountLimits()


class Run:
    """Settings, accounts, faults and log. A request stays with the run that it arrived in."""

    def __init__(self, config: SandboxConfig) -> None:
        self.accounts: dict[str, Account] = {}
        self.log = RequestLog()
        self._adopt(config)
        self._seed()

    def configure(self, values: Mapping[str, Any]) -> None:
        """Change settings on the fly. Raises `SandboxConfigError` and changes nothing then."""
        self._adopt(self.config.changed(values))
        # Rules and draws that nobody touched go on where they were.
        if values.keys() & {"faults", "seed"}:
            self._seed()

    def account_of(self, authorization: str) -> Account | None:
        """The account that an `Authorization` header belongs to."""
        scheme, _, credentials = authorization.partition(" ")
        return self._by_credentials.get(credentials) if scheme.lower() == "basic" else None

    def latency_s(self) -> float:
        """How long the next request takes, in seconds."""
        median, sigma = self.config.latency_s, self.config.latency_sigma
        if not median or not sigma:
            return median
        return median * math.exp(self._latency.gauss(0.0, sigma))

    def stats(self) -> dict[str, Any]:
        limits = [account.limits for account in self.accounts.values()]
        return self.log.totals() | {
            "in_progress": sum(each.in_progress for each in limits),
            "max_in_progress": max(each.max_in_progress for each in limits),
            "max_in_any_second": max(each.max_in_any_second for each in limits),
        }

    def _adopt(self, config: SandboxConfig) -> None:
        self.config = config
        self._by_credentials: dict[str, Account] = {}
        for name, key in config.accounts.items():
            account = self.accounts.setdefault(name, Account(name, config))
            account.customers.configure(config)
            # The key is the user name; the password is empty or the key again.
            for password in ("", key):
                credentials = base64.b64encode(f"{key}:{password}".encode()).decode()
                self._by_credentials[credentials] = account

    def _seed(self) -> None:
        config = self.config
        at_the_door = [rule for rule in config.faults if rule.kind in ACCOUNT_KINDS]
        inside = [rule for rule in config.faults if rule.kind not in ACCOUNT_KINDS]
        self.faults_at_the_door = FaultPlan(at_the_door, config.seed)
        self.faults_inside = FaultPlan(inside, config.seed)
        self._latency = random.Random(f"{config.seed}/latency")  # noqa: S311
