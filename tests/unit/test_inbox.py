"""The inbox: jobs that no worker has accepted yet."""

from __future__ import annotations

import pytest

from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import Lane
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.state.inbox import Entry, Known

from ..account_state import ADA, BOB, KEYS, RETENTION_S, Account


def entry(key: str | None = None, content: str = "c") -> Entry:
    return Entry(job_id=new_job_id(), wire="{}", idempotency_key=key, content=content)


class TestPut:
    def test_keeps_the_order_of_arrival(self, account: Account) -> None:
        entries = [entry() for _ in range(20)]
        account.inbox.put("live", entries[::-1])
        assert account.take() == [each.job_id for each in entries[::-1]]
        arrivals = [each.arrived_us for each in account.taken.values()]
        assert arrivals == sorted(set(arrivals)), "no two alike"
        assert arrivals[0] == account.clock.us

    def test_wakes_a_worker_once(self, account: Account) -> None:
        assert account.inbox.put("live", [entry(), entry()]).wake
        assert not account.inbox.put("live", [entry()]).wake
        assert account.inbox.put("bulk", [entry()]).wake, "another lane"
        account.take()
        assert account.inbox.put("live", [entry()]).wake

    def test_of_a_known_idempotency_key_names_the_first_job(self, account: Account) -> None:
        first, second = entry("k"), entry("k")
        assert account.inbox.put("live", [first]).known == {}
        found = account.inbox.put("live", [entry(), second])
        assert found.known == {1: Known(job_id=first.job_id, conflict=False)}
        assert second.job_id not in account.in_inbox()

    def test_of_a_known_key_with_other_content_is_a_conflict(self, account: Account) -> None:
        first, other = entry("k", "one"), entry("k", "two")
        account.inbox.put("live", [first])
        found = account.inbox.put("live", [other])
        assert found.known == {0: Known(job_id=first.job_id, conflict=True)}
        assert not found.wake
        assert account.in_inbox() == {first.job_id}

    def test_finds_a_conflict_also_within_one_call(self, account: Account) -> None:
        first = entry("k", "one")
        found = account.inbox.put("live", [first, entry("k", "two"), entry("k", "one")])
        assert found.known == {
            1: Known(job_id=first.job_id, conflict=True),
            2: Known(job_id=first.job_id, conflict=False),
        }

    def test_keeps_idempotency_keys_for_the_retention_and_not_in_clear(
        self, account: Account
    ) -> None:
        account.inbox.put("live", [entry("secret")])
        (name,) = account.client.keys(KEYS.of("idem", "*"))
        assert "secret" not in name
        assert 0 < account.client.ttl(name) <= RETENTION_S

    def test_twice_changes_nothing(self, account: Account) -> None:
        job = entry("k")
        account.inbox.put("live", [job])
        after = account.state()
        again = account.inbox.put("live", [job])
        assert again.known == {0: Known(job_id=job.job_id, conflict=False)}
        assert account.state() == after

    def test_brings_no_job_back_that_was_accepted(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.put(job)
        assert account.in_inbox() == set()
        account.deliver_all()
        account.put(job)
        assert account.in_inbox() == set()


class TestTake:
    def test_gives_the_document(self, account: Account) -> None:
        job = account.job(plan="pro")
        assert account.take() == [job.job_id]
        assert account.taken[job.job_id].wire == dump_wire(job)
        assert account.take() == []

    def test_gives_live_jobs_first_and_bulk_its_share(self, account: Account) -> None:
        lanes: tuple[Lane, Lane] = ("bulk", "live")
        jobs = {lane: [account.job(lane=lane, n=n).job_id for n in range(20)] for lane in lanes}
        assert account.take(limit=10) == [*jobs["live"][:9], jobs["bulk"][0]]
        assert account.take(limit=10) == [*jobs["live"][9:18], jobs["bulk"][1]]
        assert account.take(limit=10) == [*jobs["live"][18:], *jobs["bulk"][2:10]]

    def test_gives_all_to_live_jobs_while_no_bulk_waits(self, account: Account) -> None:
        jobs = [account.job(n=n).job_id for n in range(12)]
        assert account.take(limit=10) == jobs[:10]

    def test_gives_again_what_stays_in_its_old_order(self, account: Account) -> None:
        first, second = account.job(n=1), account.job(n=2)
        assert account.take(limit=1, within_s=5) == [first.job_id]
        arrived_us = account.taken[first.job_id].arrived_us
        account.clock.time_passes(4)
        third = account.job(n=3)
        assert account.take(limit=1) == [second.job_id]
        account.clock.time_passes(1)
        assert account.take() == [first.job_id, third.job_id]
        assert account.taken[first.job_id].arrived_us == arrived_us

    @pytest.mark.parametrize("ahead_s", [60, 3600, 10**9, -(10**9)])
    def test_takes_a_strange_arrival_as_now(self, account: Account, ahead_s: int) -> None:
        """RC12: a publisher of another language wrote it."""
        job = account.job(n=1)
        score = account.clock.us + ahead_s * 1_000_000
        account.client.zadd(KEYS.of("inbox:live"), {job.job_id: score})
        account.take()
        assert account.taken[job.job_id].arrived_us == account.clock.us
        assert account.stage(job) == "staged"

    def test_reads_milliseconds(self, account: Account) -> None:
        job = account.job(n=1)
        arrived_ms = account.clock.us // 1000 - 50
        account.client.zadd(KEYS.of("inbox:live"), {job.job_id: arrived_ms})
        account.take()
        assert account.taken[job.job_id].arrived_us == arrived_ms * 1000

    @pytest.mark.parametrize("back_s", [1, 30, 59])
    def test_keeps_the_order_over_a_step_back(self, account: Account, back_s: int) -> None:
        """Whoever came later is newer, also where Redis's clock says otherwise."""
        first = account.job(plan="free")
        account.clock.step(-back_s)
        second = account.job(plan="pro")
        assert account.take() == [first.job_id, second.job_id]
        assert account.stage(second) == "staged"
        assert account.stage(first) == "superseded"

    def test_takes_arrivals_as_they_come_after_a_long_step_back(self, account: Account) -> None:
        job = account.staged(plan="free")
        account.clock.step(-3600)
        later = account.job(plan="pro")
        assert account.stage(later) == "staged"
        assert account.status(job) == "superseded"


class TestAnArrivalWithoutADocument:
    """Another language's publisher forgot the other half."""

    def test_is_taken_so_that_its_outcome_tells(self, account: Account) -> None:
        job_id = new_job_id()
        account.client.zadd(KEYS.of("inbox", "live"), {job_id: 1})
        assert account.take() == [job_id]
        assert account.taken[job_id].wire == ""
        assert account.inbox.reject(account.taken[job_id], "no document")
        account.assert_nothing_is_left()

    def test_of_a_known_job_is_dropped(self, account: Account) -> None:
        settled = account.staged(BOB, plan="pro")
        account.deliver_all()
        pending = account.staged(plan="pro")
        for job in (pending, settled):
            account.client.zadd(KEYS.of("inbox", "live"), {job.job_id: 1})
        assert account.take() == []


class TestReject:
    def test_records_what_is_no_job(self, account: Account) -> None:
        account.inbox.put("bulk", [Entry(job_id="garbage", wire="{")])
        account.take()
        assert account.inbox.reject(account.taken["garbage"], "the document is not JSON")
        outcome = account.outcomes.get("garbage")
        assert outcome is not None
        assert (outcome.status, outcome.message) == ("invalid", "the document is not JSON")
        assert account.outcomes.recent() == [outcome]
        assert account.inbox.waiting() == 0
        account.assert_nothing_is_left()

    def test_lists_it_under_its_email_where_that_is_known(self, account: Account) -> None:
        job = account.job(plan="pro")
        account.take()
        account.inbox.reject(account.taken[job.job_id], "bad", email=ADA)
        (outcome,) = account.outcomes.of_email(ADA)
        assert (outcome.job_id, outcome.email) == (job.job_id, ADA)

    def test_changes_no_outcome_that_is_there(self, account: Account) -> None:
        job = account.staged(plan="pro")
        assert not account.inbox.reject(account.taken[job.job_id], "bad")
        assert account.status(job) == "pending"
        account.deliver_all()
        assert not account.inbox.reject(account.taken[job.job_id], "bad")
        assert account.status(job) == "delivered"

    @pytest.mark.parametrize("job_id", [" ", "ß😀", "a:b", "{other}", "%s", "1", "x" * 10_000])
    def test_takes_ids_of_any_form(self, account: Account, job_id: str) -> None:
        account.inbox.put("live", [Entry(job_id=job_id, wire="{")])
        account.take()
        assert account.inbox.reject(account.taken[job_id], "no job")
        outcome = account.outcomes.get(job_id)
        assert outcome is not None
        assert outcome.status == "invalid"
        assert account.inbox.waiting() == 0

    def test_twice_changes_nothing(self, account: Account) -> None:
        job = account.job(plan="pro")
        account.take()
        assert account.inbox.reject(account.taken[job.job_id], "bad", email=ADA)
        after = account.state()
        assert not account.inbox.reject(account.taken[job.job_id], "bad", email=ADA)
        assert account.state() == after
