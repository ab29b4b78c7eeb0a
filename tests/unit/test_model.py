"""The transitions of `worker/lua`, in any order, beside a model of what an email's state must be.

Hypothesis plays producers, workers that die, ChartMogul and the clock. `make test` takes some
seconds for it; a longer run, with as many plays as wanted on each of the two servers:

    MODEL_PLAYS=20000 make test ARGS="--timeout 0 tests/unit/test_model.py"
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
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
from attribute_courier.jobs.job import EPOCH, VERSION_LENGTH, AttributeJob, Lane, mailbox_id_of
from attribute_courier.jobs.outcome import REPLAYABLE, SUCCESSES, Status
from attribute_courier.jobs.schema import dump_wire, load_wire
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import (
    TRANSIT_S,
    Claim,
    Early,
    Lease,
    Mailboxes,
    Settlement,
    Staged,
)
from attribute_courier.state.replay import Replay
from attribute_courier.state.scripts import load_script
from attribute_courier.worker.chartmogul import Answer, NoAnswer
from attribute_courier.worker.settlement import Policy, settle
from attribute_courier.worker.verdicts import Verdict, judge

PLAYS = int(os.environ.get("MODEL_PLAYS", "40"))
KEYS = Keys("default")
EMAILS = ["ada@example.com", "bob@example.com"]
NAMES = ["age", "plan"]
START_US = 1_772_357_400_000_000
RETENTION_S = 1000
POLICY = Policy(
    confirm="echo",
    unmatched_delays_s=(300,),
    unconfirmed_delays_s=(60,),
    give_up_after_s=5,
    timeout_s=10,
)
LOST_S = 20
"""How long a request may act, twice the timeout."""
LEASE_S = 25
LASTING = {"inbox", "inbox:live", "inbox:bulk", "due:live", "due:bulk", "inflight", "leases"}
CAPPED = {"outcomes", "types"}
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What a job asks for."""

    email: str
    after_us: int
    values: dict[str, int]
    lane: Lane
    only_changed: bool


ASKED = st.builds(
    Asked,
    email=st.sampled_from(EMAILS),
    after_us=st.integers(0, 9),
    values=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1), min_size=1),
    lane=st.sampled_from(["live", "bulk"]),
    only_changed=st.booleans(),
)
WHICH = st.sampled_from([0, 0, 0, 0, 1, 2, 3])
"""Which of those that there are, from the latest back."""
STATUS = st.sampled_from([None, None, 200, 200, 200, 401, 404, 422, 422, 422, 429, 500])
"""Of ChartMogul's answer; None where there is none."""
SHOWN = st.just(set(NAMES)) | st.sets(st.sampled_from(NAMES))
"""Which values its answer shows."""


def _chosen(those: Sequence[T], which: int) -> T:
    return those[-1 - which % len(those)]


@dataclass
class Held:
    """A lease in a worker's hands, and the request that was made under it."""

    lease: Lease
    ends_us: int
    claim: Claim | None = None
    dropped: bool = False
    """Whether the worker has done with it, or died, or the message was lost."""
    arrived: bool = False
    """Whether ChartMogul has carried the request out."""
    acts_until_us: int = 0
    """Until when it still may."""


