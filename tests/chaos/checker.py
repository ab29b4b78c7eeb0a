"""What must be true after a run, by a model of its own: nothing of the courier is imported here.

A run leaves what the producers asked for, what they were told became of it, every request that
came to the stand-in, and the customers' attributes at the end. Every value of a run is unique for
its email and key, so a value says which ask it belongs to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

Exchange = Mapping[str, Any]
"""A request in the stand-in's log; `requestlog.Exchange` describes it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ask:
    """What a producer asked for, and what it was told."""

    email: str
    values: Mapping[str, Any]
    """Key → value, as ChartMogul is sent it."""
    occurred_us: int
    timeless: bool = False
    """It did not say when it occurred: it counts by its arrival, and its outcome says when."""
    producer: int = 0
    number: int = 0
    """Which producer asked, and in which order."""
    valid: bool = True
    idempotency_key: str | None = None
    answer: Literal["taken", "unknown"] = "taken"
    """`unknown`: the producer was told that the job may have arrived, or not."""
    job_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a producer is told became of a job."""

    status: str
    email: str | None = None
    occurred_us: int | None = None


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the metrics say at the end."""

    jobs: Mapping[str, int]
    """Status → jobs that were settled so."""
    attempts: Mapping[str, int]
    """`2xx` and so on → requests that were answered so."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run leaves behind."""

    asks: Sequence[Ask]
    outcomes: Mapping[str, Outcome]
    """By job id, also of jobs of which no producer learned that they arrived."""
    inbox: int
    """Jobs that were never accepted."""
    log: Sequence[Exchange]
    customers: Mapping[str, Mapping[str, Any]]
    """Email → custom attributes at the end, for each email that has a customer."""
    worker_logs: str
    secrets: Sequence[str]
    rate: float
    at_once: int
    timeout_s: float
    """The account's limits, requests a second and at once; and seconds of a request, at most."""
    damaged: frozenset[str] = frozenset()
    """Emails whose keys were damaged. What was asked for them is not in evidence."""
    after_damage: Mapping[str, str] = field(default_factory=dict)
    """Email → what became of a job that was asked for it at the end."""
    damaged_outcomes: Mapping[str, int] = field(default_factory=dict)
    """Status → jobs of the damaged emails."""
    counted: Counted | None = None
    """What the metrics say, if there are metrics."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A promise, on what it was checked, and how it was broken, if it was."""

    promise: str
    checked: str
    broken: list[str]


@dataclass(kw_only=True, eq=False)
class _Job:
    job_id: str
    ask: Ask
    status: str
    occurred_us: int
    written: set[str] = field(default_factory=set)
    """Keys whose value a request set, whatever its answer."""
    shown: set[str] = field(default_factory=set)
    """Those of them that an answer of 200 showed, in time."""

    @property
    def version(self) -> tuple[int, str]:
        return self.occurred_us, self.job_id


