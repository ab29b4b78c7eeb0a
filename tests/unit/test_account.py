"""What holds an account back: its pace, its server, its key, its operator."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from attribute_courier.state.claims import Claim, JobResult, Settlement, Wait

from ..account_state import ADA, BOB, KEYS, Account, idle

RATE = 39.2


@pytest.fixture
def paced(account: Account) -> Account:
    return account.limited(rate_limit=RATE, max_parallel=1000)


def fill(account: Account, count: int, name: str = "n") -> None:
    for n in range(count):
        account.staged(f"{name}-{n}@example.com", n=n)


def observe(account: Account, kind: str, claim: Claim | None = None, **news: Any) -> bool:
    """Whether an answer of this kind pauses the account. Its email is due again."""
    claim = claim or account.claim()
    jobs = tuple(
        JobResult(job_id=j.job_id, status="pending", fields={"attempts": 1}) for j in claim.jobs
    )
    failures = claim.failures + (kind == "server")
    settlement = Settlement(jobs=jobs, failures=failures)
    return account.carry_out(claim, settlement, kind, **news).paused


class TestPace:
    def test_requests_leave_at_their_distance_and_forty_in_a_second(self, paced: Account) -> None:
        fill(paced, 100)
        sent_us = [paced.claim().account_us for _ in range(100)]
        assert all(b - a >= 24_000 for a, b in pairwise(sent_us))
        assert all(b - a >= 1_019_000 for a, b in zip(sent_us, sent_us[40:], strict=False))
        assert sent_us[-1] - sent_us[0] <= 99 / RATE * 1e6 + 50_000, "the pace is used"

    def test_time_that_was_not_used_is_not_saved_up(self, paced: Account) -> None:
        fill(paced, 10)
        paced.claim()
        paced.clock.time_passes(5)
        sent_us = [paced.claim().account_us for _ in range(9)]
        assert all(b - a >= 24_000 for a, b in pairwise(sent_us))

    def test_a_time_is_reserved_with_nothing_in_hand(self, paced: Account) -> None:
        fill(paced, 2)
        paced.claim()
        found = paced.boxes.claim("s")
        assert isinstance(found, Wait)
        assert 0 < found.wait_s <= 0.026
        assert paced.size("leases") == 1
        assert paced.size("due:live") == 1

    def test_who_comes_early_waits_on(self, paced: Account) -> None:
        fill(paced, 2)
        paced.claim()
        found = paced.boxes.claim("s")
        assert isinstance(found, Wait)
        again = paced.boxes.claim("s", reserved=found.reserved)
        assert again == found
        paced.clock.time_passes(found.wait_s)
        assert isinstance(paced.boxes.claim("s", reserved=found.reserved), Claim)

    def test_no_time_is_reserved_that_is_more_than_a_second_away(self, account: Account) -> None:
        slow = account.limited(rate_limit=0.5)
        fill(slow, 2)
        slow.claim()
        assert idle(slow.boxes.claim("s")) == "the next time is far"
        slow.clock.time_passes(2)
        slow.claim()

    def test_six_others_that_wait_are_enough(self, paced: Account) -> None:
        fill(paced, 20)
        paced.claim()
        for n in range(6):
            assert isinstance(paced.boxes.claim(f"s{n}"), Wait)
        assert idle(paced.boxes.claim("one more")) == "enough others wait"
        paced.clock.time_passes(4)
        assert isinstance(paced.next(), Claim), "those that died are forgotten"

    def test_a_time_for_which_nothing_is_due_is_given_back(self, paced: Account) -> None:
        fill(paced, 2)
        paced.claim()
        waiting = [paced.boxes.claim(f"s{n}") for n in range(2)]
        before = paced.size("ledger")
        paced.clock.time_passes(0.06)
        first, second = waiting
        assert isinstance(first, Wait)
        assert isinstance(second, Wait)
        assert isinstance(paced.boxes.claim("s0", reserved=first.reserved), Claim)
        assert idle(paced.boxes.claim("s1", reserved=second.reserved)) == "nothing due"
        assert paced.size("ledger") == before - 1
        assert paced.size("waiting") == 0

    def test_a_late_request_is_counted_when_it_leaves(self, paced: Account) -> None:
        fill(paced, 3)
        paced.claim()
        found = paced.boxes.claim("s")
        assert isinstance(found, Wait)
        paced.clock.time_passes(found.wait_s + 0.05)
        late = paced.boxes.claim("s", reserved=found.reserved)
        assert isinstance(late, Claim)
        assert paced.claim().account_us - late.account_us >= 24_000

    def test_late_requests_make_no_crowded_second(self, account: Account) -> None:
        """Those that waited while the process stood still do not all leave at once."""
        paced = account.limited(rate_limit=4, max_parallel=1000)
        fill(paced, 30)
        sent_us = []
        for n in range(20):
            found = paced.boxes.claim(f"s{n}")
            while not isinstance(found, Claim):
                paced.clock.time_passes(0.09 if n % 3 else 0.5)
                reserved = found.reserved if isinstance(found, Wait) else None
                found = paced.boxes.claim(f"s{n}", reserved=reserved)
            sent_us.append(found.account_us)
        assert all(b - a >= 1_000_000 for a, b in zip(sent_us, sent_us[5:], strict=False))


class TestHolds:
    def test_nothing_leaves_before_retry_after(self, account: Account) -> None:
        fill(account, 2)
        observe(account, "pace", retry_after_s=30)
        status = account.health.status()
        assert (status.state, status.held_for_s) == ("held", 30)
        account.clock.time_passes(28)
        assert idle(account.next()) == "the next time is far"
        account.clock.time_passes(1.5)
        account.claim()
        assert account.clock.us / 1e6 >= status.held_for_s

    def test_a_reserved_time_within_it_is_made_anew(self, paced: Account) -> None:
        fill(paced, 3)
        claim = paced.claim()
        found = paced.boxes.claim("s")
        assert isinstance(found, Wait)
        observe(paced, "pace", claim, retry_after_s=30)
        paced.clock.time_passes(found.wait_s)
        assert idle(paced.boxes.claim("s", reserved=found.reserved)) == "the next time is far"

    def test_without_retry_after_they_grow_and_end_with_an_answer(self, account: Account) -> None:
        holds = []
        fill(account, 1)
        for _ in range(5):
            observe(account, "pace")
            holds.append(account.health.status().held_for_s)
            account.clock.time_passes(holds[-1] + 0.01)
        assert holds == sorted(holds)
        assert holds[-1] >= 8 * holds[0] > 0
        observe(account, "taken")
        observe(account, "pace")
        assert account.health.status().held_for_s == holds[0]

    def test_a_429_of_the_same_crowd_counts_for_nothing(self, account: Account) -> None:
        fill(account, 20)
        claims = [account.claim() for _ in range(20)]
        for claim in claims:
            observe(account, "pace", claim)
        assert account.health.status().rate == pytest.approx(10_000)

    def test_their_share_cuts_the_rate_which_comes_back(self, account: Account) -> None:
        account = account.limited(rate_limit=RATE)
        fill(account, 1)
        for _ in range(10):
            observe(account, "pace", retry_after_s=0)
            account.clock.time_passes(0.1)
        cut = account.health.status().rate
        assert cut < 0.9 * RATE
        account.client.hdel(KEYS.of("pace"), "hold")
        assert account.health.status().state == "slowed"
        account.clock.time_passes(10)
        back = account.health.status().rate
        assert cut < back < RATE
        account.clock.time_passes(120)
        assert account.health.status().rate == RATE
        assert account.health.status().state == "running"


class TestCircuit:
    def test_opens_when_ten_emails_fail_in_a_row(self, account: Account) -> None:
        fill(account, 12)
        claims = [account.claim() for _ in range(10)]
        for claim in claims[:9]:
            observe(account, "server", claim, reason="HTTP 500")
        assert account.health.status().circuit is None
        observe(account, "server", claims[9], reason="HTTP 500")
        circuit = account.health.status().circuit
        assert circuit is not None
        assert circuit.reason == "HTTP 500"
        assert circuit.opened_at == account.clock.now
        assert circuit.next_probe_at == account.clock.now + timedelta(seconds=0.25)
        assert account.health.status().state == "circuit open"
        assert idle(account.next()) == "circuit open"

    def test_judges_emails_not_requests(self, account: Account) -> None:
        fill(account, 3)
        for _ in range(40):
            observe(account, "server", reason="HTTP 500")
        assert account.health.status().circuit is None

    def test_counts_only_failures_without_a_success_between(self, account: Account) -> None:
        fill(account, 9)
        for _ in range(9):
            observe(account, "server", reason="HTTP 500")
        account.staged(ADA, n=1)
        observe(account, "taken")
        fill(account, 5, "more")
        for _ in range(5):
            observe(account, "server", reason="HTTP 500")
        assert account.health.status().circuit is None

    def open(self, account: Account) -> None:
        fill(account, 20, "culprit")
        for _ in range(20):
            if isinstance(claim := account.next(), Claim):
                observe(account, "server", claim, reason="HTTP 500")
        assert account.health.status().circuit is not None

    def test_a_good_live_email_is_the_next_probe_and_closes_it(self, account: Account) -> None:
        """CM14: within one pause of the circuit, however many culprits wait."""
        self.open(account)
        for _ in range(10):
            account.client.zrem(
                KEYS.of("due:live"), *account.client.zrange(KEYS.of("due:live"), 0, -1) or ["-"]
            )
            account.clock.time_passes(1)
            if isinstance(claim := account.next(), Claim):
                observe(account, "server", claim, reason="HTTP 500")
        account.staged(ADA, plan="pro")
        account.clock.time_passes(3)
        claim = account.claim()
        assert claim.email == ADA
        assert account.settle(claim)
        assert account.health.status().circuit is None
        assert isinstance(account.next(), Claim)

    def test_a_server_that_is_down_is_probed_and_not_hammered(self, account: Account) -> None:
        self.open(account)
        requests = 0
        for _ in range(240):
            account.clock.time_passes(0.5)
            while isinstance(claim := account.next(), Claim):
                observe(account, "server", claim, reason="HTTP 500")
                requests += 1
        assert 10 <= requests <= 60

    def test_resume_closes_it(self, account: Account) -> None:
        self.open(account)
        assert account.health.resume()
        assert account.health.status().circuit is None
        account.claim()


class TestPause:
    def test_by_the_account_is_told_once_and_stops_deliveries(self, account: Account) -> None:
        fill(account, 3)
        first, second = account.claim(), account.claim()
        assert observe(account, "account", first, reason="HTTP 401", code="401")
        assert not observe(account, "account", second, reason="HTTP 402", probe_delays_s=(60.0,))
        assert idle(account.next()) == "paused"
        pause = account.health.status().pause
        assert pause is not None
        assert (pause.by, pause.reason, pause.since) == ("account", "HTTP 401", account.clock.now)
        assert pause.code == "401"
        assert pause.next_probe_at == account.clock.now + timedelta(seconds=60)

    def test_lets_nobody_who_waited_leave(self, paced: Account) -> None:
        fill(paced, 3)
        paced.claim()
        found = paced.boxes.claim("s")
        assert isinstance(found, Wait)
        paced.health.pause("moving house")
        paced.clock.time_passes(found.wait_s)
        assert idle(paced.boxes.claim("s", reserved=found.reserved)) == "paused"
        assert paced.size("waiting") == 0

    def test_one_caller_probes_at_each_time(self, account: Account) -> None:
        fill(account, 1)
        observe(account, "account", reason="HTTP 401", probe_delays_s=(60.0, 120.0))
        account.clock.time_passes(59)
        assert not account.health.probe_is_due()
        account.clock.time_passes(1)
        assert account.health.probe_is_due()
        assert not account.health.probe_is_due()
        account.clock.time_passes(119)
        assert not account.health.probe_is_due()
        account.clock.time_passes(1)
        assert account.health.probe_is_due()
        assert account.health.resume_after_probe()
        account.claim()

    def test_probes_are_counted_beyond_one_pause_until_a_delivery_is_taken(
        self, account: Account
    ) -> None:
        """An account that answers pings and refuses the rest is asked less and less."""
        fill(account, 1)
        delays: dict[str, Any] = {"reason": "HTTP 401", "probe_delays_s": (60.0, 120.0)}
        observe(account, "account", **delays)
        account.clock.time_passes(60)
        assert account.health.probe_is_due()
        account.health.resume_after_probe()
        observe(account, "account", **delays)
        account.clock.time_passes(60)
        assert not account.health.probe_is_due()
        account.health.resume()
        observe(account, "taken")
        observe(account, "account", **delays)
        account.clock.time_passes(60)
        assert account.health.probe_is_due()

    def test_only_an_operator_ends_an_operators_pause(self, account: Account) -> None:
        account.health.pause("moving house")
        assert not account.health.resume_after_probe()
        assert not account.health.probe_is_due()
        pause = account.health.status().pause
        assert pause is not None
        assert (pause.by, pause.next_probe_at) == ("operator", None)
        assert account.health.resume()
        assert account.health.status().state == "running"

    def test_resume_tells_whether_anything_was_held(self, account: Account) -> None:
        assert not account.health.resume()
        fill(account, 1)
        observe(account, "server", reason="HTTP 500")
        assert not account.health.resume(), "one failure holds nothing"
        observe(account, "pace", retry_after_s=30)
        assert account.health.resume()
        assert account.health.status().state == "running"
        account.claim()


class TestLook:
    def test_of_an_idle_account_needs_nothing(self, account: Account) -> None:
        needs = account.health.look(5)
        assert (needs.accept, needs.deliver, needs.probe) == (False, False, False)
        assert needs.soonest_s == 5

    def test_of_jobs_and_emails(self, account: Account) -> None:
        job = account.job(plan="pro")
        assert account.health.look(5).accept
        account.stage(job)
        needs = account.health.look(5)
        assert (needs.accept, needs.deliver) == (False, True)

    def test_of_a_stint_that_waits_needs_no_other_until_it_died(self, paced: Account) -> None:
        fill(paced, 2)
        paced.claim()
        assert isinstance(paced.boxes.claim("s"), Wait)
        assert not paced.health.look(5).deliver
        paced.clock.time_passes(3)
        assert paced.health.look(5).deliver

    def test_of_a_full_account_needs_nothing(self, account: Account) -> None:
        full = account.limited(max_parallel=1)
        fill(full, 2)
        full.claim()
        assert not full.health.look(5).deliver

    def test_says_when_a_retry_a_lease_or_a_taken_job_is_expected(self, account: Account) -> None:
        account.staged(ADA, n=1)
        account.settle(account.claim(), "pending", retry_s=4)
        assert account.health.look(5).soonest_s == pytest.approx(4)
        account.clock.time_passes(4)
        assert account.health.look(5).deliver
        account.claim()
        assert account.health.look(100).soonest_s == pytest.approx(60)
        account.job(BOB, n=1)
        account.take(within_s=3)
        assert account.health.look(5).soonest_s == pytest.approx(3)
        account.clock.time_passes(3)
        assert account.health.look(5).accept

    def test_of_a_paused_account_is_a_probe_at_its_time(self, account: Account) -> None:
        fill(account, 1)
        observe(account, "account", reason="HTTP 401", probe_delays_s=(60.0,))
        needs = account.health.look(100)
        assert (needs.deliver, needs.probe) == (False, False)
        assert needs.soonest_s == pytest.approx(60)
        account.clock.time_passes(60)
        assert account.health.look(5).probe


def test_status_counts_what_is_where(account: Account) -> None:
    for n in range(4):
        account.staged(f"{n}@example.com", n=n)
    account.staged(BOB, lane="bulk", n=1)
    account.claim()
    account.settle(account.claim(), "pending", retry_s=60)
    account.fails(account.claim())
    account.clock.time_passes(2)
    account.job(ADA, n=1)
    account.clock.time_passes(1)
    status = account.health.status()
    found = (status.live.due, status.bulk.due, status.failing.due, status.later, status.in_flight)
    assert found == (1, 1, 1, 1, 1)
    assert (status.inbox, status.inbox_oldest_s) == (1, 1)
    assert status.live.oldest_s == pytest.approx(3, abs=0.1)
    assert (status.rate, status.rate_limit) == (10_000, 10_000)
    account.deliver_all()
    assert account.health.status().last_hour == {"delivered": 3}


def test_a_replayed_job_is_listed_once_and_as_it_stands_now(account: Account) -> None:
    job = account.staged(plan="pro")
    account.settle(account.claim(), "failed", fields={"document": '{"v":1}'})
    assert account.health.replay(job.job_id)
    assert account.health.replay(job.job_id), "the same call again, whose answer was lost"
    assert account.outcomes.recent(statuses=["failed"]) == []
    assert account.in_inbox() == {job.job_id}
    account.take()
    account.inbox.reject(account.taken[job.job_id], "a later end")
    assert [each.status for each in account.outcomes.recent()] == ["invalid"]
    assert not account.health.replay(job.job_id), "nor is that one replayed"
