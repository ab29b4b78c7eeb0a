"""The transitions of `state/lua`, in any order, beside a small model of what is promised.

Hypothesis plays producers, workers that die, ChartMogul and the clock. `make test` takes some
seconds for it; a longer run, with as many plays as wanted on each of the two servers:

    MODEL_PLAYS=20000 make test ARGS="--timeout 0 tests/unit/test_model.py"
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.job import EPOCH, AttributeJob, Lane
from attribute_courier.jobs.outcome import REPLAYABLE, SUCCESSES, Status
from attribute_courier.jobs.schema import load_wire
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state import scripts
from attribute_courier.state.claims import AccountNews, Claim, Next, Wait
from attribute_courier.state.inbox import Taken
from attribute_courier.state.repair import Repaired, repair
from attribute_courier.worker.settlement import Policy, settle
from attribute_courier.worker.verdicts import Kind, Verdict

from ..account_state import KEYS, Account
from ..everything import holding
from ..redis_clock import RedisClock, on_test_time

PLAYS = int(os.environ.get("MODEL_PLAYS", "25"))
EMAILS = ["ada@example.com", "bob@example.com"]
NAMES = ["age", "plan", "seats"]
POLICY = Policy(
    confirm="echo",
    unmatched_delays_s=(4,),
    unconfirmed_delays_s=(2,),
    give_up_after_s=5,
    timeout_s=3,
)
ACTS_S = 3.0
"""How long a request may act."""
LEASE_S = 7.0
SHORT_LEASE_S = LEASE_S - 2.1
"""A step of the clock ahead counts as two seconds at most (`lua/_clock.lua`)."""
LOOK_S = 1.9
"""While time passes, a worker looks so often: else it would be a step of the clock."""
SCRIPTS = ["take", "stage", "claim", "settle", "give_back", "cancel", "forget", "forget_jobs"]
LIMITS = {"rate_limit": 5, "max_parallel": 2, "lease_s": LEASE_S, "max_attributes": 2}
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What a job asks for."""

    email: str
    ago_s: float | None
    values: dict[str, int]
    lane: Lane
    only_changed: bool


ASKED = st.builds(
    Asked,
    email=st.sampled_from(EMAILS),
    ago_s=st.sampled_from([None, None, 0.0, 1.0, 5.0, 60.0, -30.0]),
    values=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1), min_size=1),
    lane=st.sampled_from(["live", "bulk"]),
    only_changed=st.booleans(),
)
WHICH = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
"""Which of those that there are, from the latest back."""
ANSWER = st.sampled_from(
    [
        Kind.TAKEN,
        Kind.TAKEN,
        Kind.TAKEN,
        Kind.CONTENT,
        Kind.CONTENT,
        Kind.SERVER,
        Kind.UNMATCHED,
        Kind.ACCOUNT,
        Kind.PACE,
        None,
        None,
    ]
)
"""ChartMogul's; None where it is lost."""
SHOWN = st.just(set(NAMES)) | st.sets(st.sampled_from(NAMES))
"""Which values its answer shows."""


def _chosen(those: Sequence[T], which: int) -> T:
    return those[-1 - which % len(those)]


@dataclass(eq=False)
class Held:
    """A claim in a worker's hands."""

    claim: Claim
    at_s: float
    sent: bool
    dropped: bool = False
    """Whether the worker has done with it, or died."""
    may_act: bool = True
    """Whether ChartMogul may still carry the request out."""
    arrived: bool = False
    """Whether it has."""
    given_back: bool = False
    forgotten: bool = False
    """Whether its email was forgotten since."""

    def carries(self, job_id: str) -> bool:
        return job_id in {job.job_id for job in self.claim.jobs}