@dataclass
class Email:
    """The model: what must be true of one email."""

    waiting: dict[str, str] = field(default_factory=dict)
    """Attribute → version of its newest value that is neither delivered nor given up."""
    taken: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Attribute → version that ChartMogul took last, and the value if its answer showed it."""
    has: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """Attribute → version and value that ChartMogul has."""
    sending: dict[str, str] = field(default_factory=dict)
    """Attribute → version that was sent and is not judged: ChartMogul may have taken it."""
    lease: Held | None = None
    alone: bool = False
    """Whether the jobs are tried one by one."""

    def stage(self, job: AttributeJob) -> Staged:
        newest = [
            each
            for each in job.attributes
            if job.version > self.waiting.get(each.key, "")
            and job.version >= self.taken.get(each.key, ("", None))[0]
        ]
        unchanged = [
            each
            for each in newest
            if job.only_changed
            and each.key not in self.waiting
            and self.taken.get(each.key, ("", None))[1] == each.value
        ]
        for each in newest:
            if each in unchanged:
                assert self.has[each.key][1] == each.value, "it is there, if that is said"
                self.taken[each.key] = (job.version, each.value)
            else:
                self.waiting[each.key] = job.version
        if len(unchanged) == len(job.attributes):
            return "unchanged"
        return "staged" if len(newest) > len(unchanged) else "superseded"

    def to_send(self) -> dict[str, str]:
        oldest = min(self.waiting.values())
        return {
            key: version
            for key, version in self.waiting.items()
            if version == oldest or not self.alone
        }

    def send(self, claim: Claim) -> None:
        assert {v.attribute.key: v.version for v in claim.values} == self.to_send()
        assert {job.job_id for job in claim.jobs} == {value.job_id for value in claim.values}
        self.taken |= {key: (version, None) for key, version in self.sending.items()}
        self.sending = self.to_send()

    def arrive(self, held: Held) -> None:
        assert held.claim
        for value in held.claim.values:
            older, _ = self.has.get(value.attribute.key, ("", None))
            assert value.version >= older, "an older value is put over a newer one"
            self.has[value.attribute.key] = (value.version, value.attribute.value)
        held.arrived = True

    def settle(self, claim: Claim, settlement: Settlement) -> None:
        for value in claim.values:
            key = value.attribute.key
            if key in settlement.taken | settlement.seen:
                shown = value.attribute.value if key in settlement.seen else None
                self.taken[key] = (value.version, shown)
        ended = {job.job_id for job in settlement.jobs if job.status != "pending"}
        self.waiting = {
            key: version for key, version in self.waiting.items() if version[16:] not in ended
        }
        self.alone = bool(self.waiting) and (self.alone or settlement.alone)
        self.lease = None
        self.sending = {}


class Play(RuleBasedStateMachine):
    """Everybody who takes part, in any order, and the model beside them."""

    client: Any  # set by `play`

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.now_us = START_US
        self.enqueue = load_script(self.client, "attribute_courier.producers", "enqueue.lua")
        self.boxes = Mailboxes(
            self.client, KEYS, lease_s=LEASE_S, retention_s=RETENTION_S, rate_limit=2
        )
        self.weather = AccountHealth(self.client, KEYS, rate_limit=1000, probe_delays_s=(60,))
        self.replays = Replay(self.client, KEYS)
        self.paused = False
        self._time_passes(0)
        self.emails = {email: Email() for email in EMAILS}
        self.jobs: dict[str, AttributeJob] = {}
        self.held: list[Held] = []
        self.known: set[str] = set()
        """Jobs that are staged or have ended."""
        self.ends: dict[str, Status] = {}
        """What became of jobs, but for those that were superseded while they waited."""
        self.replayed: Counter[str] = Counter()

    # What happens.

    @initialize(asked=st.lists(ASKED, min_size=1, max_size=3))
    def some_jobs_wait(self, asked: list[Asked]) -> None:
        self.jobs_are_produced(asked, accepted=True, again=None)

    @rule(
        asked=st.lists(ASKED, min_size=1, max_size=2),
        accepted=st.booleans(),
        again=st.none() | WHICH,
    )
    def jobs_are_produced(self, asked: list[Asked], accepted: bool, again: int | None) -> None:
        """And an earlier one comes again: an answer was lost, or another worker was slow."""
        for each in asked:
            job = AttributeJob(
                job_id=f"00000000-0000-7000-8000-{len(self.jobs):012}",
                email=each.email,
                attributes=tuple(
                    Attribute.of("Integer", value, key=key) for key, value in each.values.items()
                ),
                occurred_at=EPOCH + timedelta(microseconds=START_US + each.after_us),
                lane=each.lane,
                only_changed=each.only_changed,
            )
            self.jobs[job.job_id] = job
            assert self._enqueue(job)[1:] == []
        if accepted:
            self._stage(self._take(100))
        if again is not None:
            job = _chosen(list(self.jobs.values()), again)
            assert self._enqueue(job) == [0, 0, job.job_id]
            self._stage([job])

    @precondition(lambda self: len(self.jobs) > len(self.known))
    @rule(limit=st.integers(1, 3), staged=st.integers(0, 3))
    def a_worker_takes_jobs_and_may_die_before_all_are_staged(
        self, limit: int, staged: int
    ) -> None:
        self._stage(self._take(limit)[:staged])

    @rule(
        after_s=st.sampled_from([0, 0, 1, 6, 11, 21, 26, 61, 301]),
        limit=st.integers(1, 3),
        then=st.sampled_from(["", "claimed", "answered", "answered"]),
        meanwhile=st.lists(ASKED, max_size=1),
        status=STATUS,
        shown=SHOWN,
        paused=st.sampled_from([False, False, False, True]),
    )
    def due_emails_are_released(
        self,
        after_s: int,
        limit: int,
        then: str,
        meanwhile: list[Asked],
        status: int | None,
        shown: set[str],
        paused: bool,
    ) -> None:
        """After some time; then more jobs come in, and the account may be paused until the next."""
        self._time_passes(after_s)
        self._pause(False)
        claimed = [held for held in self._release(limit)[0] if then and self._claim(held)]
        self.jobs_are_produced(meanwhile, accepted=True, again=None)
        for held in claimed if then == "answered" else []:
            self._settle(held, status, shown)
        self._pause(paused)

    @precondition(lambda self: self._busy())
    @rule(
        which=WHICH,
        how=st.sampled_from(["", "", "", "dies"]),
        status=STATUS,
        shown=SHOWN,
    )
    def a_worker_goes_on_or_dies(
        self, which: int, how: str, status: int | None, shown: set[str]
    ) -> None:
        held = _chosen(self._busy(), which)
        if how == "dies":
            held.dropped = True
        elif held.claim:
            self._settle(held, status, shown)
        else:
            self._claim(held)

    @precondition(lambda self: self._sent())
    @rule(which=WHICH)
    def a_request_arrives(self, which: int) -> None:
        """ChartMogul carries out what was sent, also if nobody waits for the answer any more."""
        held = _chosen(self._sent(), which)
        self.emails[held.lease.email].arrive(held)

    @precondition(lambda self: not set(REPLAYABLE).isdisjoint(self.ends.values()))
    @rule(which=WHICH)
    def a_job_is_replayed(self, which: int) -> None:
        job_id = _chosen([job for job, end in self.ends.items() if end in REPLAYABLE], which)
        assert self.replays.job(job_id)
        assert self.replays.job(job_id), "the answer to the first call may be lost"
        self.known.remove(job_id)
        del self.ends[job_id]
        self.replayed[job_id] += 1

    def teardown(self) -> None:
        """From now on all goes well: each job comes to its one end, and the newest has won."""
        self._pause(False)
        for _ in range(50):
            self._stage(self._take(100))
            leases, again_s = self._release(100)
            for held in leases:
                self._claim(held)
                self._settle(held, 200, set(NAMES))
            waiting = self.client.exists(KEYS.inbox)
            if again_s is None and not waiting:
                break
            self._time_passes(5 if waiting else int(again_s or 0) + 1)
        else:
            raise AssertionError("it does not come to an end")

        self.all_is_well()
        assert not self.client.exists(*[KEYS.prefix + name for name in LASTING])
        counted = Counter(entry["job"] for _, entry in self.client.xrange(KEYS.outcomes))
        newest = self._newest()
        for job_id, job in self.jobs.items():
            status = self._status(job_id)
            assert counted[job_id] == 1 + self.replayed[job_id], "each end is noted once"
            assert status == self.ends.get(job_id, "superseded")
            for each in job.attributes:
                replaced = newest[job.email, each.key].version > job.version
                there = self.emails[job.email].has.get(each.key, ("", None))[1] == each.value
                assert replaced or there or status not in SUCCESSES

    # What must be true at any time.

    @invariant()
    def all_is_well(self) -> None:
        assert set(self.client.hkeys(KEYS.inbox)) == self.jobs.keys() - self.known
        state = self.client.pipeline(transaction=False)
        for email in self.emails:
            state.hgetall(KEYS.mailbox(mailbox_id_of(email)))
        names = self.client.keys(KEYS.prefix + "*")
        for name in names:
            state.pttl(name)
        answers = state.execute()
        for model in self.emails.values():
            self._mailbox_holds_and_counts_the_newest_values(model, answers.pop(0))
        self._only_what_waits_lasts(dict(zip(names, answers, strict=True)))

    def _mailbox_holds_and_counts_the_newest_values(
        self, model: Email, box: dict[str, str]
    ) -> None:
        entries = {name[1:]: entry for name, entry in box.items() if name[0] == "#"}
        numbers = {key: box[key].partition("[")[0] for key in NAMES if key in box}
        versions = {key: entries[number][:VERSION_LENGTH] for key, number in numbers.items()}
        assert versions == model.waiting
        counted = Counter(numbers.values())
        for number, entry in entries.items():
            assert int(entry[VERSION_LENGTH:]) == counted[number]

    def _only_what_waits_lasts(self, lives_ms: dict[str, int]) -> None:
        lasting = LASTING | CAPPED | ({"pause"} if self.paused else set())
        for email, model in self.emails.items():
            lasting |= {f"mailbox:{mailbox_id_of(email)}"} if model.waiting else set()
            lasting |= {f"sending:{mailbox_id_of(email)}"} if model.sending else set()
        for name, lives in lives_ms.items():
            short = name.removeprefix(KEYS.prefix)
            pending = short.startswith("outcome:") and not self._status(short.partition(":")[2])
            assert (lives < 0) is (pending or short in lasting), name

    # How it is done.

    def _time_passes(self, seconds: float) -> None:
        self.now_us += round(seconds * 1_000_000)
        self.client.set("clock", self.now_us)

    def _pause(self, paused: bool) -> None:
        if paused and not self.paused:
            self.weather.pause("for the test")
        if self.paused and not paused:
            self.weather.resume()
        self.paused = paused

    def _enqueue(self, job: AttributeJob) -> list[Any]:
        args = [job.lane, RETENTION_S, job.job_id, dump_wire(job), ""]
        answer: list[Any] = self.enqueue(keys=[KEYS.prefix], args=args)
        return answer

    def _take(self, limit: int) -> list[AttributeJob]:
        return [load_wire(*taken) for taken in self.boxes.take(limit=limit, within_s=5)]

    def _stage(self, jobs: list[AttributeJob]) -> None:
        for job, (answer, _) in zip(jobs, self.boxes.stage(jobs), strict=True):
            if job.job_id in self.known:
                assert answer == "known"
                continue
            self.known.add(job.job_id)
            assert answer == self.emails[job.email].stage(job)
            if answer == "superseded" or answer == "unchanged":
                self.ends[job.job_id] = answer

    def _release(self, limit: int) -> tuple[list[Held], float | None]:
        leases, again_s = self.boxes.release(max_parallel=limit)
        released = []
        for email in self.emails.values():
            if email.lease and email.lease.ends_us <= self.now_us:
                email.lease = None
        for lease in leases:
            email = self.emails[lease.email]
            assert not self.paused
            assert not email.lease, "two leases of one email"
            assert lease.attributes == len(email.waiting)
            slot_us = int(lease.token.partition("@")[2])
            assert 0 <= slot_us - self.now_us <= 2_000_000
            email.lease = Held(lease, slot_us + TRANSIT_S * 1_000_000)
            released.append(email.lease)
        if leases:
            assert sum(bool(email.lease) for email in self.emails.values()) <= limit
        self.held += released
        return released, again_s

    def _claim(self, held: Held) -> bool:
        claim = self.boxes.claim(held.lease.mailbox_id, held.lease.token)
        if isinstance(claim, Early):
            assert self.emails[held.lease.email].lease is held, "a lease is used after its end"
            self._time_passes(claim.wait_s)
            claim = self.boxes.claim(held.lease.mailbox_id, held.lease.token)
        assert self.boxes.claim(held.lease.mailbox_id, held.lease.token) is None, "claimed twice"
        if not self._may_be_used(held):
            assert claim is None, "a lease is used after its end"
            return False
        email = self.emails[held.lease.email]
        assert isinstance(claim, Claim)
        email.send(claim)
        others = [other for other in self._sent() if other.lease.email == claim.email]
        assert not others, "two requests of one email"
        held.claim = claim
        held.ends_us = self.now_us + LEASE_S * 1_000_000
        held.acts_until_us = self.now_us + LOST_S * 1_000_000
        return True

    def _may_be_used(self, held: Held) -> bool:
        email = self.emails[held.lease.email]
        if email.lease is held and self.paused:
            email.lease = None  # it is given back
        held.dropped = held.dropped or email.lease is not held
        return email.lease is held

    def _settle(self, held: Held, status: int | None, shown: set[str]) -> None:
        claim, email = held.claim, self.emails[held.lease.email]
        assert claim
        if status == 200 and held in self._sent():
            email.arrive(held)
        elif status == 200 and not held.arrived:
            shown = set()
        elif held.arrived and status != 200:
            status = None  # any other answer would not be true
        verdict = self._verdict(claim, status, shown)
        settlement = settle(verdict, claim, POLICY, jitter=lambda _, most: most)
        settle_it = self.boxes.settle_call(claim, settlement)
        assert (settle_it() is not None) is (email.lease is held)
        assert settle_it() is None, "settled twice"
        if email.lease is held:
            email.settle(claim, settlement)
            ends = {job.job_id: job.status for job in settlement.jobs if job.status != "pending"}
            self.ends |= ends
        held.dropped = True
        if not verdict.may_still_act:
            held.acts_until_us = 0

    def _verdict(self, claim: Claim, status: int | None, shown: set[str]) -> Verdict:
        if status is None:
            return judge(NoAnswer(reason="no answer in time", sent=True))
        echo = {
            value.attribute.key: value.attribute.value
            for value in claim.values
            if value.attribute.key in shown
        }
        body = {"entries": [{"attributes": {"custom": echo}}]} if status == 200 else {}
        return judge(Answer(status=status, body=json.dumps(body).encode()))

    def _busy(self) -> list[Held]:
        """Leases in somebody's hands; those that are valid last."""
        found = [held for held in self.held if not held.dropped]
        return sorted(found, key=lambda held: self.emails[held.lease.email].lease is held)

    def _sent(self) -> list[Held]:
        """Requests that ChartMogul may still carry out."""
        return [h for h in self.held if not h.arrived and h.acts_until_us > self.now_us]

    def _status(self, job_id: str) -> str | None:
        status: str | None = self.client.hget(KEYS.outcome(job_id), "status")
        return status

    def _newest(self) -> dict[tuple[str, str], AttributeJob]:
        found: dict[tuple[str, str], AttributeJob] = {}
        for job in sorted(self.jobs.values(), key=lambda job: job.version):
            found |= {(job.email, each.key): job for each in job.attributes}
        return found


