"""Promise 12: a step of Redis's clock is a hiccup."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from attribute_courier.state import clock as clock_module
from attribute_courier.state.claims import Claim, JobResult, Settlement
from attribute_courier.state.clock import ClockWatch, work_exists

from ..account_state import ADA, BOB, KEYS, Account, idle, values

STEPS_S = [1, -1, 20, -20, 59, -59, 3600, -3600]


@pytest.mark.parametrize("back_again", [False, True])
@pytest.mark.parametrize("step_s", STEPS_S)
class TestAStep:
    def test_lets_deliveries_go_on_within_two_seconds(
        self, account: Account, step_s: float, back_again: bool
    ) -> None:
        """RC4, RC5, RC6: also when one delivery was made while the clock was wrong."""
        account = account.limited(rate_limit=39.2)
        sent = 0
        for move_s in (step_s, -step_s if back_again else 0):
            for n in range(3):
                account.staged(f"{sent}-{n}@example.com", n=n)
            sent += len(account.deliver_all())
            account.clock.step(move_s)
            account.staged(f"{sent}-late@example.com", n=9)
            account.clock.time_passes(2)
            sent += len(account.deliver_all())
        assert sent == 8
        assert set(account.counted()) == {"delivered"}

    def test_makes_no_job_invalid_and_hides_no_email(
        self, account: Account, step_s: float, back_again: bool
    ) -> None:
        first = account.staged(ADA, plan="free")
        account.clock.step(step_s)
        assert account.stage(account.job(BOB, plan="x")) == "staged"
        if back_again:
            account.clock.step(-step_s)
        newest = account.job(ADA, plan="pro")
        assert account.stage(newest) == "staged"
        assert account.status(first) == "superseded"
        sent = account.deliver_all()
        assert sorted(str(each) for each in sent) == ["{'plan': 'pro'}", "{'plan': 'x'}"]

    def test_keeps_a_lease(self, account: Account, step_s: float, back_again: bool) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        account.clock.step(step_s)
        assert account.claimed() == []
        if back_again:
            account.clock.step(-step_s)
            assert account.claimed() == []
        account.clock.time_passes(50)
        assert account.claimed() == []
        assert account.settle(claim)

    def test_lets_a_lease_end(self, account: Account, step_s: float, back_again: bool) -> None:
        account.staged(plan="pro")
        account.claim()
        account.clock.step(step_s)
        account.clock.time_passes(1)
        if back_again:
            account.clock.step(-step_s)
        account.clock.time_passes(61)
        assert account.claimed() == [ADA]

    def test_lets_a_hold_last_and_end(
        self, account: Account, step_s: float, back_again: bool
    ) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        again = JobResult(job_id=claim.jobs[0].job_id, status="pending", fields={"attempts": 1})
        account.carry_out(claim, Settlement(jobs=(again,)), "pace", retry_after_s=30)
        account.clock.step(step_s)
        assert idle(account.next()) == "the next time is far"
        if back_again:
            account.clock.step(-step_s)
        account.clock.time_passes(24)
        assert idle(account.next()) == "the next time is far"
        account.clock.time_passes(8)
        assert account.deliver_all() == [{"plan": "pro"}]

    def test_delays_no_retry(self, account: Account, step_s: float, back_again: bool) -> None:
        """It may come early after a step ahead, which harms nothing; never late."""
        account.staged(plan="pro")
        account.settle(account.claim(), "pending", retry_s=60)
        account.clock.step(step_s)
        account.clock.time_passes(1)
        if back_again:
            account.clock.step(-step_s)
        account.clock.time_passes(60)
        assert account.claimed() == [ADA]


@pytest.mark.parametrize("step_s", [1, -1, 20, -20, 59, -59])
def test_the_order_of_arrival_holds_over_a_step(account: Account, step_s: float) -> None:
    jobs = []
    for n in range(3):
        jobs.append(account.job(plan=n))
        account.clock.step(step_s if n == 0 else -step_s)
    for job in reversed(jobs):
        account.stage(job)
    assert account.deliver_all() == [{"plan": 2}]


@pytest.mark.parametrize("ahead_s", [59, 3600])
def test_what_was_delivered_by_a_clock_ahead_is_followed_by_what_comes_later(
    account: Account, ahead_s: float
) -> None:
    account.clock.step(ahead_s)
    account.staged(plan="free")
    account.deliver_all()
    account.clock.step(-ahead_s)
    assert account.stage(account.job(plan="pro")) == "staged"
    claim = account.next()
    assert isinstance(claim, Claim)
    assert values(claim) == {"plan": "pro"}


def test_the_accounts_time_never_goes_back_and_counts_a_gap_as_two_seconds(
    account: Account,
) -> None:
    account.staged(plan="pro")
    before_us = account.claim().account_us
    for step_s, passed_s in ((-3600, 0), (3600, 2), (1, 1), (-1, 0), (10**6, 2)):
        account.clock.step(step_s)
        account.staged(f"{step_s}@example.com", n=1)
        now_us = account.claim().account_us
        assert passed_s <= (now_us - before_us) / 1e6 < passed_s + 0.1
        before_us = now_us


def test_what_it_rests_on_lasts(account: Account) -> None:
    account.staged(plan="pro")
    account.deliver_all()
    for name in ("clock", "arrivals", "ledger", "pace"):
        assert account.client.ttl(KEYS.of(name)) == -1


class Clocks:
    """A Redis whose clock, and a machine whose own clock, a test sets."""

    def __init__(self) -> None:
        self.redis_s = 1_772_357_400.0
        self.own_s = 100.0
        self.answer_s = 0.0

    def time(self) -> tuple[int, int]:
        self.own_s += self.answer_s
        return int(self.redis_s), round(self.redis_s % 1 * 1e6)

    def monotonic(self) -> float:
        return self.own_s

    def pass_both(self, seconds: float) -> None:
        self.redis_s += seconds
        self.own_s += seconds


class TestClockWatch:
    @pytest.fixture
    def clocks(self, monkeypatch: pytest.MonkeyPatch) -> Clocks:
        clocks = Clocks()
        monkeypatch.setattr(clock_module, "time", clocks)
        return clocks

    @pytest.mark.parametrize("step_s", [1, -1, 3600, -3600])
    def test_tells_a_step_once(self, clocks: Clocks, step_s: float) -> None:
        client: Any = clocks
        watch = ClockWatch(client)
        assert watch.step_s() is None
        clocks.pass_both(3)
        assert watch.step_s() is None
        clocks.pass_both(1)
        clocks.redis_s += step_s
        assert watch.step_s() == pytest.approx(step_s)
        clocks.pass_both(1)
        assert watch.step_s() is None

    def test_takes_a_long_gap_or_a_slow_answer_for_none(self, clocks: Clocks) -> None:
        client: Any = clocks
        watch = ClockWatch(client)
        watch.step_s()
        clocks.pass_both(3600)
        assert watch.step_s() is None
        clocks.pass_both(1)
        clocks.answer_s = 1.5
        clocks.redis_s += 1.5
        assert watch.step_s() is None


def test_a_step_is_noted_by_one_worker_and_shown_for_an_hour(account: Account) -> None:
    assert account.health.status().clock_step is None
    assert account.health.note_step(-30)
    assert not account.health.note_step(-30)
    step = account.health.status().clock_step
    assert step is not None
    assert (step.step_s, step.at) == (-30, account.clock.now)
    account.clock.step(3601)
    assert account.health.status().clock_step is None


def test_one_command_tells_idle_workers_whether_there_is_work(
    account: Account, client: redis.Redis
) -> None:
    assert not work_exists(client, ["default", "eu"])
    job = account.job(plan="pro")
    assert work_exists(client, ["eu", "default"])
    account.stage(job)
    assert work_exists(client, ["default"])
    claim = account.claim()
    assert work_exists(client, ["default"])
    account.settle(claim, "pending", retry_s=60)
    assert work_exists(client, ["default"])
    account.clock.time_passes(60)
    account.deliver_all()
    assert not work_exists(client, ["default"])
    account.health.pause("moving")
    assert work_exists(client, ["default"])
