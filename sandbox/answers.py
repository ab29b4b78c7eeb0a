"""The answers of the stand-in, in the shapes that the reference documents or that were recorded."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, NamedTuple

from .faults import Fault
from .settings import SandboxConfig

_JSON = "application/json"


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):  # noqa: N818  (an answer, not a failure of ours)
    """The content of a request is refused; `answer` says how."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    return Answer(status, json.dumps(content).encode(), _JSON, headers)


def error(code: int, message: str, param: str | None = None) -> Answer:
    """The commonest error shape."""
    return json_answer(code, {"code": code, "message": message, "param": param})


def bad_request(message: str, param: str | None = None) -> Refused:
    return Refused(error(400, message, param))


def missing(param: str) -> Refused:
    return bad_request(f"param is missing or the value is empty: {param}", param)


def unprocessable(errors: Mapping[str, str]) -> Refused:
    """The shape of semantic errors."""
    return Refused(json_answer(422, {"errors": dict(errors)}))


PONG = json_answer(200, {"data": "pong!"})
NOT_FOUND = json_answer(404, {"error": "Not found"})
UNAUTHORIZED = error(401, "No valid API key provided")
RATE_EXCEEDED = error(429, "Your request rate has exceeded our rate limit.")
TOO_MANY_PARALLEL = error(503, "Service unavailable: too many parallel connections.")
UNKNOWN_CUSTOMER = error(404, "Customer not found")
TOO_LARGE = Answer(413, b"<html><h1>413 Request Entity Too Large</h1></html>", "text/html")
MALFORMED = Answer(200, b'{"entries": [{"id": 25647, "attributes": {"custom": {"chan')

ACCOUNT_FAULTS = {
    "revoked": UNAUTHORIZED,
    "expired": error(402, "Your plan has expired."),
    "forbidden": error(403, "Your API key does not have the permission for this request."),
}


def unknown_email(email: str) -> Answer:
    # The body of the sister endpoint that searches by email: this one's is not known.
    return error(404, f'Can\'t find any customers with email: "{email}"', "email")


def with_retry_after(answer: Answer, config: SandboxConfig) -> Answer:
    """The same with `Retry-After`, if it tells to come back later and the settings want it."""
    if config.retry_after is None or answer.status not in (429, 503):
        return answer
    value = str(config.retry_after_s)
    if config.retry_after == "date":
        value = formatdate(time.time() + config.retry_after_s, usegmt=True)
    return answer._replace(headers=(*answer.headers, ("Retry-After", value)))


def faulty(fault: Fault) -> Answer:
    """The answer that a `status` or `redirect` fault asks for."""
    if fault.kind == "redirect":
        return Answer(302, b"", "text/html", (("Location", "/v1/redirected"),))
    if fault.content is not None:
        return Answer(fault.status, fault.content.encode())
    message = "Injected by the sandbox."
    match fault.body:
        case "empty":
            return Answer(fault.status, b"")
        case "html":
            page = f"<html><body><h1>{fault.status}</h1><p>{message}</p></body></html>"
            return Answer(fault.status, page.encode(), "text/html")
        case "huge":
            frame = len(error(fault.status, "").body)
            return error(fault.status, "x" * max(fault.body_bytes - frame, 0))
        case "json" if fault.status == 422:
            return unprocessable({"base": message}).answer
        case "json":
            return error(fault.status, message)