@dataclass
class Email:
    """The model of an email: what ChartMogul has, and who may send."""

    has: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Attribute → version and value."""
    lease: Held | None = None
    forgotten_at: datetime | None = None

    def carry_out(self, held: Held) -> None:
        for value in held.claim.values:
            older, _ = self.has.get(value.attribute.key, ("", None))
            version = "" if held.forgotten else value.version
            assert version >= older, "an older value is put over a newer one"
            self.has[value.attribute.key] = (version, value.attribute.value)
        held.arrived = True


class Play(RuleBasedStateMachine):
    """Everybody who takes part, in any order, and the model beside them."""

    client: Any  # these two are set by `play`
    clock: RedisClock

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.clock.step(0)  # shows the time anew
        self.start_us = self.highest_us = self.clock.us
        self.account = Account(self.client, self.clock, **LIMITS)
        self.now_s = 0.0
        self.stepped_s = -100.0
        self.emails = {email: Email() for email in EMAILS}
        self.jobs: dict[str, AttributeJob] = {}
        self.versions: dict[str, str] = {}
        """Of the jobs that left the inbox."""
        self.arrivals: list[int] = []
        self.held: list[Held] = []
        self.slow: list[tuple[Taken, AttributeJob]] = []
        """Jobs in the hands of workers that are slow to accept them."""
        self.settled: dict[str, Status] = {}
        self.replayed: Counter[str] = Counter()
        self.replayed_at: dict[str, int] = {}
        """How many claims there were before."""
        self.canceled: set[str] = set()
        self.forgotten: set[str] = set()
        """Jobs whose email was forgotten since."""

    # What happens.

    @initialize(asked=st.lists(ASKED, min_size=1, max_size=3))
    def some_jobs_wait(self, asked: list[Asked]) -> None:
        self.jobs_are_produced(asked, accepted=True)

    @rule(asked=st.lists(ASKED, min_size=1, max_size=2), accepted=st.booleans())
    def jobs_are_produced(self, asked: list[Asked], accepted: bool) -> None:
        for each in asked:
            job = AttributeJob(
                job_id=f"00000000-0000-7000-8000-{len(self.jobs):012}",
                email=each.email,
                attributes=tuple(
                    Attribute.of("Integer", value, key=key) for key, value in each.values.items()
                ),
                occurred_at=None
                if each.ago_s is None
                else self.clock.now - timedelta(seconds=each.ago_s),
                lane=each.lane,
                only_changed=each.only_changed,
            )
            self.jobs[job.job_id] = job
            self.account.put(job)
            self.account.put(job)  # redis-py asks again when an answer is lost
        if accepted:
            self._stage(self._take(100))

    @rule(limit=st.integers(1, 3), staged=st.integers(0, 3))
    def a_worker_takes_jobs_and_is_slow_with_some(self, limit: int, staged: int) -> None:
        taken = self._take(limit)
        self._stage(taken[:staged])
        self.slow += taken[staged:]

    @precondition(lambda self: self.slow)
    @rule(which=WHICH)
    def a_slow_worker_accepts_a_job(self, which: int) -> None:
        """Perhaps another one has done so since, or the job is settled."""
        slow = _chosen(self.slow, which)
        self.slow.remove(slow)
        self._stage([slow])

    @rule(
        after_s=st.sampled_from([0, 0, 0.5, 2, 5, 8]),
        waits=st.sampled_from([True, True, True, False]),
        sent=st.sampled_from([True, True, True, False]),
        meanwhile=st.lists(ASKED, max_size=1),
        answer=st.none() | ANSWER,
        shown=SHOWN,
        goes_on=st.booleans(),
    )
    def an_email_is_claimed(
        self,
        after_s: float,
        waits: bool,
        sent: bool,
        meanwhile: list[Asked],
        answer: Kind | None,
        shown: set[str],
        goes_on: bool,
    ) -> None:
        """A worker dies while it waits for its time, or claims; and perhaps gets its answer."""
        self._time_passes(after_s)
        held = self._claim(waits=waits, sent=sent)
        self.jobs_are_produced(meanwhile, accepted=True)
        if held and sent and answer:
            self._settle(held, answer, shown, goes_on)

    @precondition(lambda self: self._busy(sent=True))
    @rule(which=WHICH, answer=ANSWER, shown=SHOWN, goes_on=st.booleans())
    def an_answer_comes(
        self, which: int, answer: Kind | None, shown: set[str], goes_on: bool
    ) -> None:
        self._settle(_chosen(self._busy(sent=True), which), answer, shown, goes_on)

    @precondition(lambda self: self._busy(sent=False))
    @rule(which=WHICH)
    def a_claim_is_given_back(self, which: int) -> None:
        held = _chosen(self._busy(sent=False), which)
        held.given_back = True
        self._ends(held, self.account.boxes.give_back(held.claim))
        assert not self.account.boxes.give_back(held.claim), "given back twice"

    @precondition(lambda self: self._busy())
    @rule(which=WHICH)
    def a_worker_dies(self, which: int) -> None:
        _chosen(self._busy(), which).dropped = True

    @precondition(lambda self: self._under_way())
    @rule(which=WHICH)
    def a_request_arrives(self, which: int) -> None:
        """ChartMogul carries out what was sent, also if nobody waits for the answer any more."""
        held = _chosen(self._under_way(), which)
        self.emails[held.claim.email].carry_out(held)

    @rule(seconds=st.sampled_from([-20, 1.5, 40, 3600]))
    def the_clock_steps(self, seconds: float) -> None:
        """Arrivals keep their order through a step back of a minute; a step ahead shortens a lease
        a little, so there is one within a lease."""
        if seconds < 0:
            possible = self.clock.us / 1e6 + seconds > self.highest_us / 1e6 - 55
        else:
            possible = self.now_s - self.stepped_s > LEASE_S
            self.stepped_s = self.now_s if possible else self.stepped_s
        if possible:
            self.clock.step(seconds)
            self.highest_us = max(self.highest_us, self.clock.us)

    @rule()
    def nothing_is_found_that_was_lost(self) -> None:
        assert repair(self.client, KEYS, at_start=True) == Repaired()

    @precondition(lambda self: self._replayable())
    @rule(which=WHICH)
    def a_job_is_replayed(self, which: int) -> None:
        job_id = _chosen(self._replayable(), which)
        assert self.account.health.replay(job_id)
        assert self.account.health.replay(job_id), "the answer to the first call may be lost"
        del self.settled[job_id]
        self.replayed[job_id] += 1
        self.replayed_at[job_id] = len(self.held)

    @rule(which=st.integers(0, 5))
    def a_job_is_canceled(self, which: int) -> None:
        """One that may have been sent goes on, and says so."""
        job_id = _chosen(list(self.jobs), which)
        done = self.account.removal.cancel(job_id)
        again = self.account.removal.cancel(job_id)
        assert (again.result, again.outcome) == (done.result, done.outcome)
        claims = [
            held
            for held in self.held[self.replayed_at.get(job_id, 0) :]
            if held.carries(job_id) and not held.given_back
        ]
        if job_id in self.settled:
            assert done.result == ("canceled" if job_id in self.canceled else "settled")
        elif done.canceled:
            assert not [held for held in claims if held.arrived or held in self._under_way()]
            self.canceled.add(job_id)
        else:
            assert claims, "it was never sent"
            assert done.result in ("sending", "attempted")

    @rule(email=st.sampled_from(EMAILS))
    def an_email_is_forgotten(self, email: str) -> None:
        """A worker may hold its lease, or its job on the way from the inbox."""
        waiting = [
            job_id
            for job_id, job in self.jobs.items()
            if job.email == email and job_id not in self.settled
        ]
        done = self.account.removal.forget(email.upper())
        assert done.canceled == len(waiting)
        self.canceled.update(waiting)
        self.forgotten.update(job_id for job_id, job in self.jobs.items() if job.email == email)
        model = self.emails[email]
        model.forgotten_at = self.clock.now
        model.has = {key: ("", value) for key, (_, value) in model.has.items()}
        for held in self.held:
            held.forgotten |= held.claim.email == email
        self._holds_nothing_forgotten()

    def teardown(self) -> None:
        """From now on all goes well: each job is settled, and the newest has won."""
        for _ in range(300):
            self.account.health.resume()
            self._stage(self._take(100))
            if held := self._claim():
                self._settle(held, Kind.TAKEN, set(NAMES), goes_on=False)
            elif None not in (found := self._statuses()) and "pending" not in found:
                break
            else:
                self._time_passes(LOOK_S)
        else:
            raise AssertionError("it does not come to an end")
        self._time_passes(LEASE_S + 3)  # the request of a forgotten email has lost its place by now
        assert self._claim() is None  # forgets those who died while they waited
        self.nothing_is_lost()
        self.account.assert_nothing_is_left()
        counted = Counter(entry["job"] for _, entry in self.client.xrange(KEYS.outcomes))
        for job_id, job in self.jobs.items():
            assert counted[job_id] == 1 + self.replayed[job_id], "each end is noted once"
            self._stands(job, self.settled[job_id])

    def _stands(self, job: AttributeJob, status: Status) -> None:
        """What the status of a settled job says is true."""
        if status == "canceled" or job.job_id in self.forgotten:
            return
        version = self.versions[job.job_id]
        for attribute in job.attributes:
            replaced = any(
                self.versions.get(other.job_id, "") > version
                for other in self.jobs.values()
                if other.email == job.email and attribute.key in {a.key for a in other.attributes}
            )
            there = self.emails[job.email].has.get(attribute.key, ("", None))[1] == attribute.value
            assert replaced or (there if status in SUCCESSES else True), (job, status)

    # What must be true at any time.

    @invariant()
    def nothing_is_lost(self) -> None:
        for job_id, status in zip(self.jobs, self._statuses(), strict=True):
            assert status is not None, "a job is lost"
            assert self.settled.get(job_id, status) == status, "a settled job changes"
            if status != "pending":
                self.settled[job_id] = status
                assert (status == "canceled") == (job_id in self.canceled)

    def _holds_nothing_forgotten(self) -> None:
        """No key holds an email of which nothing came in since it was forgotten."""
        for email, model in self.emails.items():
            jobs = {job_id for job_id, job in self.jobs.items() if job.email == email}
            if model.forgotten_at is not None and jobs <= self.forgotten:
                assert holding(self.client, email) == {}

    # How it is done.

    def _time_passes(self, seconds: float) -> None:
        while seconds > 0:
            passed_s = min(seconds, LOOK_S)
            seconds -= passed_s
            self.now_s += passed_s
            self.clock.step(passed_s)
            self.account.health.look(0.001)
        self.highest_us = max(self.highest_us, self.clock.us)

    def _take(self, limit: int) -> list[tuple[Taken, AttributeJob]]:
        taken = self.account.inbox.take(limit=limit, within_s=5, bulk_share=0.1)
        return [(each, load_wire(each.job_id, each.wire)) for each in taken]

    def _stage(self, jobs: list[tuple[Taken, AttributeJob]]) -> None:
        for (taken, job), staged in zip(jobs, self.account.boxes.stage(jobs), strict=True):
            pending = job.job_id not in self.settled
            if job.job_id in self.versions and not self.replayed[job.job_id]:
                assert staged.result == "known"
            if staged.result == "known":
                continue
            forgotten_at = self.emails[job.email].forgotten_at
            late = None not in (forgotten_at, job.occurred_at) and job.occurred_at <= forgotten_at
            assert late == (staged.result == "forgotten"), "a late job is not known as one"
            if late:
                self.canceled.add(job.job_id)
                self.forgotten.add(job.job_id)
                continue
            assert pending, "a settled job is staged again"
            occurred = self.account.outcome(job).occurred_at
            assert occurred is not None
            if job.occurred_at is None:
                assert (occurred - EPOCH) // timedelta(microseconds=1) >= taken.arrived_us
            else:
                assert occurred == job.occurred_at
            at_us = (occurred - EPOCH) // timedelta(microseconds=1)
            self.versions[job.job_id] = f"{at_us:016}{job.job_id}"

    def _claim(self, *, waits: bool = True, sent: bool = True) -> Held | None:
        self.account.stints += 1
        stint = f"stint-{self.account.stints}"
        found = self.account.boxes.claim(stint)
        while isinstance(found, Wait) and waits:
            self._time_passes(found.wait_s)
            found = self.account.boxes.claim(stint, reserved=found.reserved)
        return self._claimed(found, sent=sent)

    def _claimed(self, found: Next, *, sent: bool = True) -> Held | None:
        if not isinstance(found, Claim):
            return None
        email = self.emails[found.email]
        lease = email.lease
        assert lease is None or self.now_s - lease.at_s >= SHORT_LEASE_S, "two leases"
        others = [held for held in self._under_way() if held.claim.email == found.email]
        assert not others, "two requests of one email"
        statuses = dict(zip(self.jobs, self._statuses(), strict=True))
        assert found.values
        assert {job.job_id for job in found.jobs} == {value.job_id for value in found.values}
        assert not self.canceled & {value.job_id for value in found.values}, (
            "a canceled value is sent"
        )
        for value in found.values:
            key = value.attribute.key
            assert value.version >= email.has.get(key, ("", None))[0], "an older value is sent"
            for job in self.jobs.values():
                if job.email == found.email and statuses[job.job_id] == "pending":
                    version = self.versions.get(job.job_id, "")
                    newer = version > value.version and key in {a.key for a in job.attributes}
                    assert not newer or job.job_id in self.account.in_inbox(), "a newer one waits"
        held = Held(claim=found, at_s=self.now_s, sent=sent)
        email.lease = held
        self.held.append(held)
        return held

    def _settle(self, held: Held, answer: Kind | None, shown: set[str], goes_on: bool) -> None:
        if answer is Kind.TAKEN and held in self._under_way():
            self.emails[held.claim.email].carry_out(held)
        if held.arrived is not (answer is Kind.TAKEN):
            answer = None  # any other answer would not be true
        verdict = self._verdict(held.claim, answer, shown)
        settlement = settle(
            verdict, held.claim, POLICY, reason="", jitter=lambda _, most: min(most, 4)
        )
        news = AccountNews(kind=verdict.kind)
        stint = f"stint-{held.claim.token}" if goes_on else None
        settled = self.account.boxes.settle(held.claim, settlement, news, stint=stint)
        held.may_act = held.may_act and verdict.may_still_act
        assert not (held.forgotten and settled.held), "what was forgotten is settled"
        self._ends(held, settled.held)
        if held.forgotten:
            self._holds_nothing_forgotten()
        if settled.next:
            self._claimed(settled.next)
        again = self.account.boxes.settle(held.claim, settlement, news, stint=None)
        assert not again.held, "settled twice"

    def _ends(self, held: Held, was_held: bool) -> None:
        """The claim is settled or given back, if its lease is still valid."""
        email = self.emails[held.claim.email]
        if held.forgotten:
            was_held = email.lease is held
        elif email.lease is not held:
            assert not was_held, "who lost the lease ends it"
        elif self.now_s - held.at_s < SHORT_LEASE_S:
            assert was_held, "a lease is lost before its time"
        if was_held:
            email.lease = None
        held.dropped = True

    def _verdict(self, claim: Claim, answer: Kind | None, shown: set[str]) -> Verdict:
        if answer is None:
            return Verdict(kind=Kind.SERVER, message="no answer in time", may_still_act=True)
        values = {v.attribute.key: v.attribute.value for v in claim.values}
        echo = {key: value for key, value in values.items() if key in shown}
        taken = answer is Kind.TAKEN
        return Verdict(kind=answer, http_status=200 if taken else 400, shown=(echo,) * taken)

    def _busy(self, *, sent: bool | None = None) -> list[Held]:
        """Claims in somebody's hands; those whose lease is valid last."""
        found = [held for held in self.held if not held.dropped and sent in (None, held.sent)]
        return sorted(found, key=lambda held: self.emails[held.claim.email].lease is held)

    def _under_way(self) -> list[Held]:
        """Requests that ChartMogul may still carry out."""
        return [
            held
            for held in self.held
            if held.sent and held.may_act and not held.arrived and self.now_s - held.at_s < ACTS_S
        ]

    def _statuses(self) -> list[Status | None]:
        return self.account.outcomes.statuses(list(self.jobs))

    def _replayable(self) -> list[str]:
        return [
            job
            for job, status in self.settled.items()
            if status in REPLAYABLE and job not in self.forgotten
        ]


