"""What the pages read from Redis. Each call answers, or fails in words, within a second or two."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from ...config import Settings
from ...config.connections import connect_briefly, until
from ...config.messages import KEY_PREFIX
from ...config.redis_errors import RedisError, describe_redis_error
from ...jobs.emails import normalized_email
from ...jobs.errors import NotReachable
from ...jobs.outcome import Outcome, Status
from ...producers import Producer
from ...state.account import AccountHealth, AccountStatus
from ...state.counts import Counters
from ...state.keys import Keys
from ...state.outcomes import Outcomes
from ...state.shards import first_of
from ..picture import Picture, health_of, look
from .chart import Minute, minutes_of

T = TypeVar("T")

ANSWER_S = 1.5
"""So long Redis is waited for, in all, for one page."""
SEARCH_S = 5.0
"""The same where an email is looked for, which may wait in a long inbox."""
FRESH_S = 1.0
"""What was read is shown to others for so long: many who watch cost no more than one."""
THREADS = 4
_NOT_REPLAYED = "not replayed: it has not ended badly, or its values are kept no more"
NOWHERE = "-"
"""The place of an account of which there is nothing older."""


@dataclass(frozen=True, kw_only=True)
class Stand:
    """How everything stands, and each account's last hour."""

    picture: Picture
    minutes: dict[str, list[Minute]]
    """Account → each minute of the last hour."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Some outcomes, newest first."""

    outcomes: tuple[Outcome, ...]
    older: str | None = None
    """Where the next page begins; None where there is nothing older."""
    cut_short: bool = False
    """Whether there may be more among those that were not looked at yet."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which outcomes are asked for."""

    accounts: tuple[str, ...]
    status: Status | None = None
    reason: str = ""
    since: timedelta | None = None
    before: str = ""
    """Where the page begins, as an earlier one said."""
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job, and what is around it."""

    outcome: Outcome
    status: AccountStatus
    others: tuple[Outcome, ...]
    """Other jobs of its email, newest first."""


class Reader:
    """Reads for the pages. Methods are called in its `threads`.

    All raise `NotReachable`, in words, where Redis does not answer in time, or with an error.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="courier")
        self._client = connect_briefly(settings)
        self._producer = Producer(settings)
        self._lock = threading.Lock()
        self._stand: tuple[float, Stand | NotReachable] | None = None

    def _ask(self, ask: Callable[[], T], within_s: float = ANSWER_S) -> T:
        try:
            if within_s > ANSWER_S:
                with until(time.monotonic() + ANSWER_S):
                    self._client.ping()  # one that is away is told as soon as ever
            with until(time.monotonic() + within_s):
                return ask()
        except RedisError as error:
            raise NotReachable(describe_redis_error(self.settings, error)) from error

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """How many messages wait in queues, as Flower asks its own readers of brokers."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, self._lengths, list(names))

    def _lengths(self, names: list[str]) -> list[dict[str, Any]]:
        client: Any = self._client
        return self._ask(
            lambda: [
                {"name": name, "messages": client.llen(f"{KEY_PREFIX}{name}")} for name in names
            ]
        )

    def _outcomes(self, account: str) -> Outcomes:
        return Outcomes(self._client, Keys(account))

    def _health(self, account: str) -> AccountHealth:
        return health_of(self._client, self.settings, account)

    def stand(self) -> Stand:
        """How everything stands now, or did within the last second."""
        with self._lock:
            if self._stand is None or self._stand[0] < time.monotonic():
                try:
                    found: Stand | NotReachable = self._ask(self._look)
                except NotReachable as error:
                    found = error
                self._stand = (time.monotonic() + FRESH_S, found)
            found = self._stand[1]
        if isinstance(found, NotReachable):
            raise NotReachable(str(found))
        return found

    def _look(self) -> Stand:
        picture = look(self._client, self.settings)
        names = [each.account for each in picture.accounts]
        return Stand(
            picture=picture,
            minutes={
                account: minutes_of(Counters(self._client, Keys(account)).last_hour())
                for account in names
            },
        )

    def recent(self, wanted: Wanted) -> Found:
        """A page of the jobs that were settled, of one account or several."""
        if wanted.status == "pending":
            return self.pending(wanted)
        return self._ask(lambda: self._recent(wanted))

    def _recent(self, wanted: Wanted) -> Found:
        begins = dict(zip(wanted.accounts, wanted.before.split("."), strict=False))
        pages = {
            account: self._outcomes(account).page(
                statuses=(wanted.status,) if wanted.status else (),
                reason=wanted.reason,
                since=wanted.since,
                before=begins.get(account, ""),
                limit=wanted.limit,
                within_s=0.5 / len(wanted.accounts),
            )
            for account in wanted.accounts
            if begins.get(account) != NOWHERE
        }
        listed = [
            (_order(place), account, place, outcome)
            for account, page in pages.items()
            for place, outcome in page.outcomes
        ]
        listed.sort(key=lambda each: each[0], reverse=True)
        shown = listed[: wanted.limit]
        places = []
        for account in wanted.accounts:
            page = pages.get(account)
            mine = [place for _, of, place, _ in shown if of == account]
            if page is None:
                places.append(NOWHERE)
            elif len(mine) == len(page.outcomes):  # all that the account gave is shown
                places.append(page.older or NOWHERE)
            else:
                places.append(mine[-1] if mine else begins.get(account, ""))
        return Found(
            outcomes=tuple(outcome for *_, outcome in shown),
            older=None if set(places) == {NOWHERE} else ".".join(places),
            cut_short=any(page.cut_short for page in pages.values()),
        )

    def pending(self, wanted: Wanted) -> Found:
        """The jobs that wait the longest, of one account or several."""
        return self._ask(lambda: self._pending(wanted))

    def _pending(self, wanted: Wanted) -> Found:
        found = [
            outcome
            for account in wanted.accounts
            for outcome in self._outcomes(account).pending(since=wanted.since, limit=wanted.limit)
            if wanted.reason in ("", outcome.reason)
        ]
        found.sort(key=_came)
        return Found(outcomes=tuple(found[: wanted.limit]))

    def of_email(self, email: str, wanted: Wanted) -> Found:
        """The email's jobs, those that wait among them."""
        return self._ask(lambda: self._of_email(email, wanted), SEARCH_S)

    def _of_email(self, email: str, wanted: Wanted) -> Found:
        found = [
            outcome
            for account in wanted.accounts
            for outcome in self._outcomes(account).of_email(normalized_email(email))
        ]
        if wanted.since is not None:
            oldest = self._outcomes(wanted.accounts[0]).now() - wanted.since
            found = [each for each in found if (each.accepted_at or oldest) >= oldest]
        chosen = [
            each
            for each in found
            if wanted.status in (None, each.status) and wanted.reason in ("", each.reason)
        ]
        chosen.sort(key=_when, reverse=True)
        return Found(outcomes=tuple(chosen))

    def job(self, job_id: str) -> Job | None:
        """All that is known of a job, whichever account it belongs to."""
        return self._ask(lambda: self._job(job_id), SEARCH_S)

    def _job(self, job_id: str) -> Job | None:
        def of(account: str) -> Job | None:
            outcomes = self._outcomes(account)
            outcome = outcomes.get(job_id)
            if outcome is None:
                return None
            others = outcomes.of_email(normalized_email(outcome.email)) if outcome.email else []
            return Job(
                outcome=outcome,
                status=self._health(account).status(),
                others=tuple(each for each in others if each.job_id != job_id),
            )

        return first_of(self._client, self.settings.accounts, of)

    def replay(self, job_id: str) -> str | None:
        """Put a job back into the inbox. Returns why that was not done; None where it was."""
        replayed = self._ask(
            lambda: first_of(
                self._client,
                self.settings.accounts,
                lambda account: self._health(account).replay(job_id) or None,
            )
        )
        return None if replayed else _NOT_REPLAYED

    def cancel(self, job_id: str) -> str | None:
        """Take a job back that was not sent. Returns why that was not done; None where it was."""
        return self._ask(lambda: self._cancel(job_id))

    def _cancel(self, job_id: str) -> str | None:
        fault = None
        for account in self.settings.accounts:
            try:
                found = self._producer.cancel(job_id, account=account)
            except NotReachable as error:  # of a cluster, its shard may be down alone
                fault = error
                continue
            if found.result != "unknown":
                return None if found.canceled else found.summary()
        if fault is not None:
            raise fault
        return found.summary()


