"""One admitted request, from the work that it asks for to its answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from http.client import responses
from typing import Any, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from . import answers
from .answers import Answer, Refused, json_answer, with_retry_after
from .attributes import read_attributes
from .faults import Fault
from .requestlog import Exchange
from .run import Account, Run


@dataclass(slots=True, kw_only=True)
class Call:
    """A request that counts as in progress until it is left.

    endpoint: `ping`, `attributes`, `search`, `customer` (attributes by uuid), or empty for a path
        that does not exist.
    content: The object in the body; None when the body is not a JSON object.
    """

    run: Run
    account: Account
    exchange: Exchange
    request: HTTPServerRequest
    endpoint: str
    content: dict[str, Any] | None

    def answer(self) -> None:
        """Do the work and answer at once."""
        answer = self._work()
        self._leave(answer.status)
        send(self.request, answer)

    async def answer_later(self, delay_s: float, fault: Fault | None) -> None:
        """Take the time that the request takes, do the work, answer; and go wrong as `fault` says.

        The work is done at the end of the delay, whether or not the client still waits: a request
        that it gave up can still change values, as it can at the real endpoint.
        """
        dripping = fault is not None and fault.kind in ("slow_body", "slow_headers")
        if fault is not None:
            self.exchange.fault = fault.kind
            delay_s += 0.0 if dripping else fault.seconds
        await asyncio.sleep(delay_s)
        match fault.kind if fault else "latency":
            case "drop_before":
                self._drop()
            case "drop_after":
                self._work()
                self._drop()
            case "status" | "redirect" if fault:
                if fault.apply:
                    self._work()
                answer = with_retry_after(answers.faulty(fault), self.run.config)
                self._leave(answer.status)
                send(self.request, answer)
            case "malformed":
                self._work()
                self._leave(answers.MALFORMED.status)
                send(self.request, answers.MALFORMED)
            case "hang_up":
                await self._hang_up(self._work())
            case "slow_body" | "slow_headers" if fault:
                await self._drip(self._work(), fault)
            case _:
                self.answer()

    def _work(self) -> Answer:
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
        email = self.request.query_arguments.get("email", [b""])[-1].decode(errors="replace")
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

    def _leave(self, status: int | None) -> None:
        # Always in the same step as the last byte: once the client can see the answer and send
        # the next request, this one must no longer count as in progress.
        self.account.limits.leave()
        self.run.log.close(self.exchange, time.monotonic(), status)

    def _drop(self) -> None:
        self._leave(None)
        self._detach().close()

    async def _hang_up(self, answer: Answer) -> None:
        """Answer as if the connection stayed open, and close it."""
        stream = self._detach()
        self._leave(answer.status)
        with contextlib.suppress(StreamClosedError):
            await stream.write(_head(answer) + answer.body)
        stream.close()

    async def _drip(self, answer: Answer, fault: Fault) -> None:
        """Write the headers or the body byte by byte, then close the connection."""
        head, body = _head(answer, ("Connection", "close")), answer.body
        at_once, dripped, rest = (
            (head, body, b"") if fault.kind == "slow_body" else (b"", head, body)
        )
        stream = self._detach()
        try:
            stream.set_nodelay(True)
            stream.write(at_once)
            for byte in dripped[:-1]:
                stream.write(bytes((byte,)))
                await asyncio.sleep(fault.seconds / len(dripped))
        except StreamClosedError:
            self._leave(None)
        else:
            self._leave(answer.status)
            with contextlib.suppress(StreamClosedError):
                await stream.write(dripped[-1:] + rest)
        finally:
            stream.close()

    def _detach(self) -> IOStream:
        return cast(HTTP1Connection, self.request.connection).detach()


def send(request: HTTPServerRequest, answer: Answer) -> None:
    """Write the whole answer and keep the connection, as the client wants it."""
    connection = cast(HTTP1Connection, request.connection)
    headers = HTTPHeaders(dict(_headers(answer)))
    line = ResponseStartLine("HTTP/1.1", answer.status, responses.get(answer.status, "Unknown"))
    # What may have no body must not get one: the client would take it for the next answer.
    body = b"" if request.method == "HEAD" or answer.status in (204, 304) else answer.body
    connection.write_headers(line, headers, body)
    connection.finish()


def _headers(answer: Answer) -> tuple[tuple[str, str], ...]:
    headers = (("Content-Type", answer.content_type), *answer.headers)
    if answer.status in (204, 304):
        return headers
    return (*headers, ("Content-Length", str(len(answer.body))))


def _head(answer: Answer, *more: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in (*_headers(answer), *more)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin1")
