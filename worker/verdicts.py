"""What an answer of ChartMogul means: the table of the design, as a pure function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .chartmogul import Answer, NoAnswer


class Kind(StrEnum):
    """Whose fault it is, if anyone's."""

    TAKEN = "taken"
    """2xx with customers: what their entries show decides about each job."""
    UNMATCHED = "unmatched"
    """No customer has this email."""
    CONTENT = "content"
    """ChartMogul refuses what was sent."""
    ACCOUNT = "account"
    """The key or the plan is at fault; no job is."""
    PACE = "pace"
    """Too many requests; no job is at fault."""
    SERVER = "server"
    """The server or the way to it failed, or answered as ChartMogul does not."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What an answer means for the request."""

    kind: Kind
    http_status: int | None = None
    message: str | None = None
    entries: tuple[Any, ...] = ()
    """The customers of a 2xx, as they came."""
    retry_after_s: float | None = None
    """Seconds that the answer asks to wait."""
    may_still_act: bool = False
    """Whether the request may take effect later on, so that the next one has to wait."""

    @property
    def strange(self) -> bool:
        """Whether this is no answer of ChartMogul's: a redirect, a proxy's page, a wrong URL."""
        return (
            self.kind is Kind.SERVER
            and self.http_status is not None
            and self.http_status not in _SERVER_ERRORS
        )


# From ChartMogul's reference, "Status codes". 504 and 524 come from the proxy in front, which has
# given up on a server that goes on; 520 says that its answer made no sense to the proxy.
_KINDS = {
    400: Kind.CONTENT,
    401: Kind.ACCOUNT,
    402: Kind.ACCOUNT,
    403: Kind.ACCOUNT,
    404: Kind.UNMATCHED,
    422: Kind.CONTENT,
    429: Kind.PACE,
}
_SERVER_ERRORS = {500, 502, 503, 504, 520, 524}
_GAVE_UP_WAITING = {502, 504, 520, 524}

MAX_MESSAGE = 10_000
"""Characters of a message that are read: far above what is shown of it, since the email and the
values are taken out of it first."""


def judge(answer: Answer | NoAnswer) -> Verdict:
    """The verdict on an answer. Never fails on the answer's form."""
    if isinstance(answer, NoAnswer):
        return Verdict(kind=Kind.SERVER, message=answer.reason, may_still_act=answer.sent)
    document = _json(answer.body)
    if 200 <= answer.status < 300:
        return _judge_2xx(answer, document)
    kind = _KINDS.get(answer.status, Kind.SERVER)
    message = _message(document)
    if answer.status == 503 and message and "connection" in message.lower():
        kind = Kind.PACE  # "more than 20 parallel connections", or plain unavailability
    if answer.status in (403, 404) and document is None and answer.body.strip():
        kind = Kind.SERVER  # a page of a proxy or a wrong URL: no word on the account or the email
    return Verdict(
        kind=kind,
        http_status=answer.status,
        message=message or f"HTTP {answer.status}",
        retry_after_s=answer.retry_after_s,
        may_still_act=answer.status in _GAVE_UP_WAITING,
    )


def _judge_2xx(answer: Answer, document: object) -> Verdict:
    match document:
        case {"entries": [*entries]} if entries:
            return Verdict(kind=Kind.TAKEN, http_status=answer.status, entries=tuple(entries))
        case {"entries": []}:
            return Verdict(
                kind=Kind.UNMATCHED,
                http_status=answer.status,
                message="no customer has this email",
            )
    if document is None and answer.body.strip():
        # A proxy's page, or an answer that broke off.
        return Verdict(
            kind=Kind.SERVER,
            http_status=answer.status,
            message=f"HTTP {answer.status} with something else than JSON",
            may_still_act=True,
        )
    return Verdict(kind=Kind.TAKEN, http_status=answer.status)


def _json(body: bytes) -> object:
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document


def _message(document: object) -> str | None:
    """The best words in an error of any of the three shapes."""
    match document:
        case {"message": str(message), "param": str(param)} if message.strip():
            # Which attribute it is about, where the message does not say so itself.
            return _text(message if param in message else f"{param}: {message}")
        case {"message": str(message)} if message.strip():
            return _text(message)
        case {"error": str(message)} if message.strip():
            return _text(message)
        case {"errors": dict(errors)} if errors:
            return _text("; ".join(f"{field}: {_text(reason)}" for field, reason in errors.items()))
        case {"errors": [*errors]} if errors:
            return _text("; ".join(map(str, errors)))
    return None


def _text(words: object) -> str:
    text = ", ".join(map(str, words)) if isinstance(words, list) else str(words)
    # Half of a surrogate pair is JSON, but no text: Redis and terminals do not take it.
    return text[:MAX_MESSAGE].encode(errors="replace").decode()
