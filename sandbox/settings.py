"""The stand-in's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from .checks import check, is_number, is_tuple_of, is_whole
from .errors import SandboxConfigError
from .faults import Fault

DEFAULT_API_KEY = "sandbox-key"
REFERENCE_EMAIL = "ada@example.com"


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """How the stand-in behaves. Without arguments: as the reference says, as strictly as it can.

    accounts: API key of each account, by the account's name. Customers, limits and the in-progress
        count are each account's own.
    rate_limit: Requests an account may make in any sliding second (429 above it).
    hidden_rate_limit: A second, unpublished limit in the same form: the reference's compute time.
    max_parallel: Requests of an account that may be in progress at once (503 above it).
    retry_after, retry_after_s: Whether a 429 or 503 has `Retry-After`, in which form, how long.
    latency_s, latency_sigma: Seconds that a request takes: the median, and the spread of a
        lognormal distribution around it (0: always the median).
    max_attributes, max_bytes: A request with more is answered 413, as by a proxy.
    unmatched: What an unknown email gets: 404, or 200 with empty entries. It is not known.
    customers: The emails that have a customer; one named twice has two. `ada@example.com` is the
        customer of the reference's example.
    quiet_emails: Emails whose customer is answered with 200, and never changed.
    auto_customers: A pattern such as `*@load.example`: these emails have a customer at first use.
    faults: Rules for faults; the first that strikes a request decides.
    seed: Of all that is random here.
    """

    accounts: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"default": DEFAULT_API_KEY}), repr=False
    )
    rate_limit: int = 40
    hidden_rate_limit: int | None = None
    max_parallel: int = 20
    retry_after: Literal["seconds", "date"] | None = None
    retry_after_s: int = 1
    latency_s: float = 0.0
    latency_sigma: float = 0.0
    max_attributes: int | None = None
    max_bytes: int | None = None
    unmatched: Literal["404", "empty"] = "404"
    customers: tuple[str, ...] = (REFERENCE_EMAIL, "two@example.com", "two@example.com")
    quiet_emails: tuple[str, ...] = ("quiet@example.com",)
    auto_customers: str | None = None
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        keys = list(self.accounts.values()) if isinstance(self.accounts, Mapping) else []
        rules = {
            "accounts": bool(keys)
            and all(isinstance(key, str) and key and ":" not in key for key in keys)
            and len(set(keys)) == len(keys),
            "rate_limit": is_whole(self.rate_limit),
            "hidden_rate_limit": self.hidden_rate_limit is None or is_whole(self.hidden_rate_limit),
            "max_parallel": is_whole(self.max_parallel),
            "retry_after": self.retry_after in (None, "seconds", "date"),
            "retry_after_s": is_whole(self.retry_after_s),
            "latency_s": is_number(self.latency_s),
            "latency_sigma": is_number(self.latency_sigma),
            "max_attributes": self.max_attributes is None or is_whole(self.max_attributes),
            "max_bytes": self.max_bytes is None or is_whole(self.max_bytes),
            "unmatched": self.unmatched in ("404", "empty"),
            "customers": is_tuple_of(str, self.customers),
            "quiet_emails": is_tuple_of(str, self.quiet_emails),
            "auto_customers": isinstance(self.auto_customers, str | None),
            "faults": is_tuple_of(Fault, self.faults),
            "seed": type(self.seed) is int,
        }
        check(self, rules)

    def changed(self, values: Mapping[str, Any]) -> SandboxConfig:
        """This with some settings replaced, given as `to_dict()` writes them.

        Raises:
            SandboxConfigError: a setting is unknown or wrong; the message names it.
        """
        if unknown := values.keys() - {field.name for field in fields(self)}:
            raise SandboxConfigError(f"unknown setting: {', '.join(sorted(unknown))}")
        settings = dict(values)
        for name in ("customers", "quiet_emails", "faults"):
            if isinstance(settings.get(name), list):
                settings[name] = tuple(settings[name])
        if isinstance(settings.get("faults"), tuple):
            settings["faults"] = tuple(
                rule if isinstance(rule, Fault) else Fault.from_dict(rule)
                for rule in settings["faults"]
            )
        return replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON knows them, API keys included."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["accounts"] = dict(self.accounts)
        values["faults"] = [asdict(rule) for rule in self.faults]
        return values
