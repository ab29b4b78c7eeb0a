"""What holds an account back, at the level of the scripts."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import redis

from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.state.account import CIRCUIT_OPENS_AT, AccountHealth
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import (
    Claim,
    Departure,
    JobResult,
    Lease,
    Mailboxes,
    Settlement,
)
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.state.replay import Replay
from attribute_courier.worker.verdicts import Kind, Verdict

KEYS = Keys("default")


class Account:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.boxes = Mailboxes(client, KEYS, lease_s=60, retention_s=1000, rate_limit=10_000)
        self.weather = AccountHealth(client, KEYS, rate_limit=1000, probe_delays_s=(60, 120))
        self.outcomes = Outcomes(client, KEYS)

    def leases(self, count: int) -> list[Lease]:
        for n in range(count):
            job = AttributeJob(
                job_id=new_job_id(),
                email=f"{n}@example.com",
                attributes=(Attribute.of("Integer", n, key="n"),),
                occurred_at=self.outcomes.now(),
            )
            assert self.boxes.stage([job]) == [("staged", "")]
        return self.boxes.release(max_parallel=count)[0]

    def claim(self, lease: Lease) -> Claim:
        claim = self.boxes.claim(lease.mailbox_id, lease.token)
        assert isinstance(claim, Claim)
        return claim

    def observe(self, kind: Kind, retry_after_s: float | None = None) -> bool:
        verdict = Verdict(kind=kind, http_status=1, retry_after_s=retry_after_s)
        now = self.outcomes.now().timestamp() * 1e6
        return self.weather.observe_call(verdict, claimed_us=int(now), reason="why")()

    def end(self, claim: Claim, status: str) -> None:
        document = json.dumps({"v": 1})
        results = tuple(
            JobResult(job_id=job.job_id, status=status, fields={"document": document})  # type: ignore[arg-type]
            for job in claim.jobs
        )
        assert self.boxes.settle_call(claim, Settlement(jobs=results))() is not None


@pytest.fixture
def account(client: redis.Redis) -> Account:
    return Account(client)


@pytest.mark.parametrize("kind", [Kind.ACCOUNT, Kind.PACE])
def test_what_is_leased_when_the_account_is_held_goes_back(account: Account, kind: Kind) -> None:
    first, second = account.leases(2)
    account.claim(first)
    account.observe(kind, retry_after_s=30)
    assert account.boxes.claim(second.mailbox_id, second.token) is None
    assert account.weather.status().live.due == 1
    assert account.boxes.release(max_parallel=20)[0] == []


def test_leases_do_not_run_past_a_circuit_that_opens(account: Account) -> None:
    """Else each of them counts as a probe that failed, and the next one is a minute away."""
    leases = account.leases(CIRCUIT_OPENS_AT + 5)
    for lease in leases[:CIRCUIT_OPENS_AT]:
        account.claim(lease)
        account.observe(Kind.SERVER)
    late = leases[CIRCUIT_OPENS_AT]
    assert account.boxes.claim(late.mailbox_id, late.token) is None
    circuit = account.weather.status().circuit
    assert circuit is not None
    assert (circuit.next_probe_at - circuit.opened_at).total_seconds() < 1.5
    account.observe(Kind.TAKEN)
    assert account.weather.status().circuit is None


def test_a_pause_is_told_once(account: Account) -> None:
    assert account.observe(Kind.ACCOUNT)
    assert not account.observe(Kind.ACCOUNT)


def test_one_caller_probes(account: Account) -> None:
    account.observe(Kind.ACCOUNT)
    assert not account.weather.probe_is_due(), "not yet"
    account.client.hset(KEYS.prefix + "pause", "probe", 1)
    assert account.weather.probe_is_due()
    assert not account.weather.probe_is_due()


def test_only_an_operator_ends_an_operators_pause(account: Account) -> None:
    account.weather.pause("moving house")
    assert not account.weather.resume_after_probe()
    assert not account.weather.probe_is_due()
    assert account.weather.status().state == "paused"
    assert account.weather.resume()
    assert account.weather.status().state == "running"


def test_resume_tells_whether_anything_was_held(account: Account) -> None:
    assert not account.weather.resume()
    account.observe(Kind.SERVER)
    assert not account.weather.resume(), "one failure holds nothing"
    account.observe(Kind.PACE, retry_after_s=30)
    assert account.weather.status().state == "held"
    assert account.weather.resume()
    assert account.weather.status().state == "running"


def test_a_429_of_the_same_crowd_counts_for_nothing(account: Account) -> None:
    now = int(account.outcomes.now().timestamp() * 1e6)
    verdict = Verdict(kind=Kind.PACE, http_status=429)
    for _ in range(20):
        account.weather.observe_call(verdict, claimed_us=now, reason="")()
    assert account.weather.status().rate == 1000


def test_a_replayed_job_is_listed_once_and_as_it_stands_now(account: Account) -> None:
    (lease,) = account.leases(1)
    claim = account.claim(lease)
    job_id = claim.jobs[0].job_id
    account.end(claim, "failed")
    replay = Replay(account.client, KEYS)
    assert replay.job(job_id)
    assert replay.job(job_id), "the same call again, whose answer was lost"
    assert account.outcomes.recent(statuses=("failed",)) == []
    assert account.boxes.reject(job_id, "a later end")
    assert [each.status for each in account.outcomes.recent()] == ["invalid"]
    assert not replay.job(job_id), "nor is that one replayed"


def test_requests_leave_at_their_distance_whatever_crowds_before(client: redis.Redis) -> None:
    weather = AccountHealth(client, KEYS, rate_limit=10, probe_delays_s=(60,))
    planned = [_planned(weather).at_us for _ in range(5)]
    assert all(later - earlier >= 0.8e6 / 10 for earlier, later in pairwise(planned))


def test_no_request_leaves_before_its_time(client: redis.Redis) -> None:
    """By Redis's clock, which runs on while this machine is busy: late is no failure."""
    weather = AccountHealth(client, KEYS, rate_limit=10, probe_delays_s=(60,))
    for _ in range(3):
        planned = _planned(weather)
        with weather.departing(planned)():
            left_us = _now_us(client)
        assert left_us >= planned.at_us


