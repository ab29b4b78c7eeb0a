"""The pages, and their JSON: decode, read in a thread, show."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar, get_args
from urllib.parse import urlencode

from flower.api import BaseApiHandler
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.escape import xhtml_escape
from tornado.ioloop import IOLoop
from tornado.web import HTTPError, authenticated

from ...config.durations import parse_duration
from ...jobs.emails import email_fault, normalized_email
from ...jobs.errors import NotReachable
from ...jobs.ids import is_job_id
from ...jobs.outcome import REASONS, REPLAYABLE, STATUSES, Outcome, Status
from ...jobs.text import printable
from .chart import html_of, summary_of
from .documents import found_document, job_document, shown_email, stand_document
from .reading import Found, Reader, Wanted, accounts_of, waits_for
from .searches import Searches

T = TypeVar("T")

AGES = {"15m": "15 minutes", "1h": "hour", "24h": "24 hours", "7d": "7 days"}
"""Choices of how far back to look."""
MAX_AGE_S = 3_650 * 86_400
PER_PAGE = 50
REFRESH_S = 3
_PLACE = re.compile(r"(?:[0-9]{1,18}(?:-[0-9]{1,18})?)?|-")
_HERE = Path(__file__).parent
_POLICY = "default-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'"


class _Ours:
    """What our pages and their JSON have in common; beside one of Flower's handlers."""

    reader: Reader
    searches: Searches
    application: Any
    get_argument: Any
    set_header: Any
    request: Any

    def initialize(self, reader: Reader, searches: Searches) -> None:
        self.reader = reader
        self.searches = searches

    def set_default_headers(self) -> None:
        super().set_default_headers()  # type: ignore[misc]  # the handler beside it
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Content-Security-Policy", _POLICY)

    async def read(self, ask: Callable[..., T], *args: object) -> T:
        """Ask Redis, while Flower goes on."""
        return await IOLoop.current().run_in_executor(self.reader.threads, partial(ask, *args))

    @property
    def may_act(self) -> bool:
        """Whether jobs may be replayed here: only behind a password, unless all is read-only."""
        options = self.application.options
        return bool(options.basic_auth or options.auth) and not options.read_only

    def check_may_act(self) -> None:
        if not self.may_act:
            raise HTTPError(403, "this needs COURIER_FLOWER_BASIC_AUTH, and no FLOWER_READ_ONLY")

    def wanted(self) -> Wanted:
        """Which outcomes the address asks for. What it names that is not known counts as unsaid."""
        accounts = tuple(accounts_of(self.reader.settings, self.get_argument("account", "")))
        return Wanted(
            accounts=accounts,
            status=_status(self.get_argument("status", "")),
            reason=_one_of(REASONS, self.get_argument("reason", "")),
            since=_age(self.get_argument("since", "")),
            before=_place(self.get_argument("before", ""), len(accounts)),
            limit=PER_PAGE,
        )

    def searched(self) -> str | None:
        """The email that was searched for before, if the address holds its word."""
        return self.searches.email_of(self.get_argument("search", ""))


class _Page(_Ours, BaseHandler):  # type: ignore[misc]  # Flower has no types
    """A page in Flower's layout."""

    def show(self, template: str, **content: Any) -> None:
        self.render(
            template,
            may_act=self.may_act,
            settings=self.reader.settings,
            utc=_utc,
            ago=_ago,
            mib=_mib,
            with_code=_with_code,
            breakable=_breakable,
            status_class=_STATUS_CLASS.get,
            printable=printable,
            shown_email=shown_email,
            is_job_id=is_job_id,
            link=self._link,
            courier_static=lambda name: f"{self._link('static', name)}?v={_digest(name)}",
            search_word=self.get_argument("search", ""),
            **content,
        )

    def _link(self, name: str, *args: str, **query: str) -> str:
        """The address of one of our pages; what is empty in the query is left out."""
        said = urlencode({key: content for key, content in query.items() if content})
        path: str = self.reverse_url(f"courier-{name}", *args)
        return f"{path}?{said}" if said else path

    def unreachable(self, error: NotReachable) -> None:
        self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
        self.show("courier_unreachable.html", error=str(error))


class AccountsPage(_Page):
    """How everything stands, and what is wrong. `?part=1` answers what a refresh replaces."""

    @authenticated
    async def get(self) -> None:
        template = (
            "courier_stand.html" if self.get_argument("part", "") else "courier_accounts.html"
        )
        try:
            stand, error = await self.read(self.reader.stand), None
        except NotReachable as caught:
            self.set_status(HTTPStatus.SERVICE_UNAVAILABLE)
            stand, error = None, str(caught)
        refreshes = self.application.options.auto_refresh
        self.show(
            template,
            stand=stand,
            error=error,
            refresh_s=REFRESH_S if refreshes else 0,
            chart_of=html_of,
            summary_of=summary_of,
        )


