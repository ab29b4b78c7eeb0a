"""What an answer of ChartMogul leads to: the table of the design, as a pure function.

The first row that fits wins. "ChartMogul's body" is JSON in one of its shapes; a page, a text or
nothing may be a proxy's. What becomes of each job then is decided in `settlement`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from ..jobs.outcome import Reason
from .bodies import (
    CODES,
    custom_of,
    customers,
    document_of,
    errors_in,
    is_nothing,
    text_of,
    with_text,
    words_of,
)
from .chartmogul import MAX_BODY, Answer, NoAnswer


class Kind(StrEnum):
    """Whose fault it is, if anyone's."""

    TAKEN = "taken"
    """Accepted: the values that the answer shows decide about each job."""
    UNMATCHED = "unmatched"
    """No customer has this email."""
    CONTENT = "content"
    """ChartMogul refuses what was sent."""
    ROUTE = "route"
    """A 404 of ChartMogul's that does not speak of the email: a ping decides (`judge_route`)."""
    ACCOUNT = "account"
    """The key, the plan or our own side is at fault; no job is."""
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
    """The answer's words, not masked yet, or ours. For TAKEN, words beside the customers."""
    unproven: str = "ChartMogul answered without showing the values"
    """For TAKEN: why a job whose values are not shown is not delivered."""
    entries: tuple[Any, ...] = ()
    """The customers of a 2xx, as they came."""
    shown: tuple[Mapping[str, Any], ...] = ()
    """The custom attributes that a 2xx shows, by key: one mapping for each customer, or one for
    an answer that shows attributes without customers."""
    retry_after_s: float | None = None
    """Seconds that the answer asks to wait."""
    may_still_act: bool = False
    """Whether the request may take effect later on, so that the next one has to wait."""
    no_answer: Literal["", "timeout", "connection", "own_side"] = ""
    """Why nothing came back, if nothing did."""

    @property
    def attempt_class(self) -> str:
        """What the attempt counts as: `2xx`, `4xx`, `429`, `timeout` and so on."""
        if self.no_answer or self.http_status is None:
            return self.no_answer or "connection"
        return "429" if self.http_status == 429 else f"{self.http_status // 100}xx"

    @property
    def reason(self) -> Reason:
        """Why a job of this request is not delivered, if it is not."""
        match self.kind:
            case Kind.TAKEN:
                return "not_shown" if self.entries else "no_proof"
            case Kind.UNMATCHED:
                return "no_customer"
            case Kind.CONTENT:
                return "too_large" if self.http_status == 413 else "content"
            case Kind.ACCOUNT:
                return "account"
            case Kind.PACE:
                return "pace"
            case Kind.ROUTE:
                return "not_chartmogul"
        if self.http_status is None:
            return "timeout" if self.no_answer == "timeout" else "connection"
        return "not_chartmogul" if self.strange else "server"

    @property
    def route_in_doubt(self) -> bool:
        """Whether a ping is to tell if the URL is wrong: any 404 that is not about the email."""
        return self.kind is Kind.ROUTE or (self.strange and self.http_status == 404)

    @property
    def strange(self) -> bool:
        """Whether this is no answer of ChartMogul's: a redirect, or a proxy's page."""
        return (
            self.kind is Kind.SERVER
            and self.http_status is not None
            and self.http_status not in _SERVER_ERRORS
        )


# 504, 522 and 524 come from the proxy in front, which has given up on a server that goes on; 520
# says that its answer made no sense to the proxy. 598 and 599 are proxies' own for a timeout.
_GAVE_UP_WAITING = {502, 504, 520, 522, 524, 598, 599}
_SERVER_ERRORS = {408, 425, 500, 502, 503, 504, 520, 522, 524}

_MARKS = {"code", "message", "param", "error", "errors", "error_details"}

# Not where it is a part of a path, such as `/v1/customers/attributes/custom`.
_OF_THE_EMAIL = re.compile(r"(?<![/\w])(e-?mails?|customers?)(?![/\w])", re.IGNORECASE)
_OF_THE_PACE = re.compile(
    r"\b(rates?|connections?|too many|throttl\w+|parallel|concurren\w+)\b", re.IGNORECASE
)
_OF_A_BREAK = re.compile(
    r"refused|fail|reset|time[d -]*out|closed|lost|terminat|disconnect", re.IGNORECASE
)
_FAILED = {"error", "fail", "failed", "failure"}
# What an error within a 200 says that has no code: the first that fits; else it is the content.
_SAID = (
    (429, re.compile(r"\brate\b.*\b(limit|exceed)|too many (parallel|requests|conn)", re.I | re.S)),
    (401, re.compile(r"api[ _-]?key|unauthori[sz]ed|authenticat|credential", re.IGNORECASE)),
    (403, re.compile(r"forbidden|permission|\btrial\b|\bplan\b.*\bexpired", re.I | re.S)),
    (404, re.compile(r"not found|(can.?t|cannot|could ?n.t|no) .*(find|customer)|not exist", re.I)),
    (500, re.compile(r"internal|server error|unavailable|try again|time[d -]*out", re.IGNORECASE)),
)


def judge(answer: Answer | NoAnswer) -> Verdict:
    """The verdict on an answer. Never fails on the answer's form."""
    if isinstance(answer, NoAnswer):
        kind = Kind.ACCOUNT if answer.own_side else Kind.SERVER
        why: Literal["timeout", "connection"] = "timeout" if answer.timed_out else "connection"
        return Verdict(
            kind=kind,
            message=answer.reason,
            may_still_act=answer.sent,
            no_answer="own_side" if answer.own_side else why,
        )
    document = document_of(answer.body)
    if 200 <= answer.status < 300:
        return replace(_judge_2xx(answer, document), retry_after_s=answer.retry_after_s)
    return _judge_error(answer, answer.status, document)