def _came(outcome: Outcome) -> tuple[float, str]:
    moment = outcome.accepted_at
    return moment.timestamp() if moment else float("inf"), outcome.job_id


def _order(place: str) -> tuple[int, int]:
    milliseconds, _, number = place.partition("-")
    return int(milliseconds), int(number or 0)


def _when(outcome: Outcome) -> float:
    moment: datetime | None = outcome.settled_at or outcome.accepted_at
    return moment.timestamp() if moment else float("inf")


def waits_for(outcome: Outcome, status: AccountStatus) -> list[str]:
    """What a pending job waits for, in words, the most important first."""
    if outcome.settled:
        return []
    found: list[str] = []
    if not status.workers:
        found.append("a worker: none is alive that serves this account")
    if status.pause:
        found.append(f"the end of the account's pause: {status.pause.reason}")
    elif status.circuit:
        found.append(
            f"ChartMogul to work again, since it fails for all emails: {status.circuit.reason}"
        )
    elif status.held_for_s:
        found.append(
            f"the end of ChartMogul's request to wait, {status.held_for_s:.1f} s more (429)"
        )
    again = outcome.next_attempt_at
    if outcome.accepted_at is None:
        found.append("its acceptance by a worker")
    elif again is not None and again > status.at:
        found.append(f"its next attempt, at {again:%Y-%m-%d %H:%M:%S} UTC")
    elif not found:
        found.append(f"its turn; jobs and emails waiting: {status.waiting:,}")
    return found


def accounts_of(settings: Settings, account: str | None) -> Sequence[str]:
    """The one asked for, if there is one of this name; else all."""
    return (account,) if account in settings.accounts else settings.accounts