class OutcomesPage(_Page):
    """The jobs that were settled, or those of one email; newest first."""

    @authenticated
    async def get(self) -> None:
        await self.answer()

    async def answer(self, *, fault: str = "", typed: str = "") -> None:
        wanted, searched = self.wanted(), self.searched()
        if self.get_argument("search", "") and searched is None:
            fault = "This search is over: it is kept for an hour, and until Flower restarts."
        try:
            if searched is not None:
                found = await self.read(self.reader.of_email, searched, wanted)
            else:
                found = await self.read(self.reader.recent, wanted)
        except NotReachable as error:
            self.unreachable(error)
            return
        self.show(
            "courier_outcomes.html",
            found=found,
            wanted=wanted,
            searched=searched,
            query={
                "search": self.get_argument("search", "") if searched else "",
                "account": wanted.accounts[0] if len(wanted.accounts) == 1 else "",
                "status": wanted.status or "",
                "reason": wanted.reason,
                "since": self.get_argument("since", "") if wanted.since else "",
            },
            fault=fault,
            typed=typed,
            ages=AGES,
            statuses=STATUSES,
            reasons=[reason for reason in REASONS if reason],
        )


class SearchPage(OutcomesPage):
    """Takes an email or a job's id in a form's body, so that no address holds it."""

    @authenticated
    async def get(self) -> None:
        self.redirect(self._link("outcomes"))

    @authenticated
    async def post(self) -> None:
        typed = self.get_body_argument("q", "")
        if is_job_id(typed.lower()):
            self.redirect(self._link("job", typed.lower()), status=HTTPStatus.SEE_OTHER)
        elif fault := email_fault(typed):
            self.set_status(HTTPStatus.UNPROCESSABLE_ENTITY)
            await self.answer(fault=f"Neither an email nor a job's id: it {fault}.", typed=typed)
        else:
            word = self.searches.begin(normalized_email(typed))
            self.redirect(self._link("outcomes", search=word), status=HTTPStatus.SEE_OTHER)


class JobPage(_Page):
    """A job: what became of it, when, why, and what it waits for."""

    @authenticated
    async def get(self, job_id: str) -> None:
        await self.answer(job_id, done=_DONE.get(self.get_argument("done", ""), ""))

    async def answer(self, job_id: str, *, done: str = "", fault: str = "") -> None:
        try:
            job = await self.read(self.reader.job, job_id)
        except NotReachable as error:
            self.unreachable(error)
            return
        if job is None:
            self.set_status(HTTPStatus.NOT_FOUND)
        self.show(
            "courier_job.html",
            job=job,
            job_id=printable(job_id)[:64],
            searched=self.searched(),
            waits_for=waits_for(job.outcome, job.status) if job else [],
            history=_history(job.outcome) if job else [],
            replayable=job is not None and job.outcome.status in REPLAYABLE,
            cancelable=job is not None and not (job.outcome.settled or job.outcome.attempts),
            done=done,
            fault=fault,
        )


class ReplayPage(JobPage):
    """The button that sends a job again."""

    done = "replayed"

    def act(self, job_id: str) -> str | None:
        """Do it, in a thread. Returns why it was not done."""
        return self.reader.replay(job_id)

    @authenticated
    async def get(self, job_id: str) -> None:
        self.redirect(self._link("job", job_id))

    @authenticated
    async def post(self, job_id: str) -> None:
        self.check_may_act()
        try:
            fault = await self.read(self.act, job_id)
        except NotReachable as error:
            self.unreachable(error)
            return
        if fault is None:
            search = self.get_argument("search", "")
            place = self._link("job", job_id, search=search, done=self.done)
            self.redirect(place, status=HTTPStatus.SEE_OTHER)
            return
        self.set_status(HTTPStatus.CONFLICT)
        await self.answer(job_id, fault=f"{fault[0].upper()}{fault[1:]}.")


class CancelPage(ReplayPage):
    """The button that takes a job back."""

    done = "canceled"

    def act(self, job_id: str) -> str | None:
        return self.reader.cancel(job_id)


class _Api(_Ours, BaseApiHandler):  # type: ignore[misc]  # Flower has no types
    """JSON, by Flower's own rule for its API."""

    async def tell(self, ask: Callable[..., T], *args: object) -> T:
        try:
            return await self.read(ask, *args)
        except NotReachable as error:
            raise HTTPError(503, "%s", str(error)) from None


