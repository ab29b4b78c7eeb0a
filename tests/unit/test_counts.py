"""What is counted: by lane, status and reason, over all workers, and by the minute."""

from __future__ import annotations

import itertools

import pytest

from attribute_courier.state.counts import BOUNDS_S, Counters, Counts, Histogram
from attribute_courier.state.scripts import source

from ..account_state import ADA, BOB, KEYS, Account


def test_the_bounds_are_those_of_the_script() -> None:
    script = source("settle")
    bounds = script.partition("BOUNDS_US = {")[2].partition("}")[0].split(",")
    assert [int(bound) / 1e6 for bound in bounds] == list(BOUNDS_S)


class TestCounting:
    def counts(self, account: Account) -> Counts:
        return Counters(account.client, KEYS).now()

    def test_nothing_at_first(self, account: Account) -> None:
        counts = self.counts(account)
        assert (counts.jobs, counts.attempts, counts.delivered) == ({}, {}, 0)
        assert counts.latency == Histogram()

    def test_a_delivered_job_with_its_attempt_and_how_long_it_took(self, account: Account) -> None:
        account.staged(plan="pro")
        account.clock.step(3)
        account.deliver_all()
        counts = self.counts(account)
        assert counts.jobs == {("live", "delivered", ""): 1}
        assert counts.attempts == {"2xx": 1}
        assert counts.delay["live"].count == 1
        assert counts.delay["live"].sum_s == pytest.approx(3, abs=0.1)
        assert counts.delay["live"].counts[BOUNDS_S.index(5)] == 1

    def test_a_settling_whose_answer_was_lost_counts_once(self, account: Account) -> None:
        account.staged(plan="pro")
        claim = account.claim()
        account.settle(claim)
        account.settle(claim)
        assert self.counts(account).attempts == {"2xx": 1}
        assert self.counts(account).by_status() == {"delivered": 1}

    def test_a_superseded_job_in_its_own_lane(self, account: Account) -> None:
        account.staged(lane="bulk", plan="pro")
        account.staged(plan="free")
        assert self.counts(account).jobs == {("bulk", "superseded", ""): 1}

    def test_a_rejected_job_with_its_reason(self, account: Account) -> None:
        job = account.job(lane="bulk", plan="pro")
        account.take()
        account.inbox.reject(account.taken[job.job_id], "bad", reason="type")
        assert self.counts(account).by_reason() == {("invalid", "type"): 1}
        assert self.counts(account).jobs == {("bulk", "invalid", "type"): 1}


class TestTheLastHour:
    def test_is_the_difference_of_copies(self, account: Account) -> None:
        counters = Counters(account.client, KEYS)
        account.staged(ADA, plan="pro")
        account.deliver_all()
        account.clock.step(90 * 60)
        account.staged(BOB, plan="pro")
        account.deliver_all()
        account.clock.step(5 * 60)
        account.staged(BOB, plan="free")
        account.staged(ADA, plan="free")
        account.deliver_all()
        minutes = counters.last_hour()
        gained = [later.since(before).delivered for before, later in itertools.pairwise(minutes)]
        assert sum(gained) == 3
        assert [gain for gain in gained if gain] == [1, 2]
        status = account.health.status()
        assert status.last_hour == {"delivered": 3}
        assert status.counts.delivered == 4
        assert status.last_delivered_at == account.clock.now
        account.clock.step(2 * 60 * 60)
        assert account.health.status().last_hour == {}

    def test_the_rate_of_late(self, account: Account) -> None:
        def deliver(count: int, seconds: int) -> None:
            for _ in range(seconds):
                for n in range(count):
                    account.staged(f"{n}@example.com", n=account.clock.us)
                account.deliver_all()
                account.clock.step(1)

        def rate() -> float:
            return account.health.status().delivered_per_s

        assert rate() == 0
        deliver(3, 30)
        assert rate() == pytest.approx(3, rel=0.15)
        account.clock.step(30)
        assert 0 < rate() < 2
        account.clock.step(3600)
        assert rate() < 0.1
        deliver(2, 12)
        assert rate() == pytest.approx(2, rel=0.25), "what was an hour ago does not count"
