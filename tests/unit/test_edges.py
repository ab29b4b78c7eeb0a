"""Edges of the mailboxes and the pace, each found by reading: what one would not think of first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from attribute_courier.config import load_settings
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.state.claims import Claim, JobResult, Settlement
from attribute_courier.state.repair import repair
from attribute_courier.worker.settlement import Policy, settle
from attribute_courier.worker.verdicts import Kind, Verdict

from ..account_state import ADA, BOB, EVE, KEYS, Account, is_fake, values


def test_a_bulk_job_does_not_overtake_a_live_one_whose_producers_clock_is_fast(
    account: Account,
) -> None:
    """The bulk job arrived before, and is accepted after."""
    bulk = account.job(plan="of the backfill", lane="bulk")
    account.clock.time_passes(0.01)
    live = replace(
        account.job(plan="of the sign-up"),
        job_id=new_job_id(),
        occurred_at=account.clock.now + timedelta(seconds=2),
    )
    account.put(live)
    assert account.stage(live) == "staged"
    assert account.stage(bulk) == "superseded"


def test_a_job_that_arrives_after_one_from_ahead_was_accepted_is_newer(account: Account) -> None:
    ahead = replace(
        account.job(n=0), job_id=new_job_id(), occurred_at=account.clock.now + timedelta(seconds=40)
    )
    account.put(ahead)
    account.stage(ahead)
    account.clock.time_passes(1)
    later = account.staged(n=2)
    assert values(account.claim()) == {"n": 2}
    assert account.status(later) == "pending"


@pytest.mark.long
def test_thousands_of_jobs_that_replace_each_other_in_flight_are_settled(account: Account) -> None:
    if is_fake(account.client):
        pytest.skip("the fake server takes long")
    first = account.staged(n=0)
    account.claim()
    jobs = [account.job(n=n) for n in range(4_500)]
    account.take(limit=10_000)
    account.boxes.stage([(account.taken[job.job_id], job) for job in jobs])
    account.clock.time_passes(61)
    claim = account.claim()
    assert values(claim) == {"n": 4_499}
    assert account.status(first) == account.status(jobs[0]) == "superseded"
    account.settle(claim)


def parts(account: Account) -> Account:
    return account.limited(max_attributes=1)


def test_a_job_that_is_refused_in_a_part_is_replayed_as_a_whole(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = parts(account)
    job = small.staged(a=1, b=2, c=3)
    claim = small.claim()
    assert [value.attribute.key for value in claim.unsent] == ["b", "c"]
    policy = Policy.of(load_settings())
    settlement = settle(Verdict(kind=Kind.CONTENT, http_status=422), claim, policy, reason="no")
    small.carry_out(claim, settlement, "content")
    assert small.status(job) == "refused"
    assert small.health.replay(job.job_id)
    document = account.client.hget(KEYS.inbox, job.job_id)
    assert all(f'"{key}"' in document for key in "abc")


def test_a_job_of_which_a_part_was_delivered_ends_delivered(account: Account) -> None:
    small = parts(account)
    job = small.staged(a=1, b=2)
    small.settle(small.claim())
    assert small.status(job) == "pending"
    small.staged(b=3)
    assert small.status(job) == "delivered"


def test_a_replay_after_a_wrong_clock_is_taken(account: Account) -> None:
    account.clock.step(3600)
    job = account.staged(n=1)
    claim = account.claim()
    document = {"document": f'{{"v":1,"email":"{ADA}"}}'}
    result = JobResult(job_id=job.job_id, status="refused", fields={"attempts": 1, **document})
    account.carry_out(claim, Settlement(jobs=(result,)), "content")
    occurred_at = account.outcome(job).occurred_at
    account.clock.step(-3600)
    assert account.health.replay(job.job_id)
    again = replace(job, occurred_at=occurred_at)
    assert account.stage(again) == "staged"


def test_what_was_given_back_or_met_a_429_is_the_first_again(account: Account) -> None:
    for email in (ADA, BOB, EVE):
        account.staged(email, n=1)
    claim = account.claim()
    assert claim.email == ADA
    account.boxes.give_back(claim)
    claim = account.claim()
    assert claim.email == ADA
    pending = JobResult(job_id=claim.jobs[0].job_id, status="pending", fields={"message": "429"})
    account.carry_out(claim, Settlement(jobs=(pending,)), "pace", reason="429")
    account.clock.time_passes(1)
    assert account.claim().email == ADA


def test_a_job_that_newer_ones_replaced_in_flight_does_not_wait_with_them(account: Account) -> None:
    first = account.staged(n=1)
    claim = account.claim()
    account.staged(n=2)
    waiting = JobResult(job_id=first.job_id, status="pending", fields={"attempts": 1})
    account.carry_out(claim, Settlement(jobs=(waiting,), retry_s=300, waits=True), "unmatched")
    assert account.status(first) == "superseded"


def test_what_is_overdue_does_not_make_the_look_spin(account: Account) -> None:
    account.staged(n=1)
    account.fails(account.claim(), retry_s=5)
    account.clock.time_passes(60)
    needs = account.health.look(1.0)
    assert needs.deliver
    assert needs.soonest_s > 0.5


def test_a_reservation_of_the_dead_does_not_keep_others_from_being_asked_for(
    account: Account,
) -> None:
    paced = account.limited(rate_limit=4)
    for n in range(5):
        paced.staged(f"c{n}@example.com", n=1)
    paced.claim()
    paced.boxes.claim("of a process that dies")
    assert paced.size("waiting") == 1
    paced.clock.time_passes(4)
    found = paced.boxes.claim("another")
    assert isinstance(found, Claim)
    assert found.ask


def test_bulk_emails_are_probes_as_well(account: Account) -> None:
    for n in range(10):
        account.staged(f"culprit{n}@example.com", n=1)
        account.fails(account.claim(), retry_s=600)
    assert account.health.status().circuit is not None
    good = account.staged(BOB, n=1, lane="bulk")
    account.clock.time_passes(0.3)
    account.settle(account.claim())
    assert account.status(good) == "delivered"
    assert account.health.status().circuit is None


def test_a_key_of_another_type_costs_its_own_email_only(account: Account) -> None:
    account.client.set(KEYS.of("mailbox", "damaged"), "text")
    lost = account.staged(BOB, n=1)
    account.client.delete(KEYS.of("due:live"))
    found = repair(account.client, KEYS, at_start=True)
    assert found is not None
    assert found.mailboxes == 1
    assert values(account.claim()) == {"n": 1}
    assert account.status(lost) == "pending"


def test_a_damaged_mailbox_keeps_no_neighbour_in_the_inbox(account: Account) -> None:
    damaged, good = account.job(ADA, n=1), account.job(BOB, n=2)
    account.client.set(KEYS.of("mailbox", damaged.mailbox_id), "text")
    account.take()
    staged = account.boxes.stage([(account.taken[job.job_id], job) for job in (damaged, good)])
    assert [each.result for each in staged] == ["error", "staged"]
    assert "WRONGTYPE" in staged[0].mistyped