class AccountsApi(_Api):
    @authenticated
    async def get(self) -> None:
        self.write(stand_document(await self.tell(self.reader.stand)))


class OutcomesApi(_Api):
    @authenticated
    async def get(self) -> None:
        self.write(found_document(await self.tell(self.reader.recent, self.wanted())))


class SearchApi(_Api):
    """An email's jobs. The email comes as JSON in the body: `{"email": "ada@example.com"}`."""

    @authenticated
    async def post(self) -> None:
        try:
            email = json.loads(self.request.body)["email"]
        except (ValueError, KeyError, TypeError):
            raise HTTPError(400, 'the body must be JSON: {"email": "…"}') from None
        if not isinstance(email, str) or (fault := email_fault(email)):
            raise HTTPError(400, "email: %s", fault if isinstance(email, str) else "is no text")
        found: Found = await self.tell(self.reader.of_email, email, self.wanted())
        self.write(found_document(found, searched=email))


class JobApi(_Api):
    @authenticated
    async def get(self, job_id: str) -> None:
        job = await self.tell(self.reader.job, job_id)
        if job is None:
            raise HTTPError(404, "nothing is known of this job")
        self.write(job_document(job))


class ReplayApi(_Api):
    @authenticated
    async def post(self, job_id: str) -> None:
        await self.do(self.reader.replay, job_id, "replayed")

    async def do(self, act: Callable[[str], str | None], job_id: str, done: str) -> None:
        self.check_may_act()
        if fault := await self.tell(act, job_id):
            raise HTTPError(409, "%s", printable(fault))
        self.write({done: job_id})


class CancelApi(ReplayApi):
    @authenticated
    async def post(self, job_id: str) -> None:
        await self.do(self.reader.cancel, job_id, "canceled")


class MetricsPage(Metrics):  # type: ignore[misc]  # Flower has no types
    """Flower's metrics and ours. Flower itself leaves its own open, whatever the password."""

    def initialize(self, reader: Reader, more: Callable[[], bytes] | None) -> None:
        self.reader = reader
        self.more = more

    @authenticated
    async def get(self) -> None:
        await super().get()
        if self.more is not None:
            self.write(await IOLoop.current().run_in_executor(self.reader.threads, self.more))


_STATUS_CLASS = {
    "delivered": "text-bg-success",
    "unchanged": "text-bg-success",
    "superseded": "text-bg-secondary",
    "canceled": "text-bg-secondary",
    "pending": "text-bg-warning",
}


_DONE = {
    "replayed": "It was put back into the inbox. It is sent again with the values that it had.",
    "canceled": "It was taken back, and is not sent.",
}
"""What a button has done, by the word in the address after it."""


def _status(text: str) -> Status | None:
    return next((status for status in get_args(Status) if status == text), None)


def _one_of(known: tuple[str, ...], text: str) -> str:
    return text if text in known else ""


def _age(text: str) -> timedelta | None:
    try:
        seconds = parse_duration(text) if text else 0
    except (ValueError, OverflowError):
        return None
    return timedelta(seconds=seconds) if 0 < seconds < MAX_AGE_S else None


def _place(text: str, accounts: int) -> str:
    """The place of each account, as `Found.older` has them; "" where it has another form."""
    places = text.split(".")
    fits = len(places) == accounts and all(map(_PLACE.fullmatch, places))
    return text if fits else ""


def _history(outcome: Outcome) -> list[tuple[datetime, str]]:
    """What is known to have happened to a job, in order."""
    answer = f", answered with HTTP {outcome.http_status}" if outcome.http_status else ""
    many = f" (attempt {outcome.attempts})" if outcome.attempts > 1 else ""
    found = [
        (outcome.occurred_at, "occurred: its values count from here"),
        (outcome.accepted_at, "accepted"),
        (outcome.sent_at, f"sent to ChartMogul{many}{answer}"),
        (outcome.settled_at, outcome.status),
    ]
    return sorted((at, what) for at, what in found if at is not None)


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _mib(count: int | None) -> str:
    return "not told" if count is None else f"{count / 1024**2:,.0f} MiB"


def _with_code(text: str) -> str:
    """HTML of a sentence in which `commands` stand so."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", xhtml_escape(printable(text)))


def _breakable(email: str) -> str:
    """HTML of an email that is broken behind its "@" first, where it must be."""
    return xhtml_escape(printable(email)).replace("@", "@<wbr>")


@cache
def _digest(name: str) -> str:
    """Changes with the file, so that browsers take the new one."""
    return hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]


def _ago(seconds: float) -> str:
    """`5 s`, `12 min`, `3.5 h`, `2.0 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5_400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