def play(client: redis.Redis, clock: RedisClock, phases: Sequence[Phase], plays: int) -> None:
    run_state_machine_as_test(
        type("Play", (Play,), {"client": client, "clock": clock}),
        settings=settings(
            max_examples=plays,
            stateful_step_count=40,
            phases=phases,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.long
@pytest.mark.timeout(900)  # to find the shortest play that shows a defect takes some minutes
def test_the_promises_hold_in_any_order(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(client, on_test_time(client, monkeypatch), tuple(Phase), PLAYS)


def test_who_died_while_it_waited_holds_up_no_other_stint(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim asks for one more stint where nobody waits; the dead do not wait."""
    account = Account(client, on_test_time(client, monkeypatch), rate_limit=5)
    for n in range(9):
        account.staged(f"n{n}@example.com", plan="pro")
    found = [account.boxes.claim(f"stint-{n}") for n in range(4)]
    assert isinstance(found[-1], Wait)
    account.clock.time_passes(3)
    assert account.claim().ask


def test_a_job_that_was_refused_in_part_is_replayed_as_a_whole(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the refused request had no room for is not lost."""
    account = Account(client, on_test_time(client, monkeypatch), max_attributes=2)
    job = account.staged(age=1, plan="pro", seats=3)
    refusal = Verdict(kind=Kind.CONTENT, http_status=422)
    claim = account.claim()
    account.carry_out(claim, settle(refusal, claim, POLICY, reason=""), "content")
    assert account.status(job) == "refused"
    assert account.health.replay(job.job_id)
    (taken,) = account.inbox.take(limit=9, within_s=60, bulk_share=0.1)
    again = load_wire(taken.job_id, taken.wire)
    assert {each.key: each.value for each in again.attributes} == {
        "age": 1,
        "plan": "pro",
        "seats": 3,
    }


BROKEN = {
    "an older value replaces a newer one": ("older.version < version", "true"),
    "an older value follows a delivered one": (
        "string.sub(seen, 1, VERSION) <= version",
        "true",
    ),
    "a job in flight is settled twice": ("content.left <= 0 and not leased", "content.left <= 0"),
    "a value that came meanwhile leaves with the older": (
        "for _, name in ipairs(job.keys) do\n      if result.status ~= 'pending'",
        "for name in pairs(box.values) do\n      if result.status ~= 'pending'",
    ),
    "a mailbox is due while it is leased": ("elseif not leased and", "elseif"),
    "who lost the lease settles": ("box.state.lease == arg.token", "true"),
    "who lost the lease gives it back": ("'@lease') ~= arg.token", "'@lease') == ''"),
    "a lost request is not waited for": (
        "rest = arg.rest_us > 0 and now.account + arg.rest_us or 0",
        "rest = 0",
    ),
    "a dead worker's lease lasts": (
        "redis.call('HDEL', key('mailbox:' .. mailbox), '@lease')\n    make_due(mailbox, 0)",
        "",
    ),
    "what was taken is forgotten": ("note_email(value.key, value.version .. value.took)", ""),
    "what was not seen is unchanged": (
        "string.sub(seen, VERSION + 1) == attribute.digest",
        "true",
    ),
    "a job in part is settled": ("unsent > 0\n", "false\n"),
    "taken jobs of a dead worker stay taken": (
        "redis.call('ZADD', key('inbox:' .. lane), arrival, job)",
        "",
    ),
    "a settled job is staged again": (
        "key('job:' .. arg.job), key('outcome:' .. arg.job)",
        "key('none')",
    ),
    "a canceled value is sent": ("'#' .. job.number, unpack(job.keys))", "'#' .. job.number)"),
    "what is being sent is canceled": (
        "if job and leased and string.find(box.state.sending or '', job.version, 1, true) then",
        "if false then",
    ),
    "what a dead worker sent is canceled": (
        "if string.find(box.state.sending or '', job.version, 1, true) then\n    return true",
        "if false then\n    return true",
    ),
    "what was sent before a 429 is canceled": (
        "if content and string.sub(content, 1, VERSION) == job.version then",
        "if false then",
    ),
    "a canceled job is staged": ("ZREM', key('inbox:bulk'), job)\n", "ZREM', 'x', job)\n"),
    "an answer brings back what was forgotten": ("token or FORGOTTEN .. leased", "token or leased"),
    "what was forgotten lets the next one go": ("  leave_place(arg.mailbox)\n", ""),
    "a request under way is not waited for": (
        "'@lease', token)",
        "'@lease', token); redis.call('ZREM', key('leases'), arg.mailbox)",
    ),
    "the end of a forgotten request ends no lease": ("  end_forgotten(box)\n", ""),
    "a late job brings an email back": ("arg.occurred <= forgotten", "false"),
    "who waited and died is remembered": ("text(now.account - DEAD_US)", "'-inf'"),
}


@pytest.mark.skipif("MODEL_PLAYS" not in os.environ, reason="takes a minute: set MODEL_PLAYS")
@pytest.mark.parametrize("rule_broken", BROKEN)
def test_a_broken_rule_is_noticed(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, rule_broken: str
) -> None:
    text, other = BROKEN[rule_broken]
    assert any(text in scripts.source(name) for name in SCRIPTS)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        clock = on_test_time(client, monkeypatch, broken=(text, other))
        with pytest.raises(AssertionError):
            play(client, clock, [Phase.generate], 2000)
