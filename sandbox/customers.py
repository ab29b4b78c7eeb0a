"""An account's customers and the custom attributes that they have."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from .attributes import TypedAttribute
from .settings import REFERENCE_EMAIL, SandboxConfig

_FIRST_ID = 25647
_NAMESPACE = uuid.UUID("de305d54-75b4-431b-adb2-eb6b9e546012")


class Customer:
    """A customer: as the endpoint answers, and where each attribute came from.

    The source of an attribute shows in ChartMogul's pages and never in the response.
    """

    def __init__(self, number: int, email: str, place: int) -> None:
        # The documented example's values, with what must be each customer's own replaced.
        internal, name = _FIRST_ID + number, f"Customer {number}"
        identity = str(uuid.uuid5(_NAMESPACE, f"{email}/{place}"))
        if email == REFERENCE_EMAIL and place == 0:
            internal, name, identity = _FIRST_ID, "Smith Company", str(_NAMESPACE)
        self.custom: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.entry: dict[str, Any] = {
            "id": internal,
            "uuid": f"cus_{identity}",
            "external_id": f"cus_{internal - _FIRST_ID + 1:04}",
            "email": email,
            "name": name,
            "mrr": 3000,
            "arr": 36000,
            "status": "Active",
            "customer-since": "2022-06-09T13:16:00-04:00",
            "billing-system-url": "https://dashboard.stripe.com/customers/cus_4Z2ZpyJFuQ0XMb",
            "chartmogul-url": "https://app.chartmogul.com/#customers/"
            f"{internal}-{name.replace(' ', '_')}",
            "billing-system-type": "Stripe",
            "currency": "USD",
            "currency-sign": "$",
            "attributes": {
                "tags": ["important", "Prio1"],
                "stripe": {"coupon": True},
                "custom": self.custom,
            },
        }


class CustomerStore:
    """The customers of one account, found by their email, which is compared as it is written."""

    def __init__(self, config: SandboxConfig) -> None:
        self._by_email: dict[str, list[Customer]] = {}
        self._made = 0
        self.configure(config)

    def configure(self, config: SandboxConfig) -> None:
        """Add the customers that are missing; those that exist stay, with their values."""
        self._quiet = frozenset(config.quiet_emails)
        self._automatic = config.auto_customers
        for email, wanted in Counter((*config.customers, *dict.fromkeys(self._quiet))).items():
            while len(self._by_email.get(email, ())) < wanted:
                self._add(email)

    def find(self, email: str) -> list[Customer]:
        """The customers of an email; none for an unknown one."""
        found = self._by_email.get(email)
        if found is None and self._automatic and fnmatchcase(email, self._automatic):
            self._add(email)
        return self._by_email.get(email, [])

    def get(self, uuid: str) -> list[Customer]:
        """The customer with this uuid, if there is one."""
        return [customer for customer in self.all() if customer.entry["uuid"] == uuid]

    def apply(self, customers: Iterable[Customer], attributes: Iterable[TypedAttribute]) -> bool:
        """Set the attributes on each of the customers; whether anything was set."""
        loud = [each for each in customers if each.entry["email"] not in self._quiet]
        for attribute in attributes:
            for customer in loud:
                customer.custom[attribute.key] = attribute.value
                customer.sources[attribute.key] = attribute.source
        return bool(loud)

    def all(self) -> list[Customer]:
        return [customer for found in self._by_email.values() for customer in found]

    def _add(self, email: str) -> None:
        found = self._by_email.setdefault(email, [])
        # Number 0 is the reference's customer, whether or not this account has it.
        if email != REFERENCE_EMAIL or found:
            self._made += 1
        found.append(Customer(self._made, email, len(found)))
