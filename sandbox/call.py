"""One admitted request, from the work that it asks for to its answer."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from http.client import responses
from typing import cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from . import answers
from .answers import Answer, with_retry_after
from .faults import Fault
from .work import Admitted


@dataclass(slots=True, kw_only=True)
class Call:
    """An admitted request, and the connection that it came by."""

    admitted: Admitted
    request: HTTPServerRequest

    def answer(self) -> None:
        """Do the work and answer at once."""
        answer = self.admitted.work()
        self._leave(answer.status)
        send(self.request, answer)

    async def answer_later(self, delay_s: float, fault: Fault | None) -> None:
        """Take the time that the request takes, do the work, answer; and go wrong as `fault` says.

        The work is done at the end of the delay, whether or not the client still waits: a request
        that it gave up can still change values, as it can at the real endpoint.
        """
        dripping = fault is not None and fault.kind in ("slow_body", "slow_headers")
        if fault is not None:
            self.admitted.exchange.fault = fault.kind
            delay_s += 0.0 if dripping else fault.seconds
        await asyncio.sleep(delay_s)
        match fault.kind if fault else "latency":
            case "drop_before":
                self._drop()
            case "drop_after":
                self.admitted.work()
                self._drop()
            case "status" | "redirect" if fault:
                if fault.apply:
                    self.admitted.work()
                answer = with_retry_after(answers.faulty(fault), self.admitted.run.config)
                self._leave(answer.status)
                send(self.request, answer)
            case "malformed":
                self.admitted.work()
                self._leave(answers.MALFORMED.status)
                send(self.request, answers.MALFORMED)
            case "hang_up":
                await self._hang_up(self.admitted.work())
            case "slow_body" | "slow_headers" if fault:
                await self._drip(self.admitted.work(), fault)
            case _:
                self.answer()

    def _leave(self, status: int | None) -> None:
        # Always in the same step as the last byte: once the client can see the answer and send
        # the next request, this one must no longer count as in progress.
        self.admitted.leave(status)

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