def judge_route(verdict: Verdict, ping: Answer | NoAnswer) -> Verdict:
    """The verdict on a 404 that does not speak of the email, given what a ping got right after.

    Returns:
        When the ping was answered, the route is right: UNMATCHED, since the email has no customer;
        a 404 that is no answer of ChartMogul's stays as it is. ACCOUNT when it was refused: the
        route is wrong. Where the ping met a limit or a failure of the server, nothing is decided,
        and its own verdict holds for the request too.
    """
    if is_pong(ping):
        return verdict if verdict.strange else replace(verdict, kind=Kind.UNMATCHED)
    found = judge(ping)
    if found.kind in (Kind.PACE, Kind.SERVER) and not found.strange:
        return replace(found, may_still_act=False)
    if found.kind is Kind.ACCOUNT:
        return found
    hint = f"check CHARTMOGUL_API_URL, it ends in /v1: a ping fails too (HTTP {found.http_status})"
    return replace(verdict, kind=Kind.ACCOUNT, message=f"{hint}; {verdict.message}")


def is_pong(answer: Answer | NoAnswer) -> bool:
    """Whether this is ChartMogul's answer to a ping: `{"data": "pong!"}`."""
    if isinstance(answer, NoAnswer) or answer.status != 200:
        return False
    document = document_of(answer.body)
    return isinstance(document, dict) and "data" in document


def _judge_2xx(answer: Answer, document: object) -> Verdict:
    entries = tuple(customers(document))
    shown = tuple(map(custom_of, entries)) or tuple(
        filter(None, [custom_of({"attributes": document})])
    )
    taken = Verdict(
        kind=Kind.TAKEN,
        http_status=answer.status,
        message=words_of(document) if entries else None,
        entries=entries,
        shown=shown,
    )
    larger = len(answer.body) >= MAX_BODY
    if larger:
        mebibytes = MAX_BODY // 1024**2
        unproven = f"{taken.unproven} in the first {mebibytes} MiB of the answer"
        taken = replace(taken, unproven=unproven)
    if shown:
        return taken
    words = words_of(document)
    if code := _error_code(document, words or ""):
        return _judge_error(answer, code, document)
    if larger:
        return taken
    if answer.status in (202, 204):
        unproven = f"ChartMogul accepted the request (HTTP {answer.status}), without proof"
        return replace(taken, message=words, unproven=unproven)
    if document is None and not is_nothing(answer.body):
        return Verdict(
            kind=Kind.SERVER,
            http_status=answer.status,
            message=with_text(f"HTTP {answer.status} with something else than JSON", answer.body),
            may_still_act=True,  # it may be an answer that broke off
        )
    return replace(taken, kind=Kind.UNMATCHED, message=words or "no customer has this email")


def _judge_error(answer: Answer, status: int, document: object) -> Verdict:
    """What an error means: `status` is the answer's, or that of an error within a 200."""
    words = words_of(document)
    marked = isinstance(document, dict) and not _MARKS.isdisjoint(document)
    ours = words is not None or marked
    kind = _kind(status, ours, words or text_of(answer.body))
    message = words
    if message is None:
        known = ours or kind is not Kind.SERVER or status in _SERVER_ERRORS
        message = f"HTTP {status}" if known else f"HTTP {status}, but not from ChartMogul"
        message = message if ours else with_text(message, answer.body)
    if status == 407:
        message = "the proxy refused (407)"
    return Verdict(
        kind=kind,
        http_status=answer.status,
        message=message,
        retry_after_s=answer.retry_after_s,
        may_still_act=status in _GAVE_UP_WAITING,
    )


def _kind(status: int, ours: bool, words: str) -> Kind:
    """Whose fault an error is. `ours`: its body is ChartMogul's."""
    match status:
        case 407:
            return Kind.ACCOUNT  # no server answers so: it is our proxy
        case 429:
            return Kind.PACE
        case 503 if _OF_THE_PACE.search(words) and not _OF_A_BREAK.search(words):
            return Kind.PACE  # "more than 20 parallel connections", or plain unavailability
        case 413:
            return Kind.CONTENT
        case 408 | 425:
            return Kind.SERVER
        case _ if not 400 <= status < 500 or not ours:
            return Kind.SERVER
        case 404:
            return Kind.UNMATCHED if _OF_THE_EMAIL.search(words) else Kind.ROUTE
        case 401 | 402 | 403:
            return Kind.ACCOUNT
        case _:
            return Kind.CONTENT


def _error_code(document: object, words: str) -> int | None:
    """The status that an error within a 2xx stands for; None if the document is none."""
    errors = list(errors_in(document))
    for error in errors:
        for name in CODES:
            if re.fullmatch("[45][0-9][0-9]", code := str(error.get(name)), re.ASCII):
                return int(code)
    said = next((code for code, pattern in _SAID if pattern.search(words)), None)
    if words and any(map(_is_error, errors)):
        return said or 422
    is_text = not errors
    return said if is_text or any(error.get("message") for error in errors) else None


def _is_error(part: Mapping[str, Any]) -> bool:
    """Whether an object of a 2xx says that something went wrong, whatever it was."""
    return (
        any(part.get(name) for name in ("error", "errors", "error_details"))
        or part.get("param") is not None
        or str(part.get("status")).casefold() in _FAILED
        or any(part.get(name) is False for name in ("success", "ok"))
    )
