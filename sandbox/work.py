"""A request from the door to its answer: who is asking, the limits, and the work that it asks for.

Nothing here knows how requests come in: `server` gets them by HTTP, `inprocess` by a call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import answers
from .answers import Answer, Refused, json_answer, with_retry_after
from .attributes import decode, read_attributes
from .requestlog import Exchange
from .run import Account, Run

_ENDPOINTS = {
    "ping": re.compile("GET /v1/ping"),
    "attributes": re.compile("POST /v1/customers/attributes/custom"),
    "search": re.compile("GET /v1/customers/search"),
    "customer": re.compile("POST /v1/customers/[^/]+/attributes/custom"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came in. `path` has no query."""

    method: str
    path: str
    authorization: str
    body: bytes
    query: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that counts as in progress until it is left.

    endpoint: `ping`, `attributes`, `search`, `customer` (attributes by uuid), or empty for a path
        that does not exist.
    content: The object in the body; None when the body is not a JSON object.
    """

    run: Run
    account: Account
    exchange: Exchange
    request: Request
    endpoint: str
    content: dict[str, Any] | None

    def leave(self, status: int | None) -> None:
        """It is no longer in progress. None: it was not answered."""
        self.account.limits.leave()
        self.run.log.close(self.exchange, time.monotonic(), status)

    def work(self) -> Answer:
        """Do what it asks for."""
        try:
            match self.endpoint:
                case "ping":
                    return answers.PONG
                case "search":
                    return self._search()
                case "attributes":
                    return self._add_by_email()
                case "customer":
                    return self._add_to_customer()
        except Refused as refused:
            return refused.answer
        return answers.NOT_FOUND

    def _search(self) -> Answer:
        """The customers with an email: what the reference's Ruby and PHP examples begin with."""
        email = self.request.query.get("email", [b""])[-1].decode(errors="replace")
        if not email:
            raise answers.missing("email")
        entries = [customer.entry for customer in self.account.customers.find(email)]
        if not entries:
            return answers.unknown_email(email)
        return json_answer(200, {"entries": entries, "has_more": False, "cursor": None})

    def _add_by_email(self) -> Answer:
        content = self._object()
        email = content.get("email")
        if not isinstance(email, str) or not email:
            raise answers.missing("email")
        attributes = read_attributes(content)
        if self._is_too_large(len(attributes)):
            return answers.TOO_LARGE
        customers = self.account.customers
        found = customers.find(email)
        if not found and self.run.config.unmatched == "404":
            return answers.unknown_email(email)
        self.exchange.applied = customers.apply(found, attributes)
        return json_answer(200, {"entries": [customer.entry for customer in found]})

    def _add_to_customer(self) -> Answer:
        """Attributes for one customer, as the same examples go on: the path names the customer."""
        attributes = read_attributes(self._object())
        customers = self.account.customers
        found = customers.get(self.request.path.split("/")[3])
        if not found:
            return answers.UNKNOWN_CUSTOMER
        self.exchange.applied = customers.apply(found, attributes)
        return json_answer(200, {"custom": found[0].custom})

    def _object(self) -> dict[str, Any]:
        if self.content is None:
            raise answers.bad_request("The request's body is not a JSON object.")
        return self.content

    def _is_too_large(self, attributes: int) -> bool:
        config = self.run.config
        return (config.max_attributes is not None and attributes > config.max_attributes) or (
            config.max_bytes is not None and len(self.request.body) > config.max_bytes
        )


def enter(run: Run, request: Request) -> Admitted | Answer:
    """Let a request in as ChartMogul would, in progress from now on, or say why not."""
    now_s = time.monotonic()
    account = run.account_of(request.authorization)
    asked = f"{request.method} {request.path}"
    endpoint = next((name for name, path in _ENDPOINTS.items() if path.fullmatch(asked)), "")
    content = _object_in(request.body) if request.method == "POST" else None
    exchange = run.log.open(
        arrived_s=now_s,
        wall_time_s=time.time(),
        method=request.method,
        path=request.path,
        account=account.name if account else None,
        email=content.get("email") if content else None,
        custom=content.get("custom") if content else None,
        in_progress=account.limits.in_progress + 1 if account else 0,
    )
    admitted = _admit(run, account, exchange, endpoint)
    if isinstance(admitted, Answer):
        run.log.close(exchange, now_s, admitted.status)
        return admitted
    return Admitted(
        run=run,
        account=admitted,
        exchange=exchange,
        request=request,
        endpoint=endpoint,
        content=content,
    )


def _admit(
    run: Run, account: Account | None, exchange: Exchange, endpoint: str
) -> Account | Answer:
    if account is None:
        return answers.UNAUTHORIZED
    if fault := run.faults_at_the_door.draw(exchange, endpoint):
        exchange.fault = fault.kind
        return answers.ACCOUNT_FAULTS[fault.kind]
    match account.limits.ask(exchange.arrived_s, run.config):
        case "rate":
            return with_retry_after(answers.RATE_EXCEEDED, run.config)
        case "parallel":
            return with_retry_after(answers.TOO_MANY_PARALLEL, run.config)
        case None:
            return account


def _object_in(body: bytes) -> dict[str, Any] | None:
    try:
        content = decode(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
