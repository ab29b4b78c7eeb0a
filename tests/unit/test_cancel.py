"""A job that was not sent is taken back, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.state.inbox import Entry

from ..account_state import ADA, BOB, KEYS, RETENTION_S, Account
from ..redis_clock import on_test_time
from ..waiting import wait_until
from .test_outcomes import meanwhile


def cancels(account: Account, job: AttributeJob) -> str:
    """Cancel a job; twice, since redis-py asks again when an answer was lost."""
    found = account.removal.cancel(job.job_id)
    before = account.state()
    again = account.removal.cancel(job.job_id)
    assert (again.result, again.outcome) == (found.result, found.outcome)
    assert account.state() == before
    assert found.canceled == (found.result == "canceled")
    return found.result


class TestInTheInbox:
    @pytest.mark.parametrize("lane", ["live", "bulk"])
    def test_it_is_gone_and_has_its_outcome(self, account: Account, lane: str) -> None:
        job = account.job(lane=lane, plan="pro", age=8)  # type: ignore[arg-type]
        assert cancels(account, job) == "canceled"
        found = account.outcome(job)
        assert (found.status, found.settled, found.successful) == ("canceled", True, False)
        assert (found.email, found.lane, found.keys) == (ADA, lane, ("plan", "age"))
        assert found.attempts == 0
        assert found.settled_at == account.clock.now
        assert account.outcomes.of_email(ADA) == [found]
        assert account.outcomes.recent(statuses=["canceled"]) == [found]
        assert account.counted() == {"canceled": 1}
        assert account.take() == []
        assert account.deliver_all() == []
        account.assert_nothing_is_left()
        assert 0 < account.client.ttl(KEYS.of("outcome", job.job_id)) <= RETENTION_S
        assert account.client.ttl(KEYS.of("outcome", job.job_id)) > RETENTION_S - 10

    def test_the_others_stay(self, account: Account) -> None:
        first, job, last = account.job(a=1), account.job(a=2), account.job(a=3)
        assert cancels(account, job) == "canceled"
        assert account.take() == [first.job_id, last.job_id]

    def test_that_a_worker_has_just_taken_is_not_staged(self, account: Account) -> None:
        job, other = account.job(plan="pro"), account.job(BOB, plan="pro")
        account.take()
        assert cancels(account, job) == "canceled"
        assert account.size("inbox:taken") == 1, "the other one"
        assert account.boxes.stage([(account.taken[job.job_id], job)])[0].result == "known"
        assert account.status(job) == "canceled"
        assert account.stage(other) == "staged"
        assert account.deliver_all() == [{"plan": "pro"}]
        account.assert_nothing_is_left()

    def test_that_a_worker_judges_invalid_later_stays_canceled(self, account: Account) -> None:
        job_id = new_job_id()
        account.inbox.put("live", [Entry(job_id=job_id, wire="no json")])
        account.take()
        assert account.removal.cancel(job_id).canceled
        assert not account.inbox.reject(account.taken[job_id], "no job")
        found = account.outcomes.get(job_id)
        assert found is not None
        assert (found.status, found.email, found.keys) == ("canceled", None, ())
        account.assert_nothing_is_left()

    def test_it_does_not_come_back_by_its_id_or_idempotency_key(self, account: Account) -> None:
        job = account.job(plan="pro")
        entry = Entry(job_id=job.job_id, wire=dump_wire(job), idempotency_key="k", content="c")
        account.inbox.put("live", [entry])
        assert cancels(account, job) == "canceled"
        assert account.inbox.put("live", [entry]).known[0].job_id == job.job_id
        again = account.inbox.put("live", [replace(entry, job_id=new_job_id())])
        assert again.known[0].job_id == job.job_id
        assert account.in_inbox() == set()

    def test_a_replay_is_taken_back(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.settle(account.claim(), "failed", fields={"document": dump_wire(job)})
        assert account.health.replay(job.job_id)
        assert cancels(account, job) == "canceled"
        assert account.take() == []


class TestInTheMailbox:
    def test_it_is_gone_and_has_its_outcome(self, account: Account) -> None:
        job = account.staged(plan="pro", age=8)
        assert cancels(account, job) == "canceled"
        found = account.outcome(job)
        assert (found.status, found.email, found.keys) == ("canceled", ADA, ("plan", "age"))
        assert account.outcomes.of_email(ADA) == [found]
        assert account.counted() == {"canceled": 1}
        assert account.deliver_all() == []
        account.assert_nothing_is_left()
        assert account.box() == {}

    def test_the_others_of_its_email_are_sent(self, account: Account) -> None:
        first = account.staged(plan="pro")
        job = account.staged(age=8)
        account.staged(BOB, age=9)
        assert cancels(account, job) == "canceled"
        assert "age" not in account.box()
        assert account.deliver_all() == [{"plan": "pro"}, {"age": 9}]
        assert account.status(first) == "delivered"

    def test_what_it_replaced_does_not_come_back(self, account: Account) -> None:
        older, partly = account.staged(plan="basic"), account.staged(plan="basic+", age=7)
        job = account.staged(plan="pro")
        assert cancels(account, job) == "canceled"
        assert account.deliver_all() == [{"age": 7}]
        assert account.status(older) == "superseded"
        assert account.status(partly) == "delivered"

    def test_nothing_older_follows_what_it_replaced(self, account: Account) -> None:
        waits = account.staged(plan="basic", age=7)
        job = account.staged(plan="pro")
        assert cancels(account, job) == "canceled"
        assert account.stage(account.job(ago_s=60, plan="old", seats=3)) == "staged"
        assert account.deliver_all() == [{"age": 7, "seats": 3}]
        assert account.status(waits) == "delivered"

    @pytest.mark.parametrize("lane", ["live", "bulk"])
    def test_in_each_lane_no_place_is_left(self, account: Account, lane: str) -> None:
        job = account.staged(lane=lane, plan="pro")
        assert cancels(account, job) == "canceled"
        account.assert_nothing_is_left()

    def test_that_was_only_held_up_by_the_account(self, account: Account) -> None:
        """A 429 or a revoked key is no attempt."""
        job = account.staged(plan="pro")
        account.settle(account.claim(), "pending", fields={"attempts": 0})
        assert cancels(account, job) == "canceled"
        account.assert_nothing_is_left()

    def test_that_was_given_back(self, account: Account) -> None:
        job = account.staged(plan="pro")
        assert account.boxes.give_back(account.claim())
        assert cancels(account, job) == "canceled"
        account.assert_nothing_is_left()

    def test_the_rest_after_a_lost_request_stays(self, account: Account) -> None:
        """What a request of an earlier job may still do must not come after a newer one."""
        account.staged(plan="basic")
        account.settle(account.claim(), "failed", rest_s=60)
        job = account.staged(plan="pro")
        assert cancels(account, job) == "canceled"
        account.assert_nothing_is_left()
        account.staged(plan="max")
        assert account.claimed() == []
        account.clock.time_passes(60)
        assert account.deliver_all() == [{"plan": "max"}]

    def test_whose_mailbox_has_lost_it(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.client.delete(*account.client.keys(KEYS.of("mailbox", "*")))
        assert cancels(account, job) == "canceled"
        assert account.deliver_all() == []
        account.assert_nothing_is_left()

    def test_with_many_others(self, account: Account) -> None:
        """Of two hundred values of a mailbox, its own alone go."""
        account.staged(**{f"k{n}": n for n in range(200)})
        job = account.staged(**{f"k{n}": n for n in range(0, 200, 2)})
        assert cancels(account, job) == "canceled"
        assert account.deliver_all() == [{f"k{n}": n for n in range(1, 200, 2)}]


class TestThatIsTooLate:
    def test_it_is_being_sent(self, account: Account) -> None:
        job = account.staged(plan="pro")
        claim = account.claim()
        assert cancels(account, job) == "sending"
        assert account.settle(claim)
        assert account.status(job) == "delivered"

    def test_another_one_of_its_email_is_being_sent(self, account: Account) -> None:
        first = account.staged(plan="pro")
        claim = account.claim()
        job = account.staged(plan="max", age=8)
        assert cancels(account, job) == "canceled"
        assert cancels(account, first) == "sending"
        assert account.settle(claim)
        assert account.status(first) == "delivered"
        assert account.deliver_all() == []
        account.assert_nothing_is_left()

    def test_it_replaced_what_is_being_sent(self, account: Account) -> None:
        """Its answer still counts; to be sent again it is not there any more."""
        first = account.staged(plan="pro")
        claim = account.claim()
        job = account.staged(plan="max")
        assert cancels(account, job) == "canceled"
        assert account.fails(claim)
        assert account.status(first) == "superseded"
        assert account.deliver_all() == []
        account.assert_nothing_is_left()

    @pytest.mark.parametrize("only_changed", [False, True])
    def test_nothing_older_follows_what_it_replaced_in_flight(
        self, account: Account, only_changed: bool
    ) -> None:
        account.staged(plan="basic")
        account.deliver_all()
        account.staged(plan="pro")
        claim = account.claim()
        assert cancels(account, account.staged(plan="max")) == "canceled"
        if only_changed:  # it is not there any more once the request has arrived
            job = account.job(only_changed=True, plan="basic")
            assert account.stage(job) == "staged"
        else:
            assert account.stage(account.job(ago_s=60, plan="old")) == "superseded"
        assert account.settle(claim)
        assert account.deliver_all() == ([{"plan": "basic"}] if only_changed else [])

    @pytest.mark.parametrize("status", ["server", "unmatched"])
    def test_it_was_attempted(self, account: Account, status: str) -> None:
        job = account.staged(plan="pro")
        if status == "server":
            account.fails(account.claim(), retry_s=60, rest_s=60)
        else:
            account.settle(account.claim(), "pending", retry_s=300, waits=True)
        assert cancels(account, job) == "attempted"
        assert account.status(job) == "pending"

    def test_a_part_of_it_was_delivered(self, account: Account) -> None:
        job = account.staged(a=1, b=2, c=3)
        small = account.limited(max_attributes=2)
        assert account.settle(small.claim())
        assert account.status(job) == "pending"
        assert cancels(account, job) == "attempted"
        assert len(account.deliver_all()) == 1
        assert account.status(job) == "delivered"

    def test_a_worker_died_while_it_sent_it(self, account: Account) -> None:
        """Nobody knows whether ChartMogul has it."""
        job = account.staged(plan="pro")
        account.claim()
        account.clock.time_passes(61)
        account.health.look(1)
        assert cancels(account, job) == "sending", "the lease is over, and nobody has looked yet"
        other = account.staged(BOB, plan="pro")
        assert [each.job_id for each in account.claim().jobs] == [other.job_id]
        assert cancels(account, job) == "attempted", "it is due again"
        claim = account.claim()
        account.settle(claim, "pending", fields={"attempts": 0})  # a 429
        assert cancels(account, job) == "attempted"

    @pytest.mark.parametrize("status", ["delivered", "superseded", "refused", "invalid"])
    def test_it_is_settled(self, account: Account, status: str) -> None:
        job = account.staged(plan="pro")
        if status == "superseded":
            account.staged(plan="max")
        else:
            account.settle(account.claim(), status)  # type: ignore[arg-type]
        found = account.removal.cancel(job.job_id)
        assert cancels(account, job) == "settled"
        assert found.outcome == account.outcome(job)
        assert found.summary() == f"not canceled: it is settled: {found.outcome.summary()}"

    def test_it_is_unknown(self, account: Account) -> None:
        before = account.state()
        found = account.removal.cancel(new_job_id())
        assert (found.result, found.outcome) == ("unknown", None)
        assert account.removal.cancel("…").result == "unknown"
        assert account.state() == before


def test_who_waits_for_it_is_told(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attribute_courier.state.outcomes._LOOK_AGAIN_S", 600)
    for job in (account.job(plan="pro"), account.staged(BOB, plan="pro")):

        def cancel(job: AttributeJob = job) -> None:
            channel = KEYS.of("settled", job.job_id)
            wait_until(lambda: account.client.pubsub_numsub(channel)[0][1])
            account.removal.cancel(job.job_id)

        with meanwhile(cancel):
            found = account.outcomes.wait(job.job_id, 10)
        assert found is not None
        assert found.status == "canceled"


def test_a_job_that_is_staged_between_two_looks_is_found_in_its_mailbox(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(client, on_test_time(client, monkeypatch))
    job = account.job(plan="pro")
    cancel = account.removal._cancel
    asked = []

    def staged_first(**arg: object) -> object:
        if not asked:
            account.stage(job)
            arg.pop("mailbox")
        asked.append(arg)
        return cancel(**arg)

    monkeypatch.setattr(account.removal, "_cancel", staged_first)
    assert account.removal.cancel(job.job_id).canceled
    assert len(asked) == 2
    account.assert_nothing_is_left()
    assert account.deliver_all() == []