def test_no_more_leave_in_a_second_than_are_allowed(client: redis.Redis) -> None:
    """A little over a second, for one more than in a second: after a gap they catch up."""
    weather = AccountHealth(client, KEYS, rate_limit=50, probe_delays_s=(60,))
    planned = [_planned(weather).at_us for _ in range(80)]
    assert all(b - a >= 0.8e6 / 50 for a, b in pairwise(planned))
    assert all(b - a >= 1e6 for a, b in zip(planned, planned[51:], strict=False))
    assert any(b - a < 1e6 / 50 for a, b in pairwise(planned))


def test_a_late_request_is_counted_when_it_left(client: redis.Redis) -> None:
    weather = AccountHealth(client, KEYS, rate_limit=1, probe_delays_s=(60,))
    planned = _planned(weather)
    with weather.departing(planned)():
        time.sleep(0.5)
    (counted_us,) = _sent(client)
    assert counted_us - planned.at_us >= 500_000
    assert _planned(weather).at_us - counted_us >= 800_000


def test_a_request_whose_time_has_passed_is_planned_anew(client: redis.Redis) -> None:
    """After a pause of the whole process, those that wait would all leave at once."""
    weather = AccountHealth(client, KEYS, rate_limit=5, probe_delays_s=(60,))
    # More than are looked at: none is forgotten for those that are counted anew.
    waiting = [_planned(weather) for _ in range(8)]
    newly_planned_us = []
    for planned in waiting:
        passed = replace(planned, asked_s=planned.asked_s - 9, answered_s=planned.answered_s - 9)
        asked_us = _now_us(client)
        with weather.departing(passed)():
            newly_planned_us.append(_sent(client)[0])
            assert asked_us <= newly_planned_us[-1] <= _now_us(client)
    assert len(_sent(client)) == len(waiting), "each is counted once"
    assert all(b - a >= 0.8e6 / 5 for a, b in pairwise(newly_planned_us))
    assert newly_planned_us[6] - newly_planned_us[0] >= 1e6


def test_without_redis_requests_leave_as_they_were_planned(client: redis.Redis) -> None:
    weather = AccountHealth(client, KEYS, rate_limit=1, probe_delays_s=(60,))
    planned = _planned(weather)
    gone = redis.Redis(port=1, socket_connect_timeout=0.1)
    weather = AccountHealth(gone, KEYS, rate_limit=1, probe_delays_s=(60,))
    with weather.departing(planned)():
        pass


def _planned(weather: AccountHealth) -> Departure:
    """As a claim plans it."""
    return weather._planned_anew(Departure(at_us=0, wait_s=0, asked_s=0, answered_s=0))


def _sent(client: redis.Redis) -> list[int]:
    return [int(at) for at in client.lrange(KEYS.prefix + "sent", 0, -1)]  # type: ignore[union-attr]


def _now_us(client: redis.Redis) -> int:
    seconds, microseconds = client.time()  # type: ignore[misc]
    return int(seconds * 1_000_000 + microseconds)