class Checker:
    """Compares what a run left behind with what was promised."""

    def __init__(self, evidence: Evidence) -> None:
        self.it = evidence
        self.posts = [
            each
            for each in evidence.log
            if each["method"] == "POST" and each["email"] not in evidence.damaged
        ]
        self.jobs: list[_Job] = []
        self.strangers: list[str] = []
        self._match()
        self.job_of = {job.ask: job for job in self.jobs}
        self.by_email: dict[str, list[_Job]] = defaultdict(list)
        for job in self.jobs:
            self.by_email[job.ask.email].append(job)
        self.owners = {(a.email, k, v): a for a in evidence.asks for k, v in a.values.items()}
        self.sent: dict[Ask, list[Exchange]] = defaultdict(list)
        for post in self.posts:
            in_time = _end_s(post) - post["arrived_s"] <= evidence.timeout_s
            for key, ask in self._content(post):
                if post not in self.sent[ask]:
                    self.sent[ask].append(post)
                if post["applied"] and (sent := self.job_of.get(ask)):
                    sent.written.add(key)
                    sent.shown |= {key} if post["status"] == 200 and in_time else set()

    def _match(self) -> None:
        """Find the ask that each outcome is about: by its id, else by its email and time."""
        asks = self.it.asks
        alone = [a for a in asks if a.job_id and (a.timeless or not a.idempotency_key)]
        others = [a for a in asks if not a.timeless and (a.idempotency_key or not a.job_id)]
        by_id = {ask.job_id: ask for ask in alone}
        by_time = {(ask.email, ask.occurred_us): ask for ask in others}
        for job_id, told in self.it.outcomes.items():
            ask = by_id.get(job_id) or by_time.get((told.email or "", told.occurred_us or 0))
            if ask is not None:
                occurred_us = (ask.timeless and told.occurred_us) or ask.occurred_us
                self.jobs.append(
                    _Job(job_id=job_id, ask=ask, status=told.status, occurred_us=occurred_us)
                )
            elif told.email is not None:  # else it is still in the inbox, unread
                self.strangers.append(job_id)

    def _content(self, post: Exchange) -> list[tuple[str, Ask]]:
        """The keys of a request, and whose values it carries."""
        content = [(each["key"], _plain(each["value"])) for each in post["custom"] or ()]
        owners = [(key, self.owners.get((post["email"], key, value))) for key, value in content]
        return [(key, ask) for key, ask in owners if ask is not None]

    def findings(self) -> list[Finding]:
        """Each promise in turn."""
        jobs, posts = f"{len(self.jobs)} jobs", f"{len(self.posts)} requests"
        values = f"{sum(len(custom) for custom in self.it.customers.values())} values"
        repeated = f"{len({ask.idempotency_key for ask in self.it.asks} - {None})} repeated jobs"
        in_a_second, at_once = self._pace()
        pace = f"at most {in_a_second} in a second, {at_once} at once"
        checks = [
            ("every job has an outcome", jobs, self.lost()),
            ("the newest value at the end", values, self.not_newest()),
            ("no older value over a newer", posts, self.overwritten()),
            ("one at a time for an email", posts, self.overlapping()),
            ("the account's pace", pace, self.too_fast()),
            ("outcomes tell the truth", jobs, self.untrue()),
            ("asked once, done once", repeated, self.doubled()),
            ("order of arrival", f"{self._timeless()} jobs without a time", self.disordered()),
            ("damage costs its own", f"{len(self.it.after_damage)} emails", self.stopped()),
            ("private", f"{len(self.it.worker_logs) // 1024} KiB of logs", self.told()),
        ]
        if counted := self.it.counted:
            how_many = f"{sum(counted.jobs.values())} jobs counted"
            checks.append(("metrics count what was", how_many, self.miscounted(counted)))
        return [
            Finding(promise=f"{number} {name}", checked=checked, broken=list(broken))
            for number, (name, checked, broken) in enumerate(checks, 1)
        ]

    def lost(self) -> Iterator[str]:
        if self.it.inbox:
            yield f"{self.it.inbox} jobs were never accepted"
        for ask in self.it.asks:
            if ask.answer == "taken" and ask.job_id not in self.it.outcomes:
                yield f"job {ask.job_id} of {ask.email}: nothing is known of it"
            if self.sent[ask] and ask not in self.job_of and not ask.idempotency_key:
                yield f"{ask.email}: sent in {_numbers(self.sent[ask])}, and without an outcome"
        for job_id, told in self.it.outcomes.items():
            if told.status == "pending":
                yield f"job {job_id} of {told.email}: still pending"

    def not_newest(self) -> Iterator[str]:
        for email, custom in self.it.customers.items():
            asked = {key for job in self.by_email[email] for key in job.ask.values}
            for key in sorted(asked | set(custom)):
                newest, found = self._standing(email, key), _plain(custom.get(key))
                wanted = newest and newest.ask.values[key]
                if wanted != found:
                    job_id = newest and newest.job_id
                    yield f"{email} {key}: is {found!r}, the newest is {wanted!r} of job {job_id}"

    def _standing(self, email: str, key: str) -> _Job | None:
        """The job whose value must stand at the end."""
        replaced = False  # by a newer one that was refused later: then it may be gone unsent
        for job in sorted(self.by_email[email], key=lambda job: job.version, reverse=True):
            if job.ask.valid and key in job.ask.values:
                taken = job.status in ("delivered", "superseded")
                if key in job.written or (taken and not replaced):
                    return job
                replaced = True
        return None

    def overwritten(self) -> Iterator[str]:
        """Stricter than 'over one that was answered 200': over any that was written."""
        newest: dict[tuple[str, str], tuple[tuple[int, str], int]] = {}
        for post in sorted((each for each in self.posts if each["applied"]), key=_end_s):
            for key, ask in self._content(post):
                job = self.job_of.get(ask)
                version = job.version if job else (ask.occurred_us, "")
                before = newest.get((ask.email, key), (version, 0))
                if version < before[0]:
                    where = f"request {post['number']} wrote {version}"
                    yield f"{ask.email} {key}: {where} over {before[0]} of request {before[1]}"
                else:
                    newest[ask.email, key] = version, post["number"]

    def overlapping(self) -> Iterator[str]:
        latest: dict[str, Exchange] = {}
        for post in sorted(self.posts, key=lambda post: float(post["arrived_s"])):
            before = latest.get(post["email"])
            if before and post["arrived_s"] < _end_s(before):
                numbers = f"request {post['number']} came within request {before['number']}"
                yield f"{post['email']}: {numbers}"
            latest[post["email"]] = post

    def too_fast(self) -> Iterator[str]:
        """A second may also see what was claimed before it and came late: no more than at once."""
        in_a_second, at_once = self._pace()
        if in_a_second > self.it.rate + self.it.at_once:
            yield f"{in_a_second} requests in a second, {self.it.rate:g} are allowed"
        if at_once > self.it.at_once:
            yield f"{at_once} requests at once, {self.it.at_once} are allowed"

    def _pace(self) -> tuple[int, int]:
        """The most requests in any second, and the most at once.

        One that its worker has given up on is a closed connection, though the stand-in goes on
        with it: after the timeout it does not count as one of those at once.
        """
        log = sorted(self.it.log, key=lambda each: float(each["arrived_s"]))
        arrivals = [float(each["arrived_s"]) for each in log]
        in_a_second = at_once = 0
        for place, now_s in enumerate(arrivals):
            in_a_second = max(in_a_second, place + 1 - bisect_right(arrivals, now_s - 1))
            since = bisect_right(arrivals, now_s - self.it.timeout_s)
            at_once = max(at_once, 1 + sum(_end_s(each) > now_s for each in log[since:place]))
        return in_a_second, at_once

    def untrue(self) -> Iterator[str]:
        for job in self.jobs:
            if job.status != "pending" and (reason := self._untrue(job)):
                yield f"job {job.job_id} of {job.ask.email}: {job.status}, but {reason}"

    def _untrue(self, job: _Job) -> str | None:
        ask, posts = job.ask, self.sent[job.ask]
        statuses = [post["status"] for post in posts]
        own = [key for key in ask.values if not self._is_superseded(job, key)]
        if not ask.valid:
            it_is = job.status == "invalid" and not posts
            return None if it_is else f"it makes no job; sent in {_numbers(posts)}"
        match job.status:
            case "delivered":
                unseen = set(own) - job.shown
                shown = job.shown and not unseen
                return None if shown else f"no answer of 200 showed {unseen or 'any of it'}"
            case "superseded":
                return f"nothing newer has {', '.join(own)}" if own else None
            case "unmatched":
                sought = ask.email not in self.it.customers and 404 in statuses
                return None if sought else "there is a customer, or none was sought"
            case "unconfirmed":
                quiet = any(post["status"] == 200 and not post["applied"] for post in posts)
                return None if quiet and not job.shown else "no answer left the values out"
            case "refused":
                alone = [post for post in posts if {a for _, a in self._content(post)} == {ask}]
                refused = any(post["status"] in (400, 422) for post in alone) and not job.shown
                return None if refused else "no request with it alone was refused, or it was taken"
            case "failed":
                # Perhaps not with its last request: a frozen worker does not see an answer in time.
                failed = any(
                    (post["status"] or 500) >= 500 or _took_s(post) > self.it.timeout_s
                    for post in posts
                )
                return None if failed else "the server did not fail on it"
        return "nothing in this run leads there"

    def _is_superseded(self, job: _Job, key: str) -> bool:
        newer = [each for each in self.by_email[job.ask.email] if each.version > job.version]
        return any(each.ask.valid and key in each.ask.values for each in newer)

    def _timeless(self) -> int:
        return sum(job.ask.timeless for job in self.jobs)

    def disordered(self) -> Iterator[str]:
        """Of one producer's jobs for an email, each was taken before it asked for the next."""
        for email, jobs in self.by_email.items():
            mine: dict[int, list[_Job]] = defaultdict(list)
            for job in sorted(jobs, key=lambda job: job.ask.number):
                if job.ask.timeless and job.status != "invalid":
                    mine[job.ask.producer].append(job)
            for several in mine.values():
                for first, second in pairwise(several):
                    if second.version < first.version:
                        numbers = f"{first.version} was asked for before {second.version}"
                        yield f"{email}: {numbers}"

    def stopped(self) -> Iterator[str]:
        """Emails whose keys were damaged take new jobs all the same."""
        for email, status in self.it.after_damage.items():
            if status != "delivered":
                yield f"{email}: a job after the damage is {status}"

    def doubled(self) -> Iterator[str]:
        yield from (f"job {job_id}: nobody asked for it" for job_id in self.strangers)
        groups: dict[str, list[Ask]] = defaultdict(list)
        for ask in self.it.asks:
            if ask.idempotency_key is not None:
                groups[ask.idempotency_key].append(ask)
        for key, asks in groups.items():
            ids = {ask.job_id for ask in asks} | {
                self.job_of[ask].job_id for ask in asks if ask in self.job_of
            }
            if len(ids - {None}) > 1:
                yield f"{key}: several jobs, {ids}"
            if len(done := [ask for ask in asks if self.sent[ask]]) > 1:
                yield f"{key}: sent for {len(done)}, in {_numbers(self.sent[done[-1]])} and before"

    def told(self) -> Iterator[str]:
        for secret in self.it.secrets:
            if secret in self.it.worker_logs:
                lines = self.it.worker_logs.splitlines()
                yield f"{secret!r} in: {next(line for line in lines if secret in line)[:200]}"

    def miscounted(self, counted: Counted) -> Iterator[str]:
        """Jobs to the last one. Of requests, some have lost the worker that would have counted."""
        told = Counter(self.it.damaged_outcomes)
        told.update(each.status for each in self.it.outcomes.values())
        for status in sorted((told.keys() | counted.jobs.keys()) - {"pending"}):
            if counted.jobs.get(status, 0) != told[status]:
                yield f"{status}: {counted.jobs.get(status, 0)} counted, {told[status]} there are"
        posts = [each for each in self.it.log if each["method"] == "POST" and each["status"]]
        answered = Counter(_class(each["status"]) for each in posts)
        for name, count in counted.attempts.items():
            if name[0].isdigit() and count > answered[name]:
                yield f"{count} requests counted as {name}, {answered[name]} were answered so"


def _class(status: int) -> str:
    return "429" if status == 429 else f"{status // 100}xx"


def _took_s(post: Exchange) -> float:
    return _end_s(post) - float(post["arrived_s"])


def _end_s(post: Exchange) -> float:
    return float("inf") if post["ended_s"] is None else float(post["ended_s"])


def _numbers(posts: Sequence[Exchange]) -> str:
    return "request " + (", ".join(str(post["number"]) for post in posts) or "none")


def _plain(value: Any) -> Any:
    """A value as it was sent: a Timestamp comes back with milliseconds."""
    return value.replace(".000Z", "Z") if isinstance(value, str) else value