def on_test_time(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, broken: tuple[str, str] = ("", "")
) -> None:
    """Let scripts take the time, in microseconds, from the key `clock`; perhaps break a rule."""
    register = client.register_script

    def registered(script: str) -> Any:
        script = script.replace("redis.call('TIME')", "{ 0, redis.call('GET', 'clock') }")
        return register(script.replace(*broken) if broken[0] else script)

    monkeypatch.setattr(client, "register_script", registered)


def play(client: redis.Redis, plays: int, phases: Sequence[Phase] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        type("Play", (Play,), {"client": client}),
        settings=settings(
            max_examples=plays,
            stateful_step_count=40,
            phases=phases,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.timeout(900)  # to find the shortest play that shows a defect takes some minutes
def test_the_promises_hold_in_any_order(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_test_time(client, monkeypatch)
    play(client, PLAYS)


def test_what_was_sent_and_never_judged_lets_nothing_older_follow(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ChartMogul took it, its worker died, and the second try was refused."""
    on_test_time(client, monkeypatch)
    scene = type("Scene", (Play,), {"client": client})()
    newer, older = (
        Asked(EMAILS[0], after_us, {"age": after_us}, "live", False) for after_us in (2, 1)
    )
    scene.some_jobs_wait([newer])
    (held,), _ = scene._release(1)
    scene._claim(held)
    scene.a_request_arrives(which=0)
    scene._time_passes(LEASE_S + 1)
    (held,), _ = scene._release(1)
    scene._claim(held)
    scene._settle(held, 422, set())
    scene.some_jobs_wait([older])
    assert set(scene.ends.values()) == {"refused", "superseded"}
    scene.teardown()


BROKEN = {
    "an older value replaces a newer one": ("version_of(entry) < version", "version ~= ''"),
    "an older value follows a delivered one": ("version_of(seen) <= version", "true"),
    "a job in flight ends twice": ("left == 0 and not in_flight", "left == 0"),
    "a newer value goes with the older": (
        "content and number_of(content) == numbers[job]",
        "content",
    ),
    "a mailbox is due while it is leased": ("if not lease then", "if true then"),
    "a lease is claimed twice": ("redis.call('HSET', key('leases'), mailbox, token .. '!')", ""),
    "who lost the lease settles": ("~= token .. '!' then", "== '' then"),
    "a lost request is not waited for": ("at = math.max(at, rest_until)", ""),
    "refused jobs are not tried alone": ("if ARGV[7] == '1' then", "if false then"),
    "a dead worker's lease lasts": ("'ZRANGEBYSCORE', key('inflight'), '-inf', now", "'KEYS', ''"),
    "a dead worker's request is forgotten": (
        "unjudged[i], unjudged[i + 1] .. '-'",
        "'none', ''",
    ),
    "what was not seen is unchanged": ("value.version .. value.digest)", "value.version .. 'x')"),
    "an outcome lasts": ("redis.call('EXPIRE', outcome, retention)", ""),
}


@pytest.mark.skipif("MODEL_PLAYS" not in os.environ, reason="takes a minute: set MODEL_PLAYS")
@pytest.mark.parametrize("rule_broken", BROKEN)
def test_a_broken_rule_is_noticed(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, rule_broken: str
) -> None:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        on_test_time(client, monkeypatch, BROKEN[rule_broken])
        with pytest.raises(AssertionError):
            play(client, 2000, [Phase.generate])
