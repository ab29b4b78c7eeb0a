"""Nothing in Redis holds an email or its values once it is forgotten, whatever happens then."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from attribute_courier.jobs.emails import mailbox_id_of
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.removal import Forgotten
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.state.inbox import Entry
from attribute_courier.state.removal import LATE_S
from attribute_courier.worker.policy import Policy
from attribute_courier.worker.settlement import settle
from attribute_courier.worker.verdicts import Kind, Verdict

from ..account_state import BOB, KEYS, Account, is_fake
from ..everything import holding

EVA = "Eva.Secret@bücher.example"
SPELLINGS = [EVA, "EVA.SECRET@BÜCHER.example", "eva.secret@xn--bcher-kva.EXAMPLE"]
VALUE = "planted-value"
CUSTOMER = "planted-customer"
WORDS = ["eva.secret", "bücher", "b\\u00fccher", "xn--bcher", VALUE, CUSTOMER]
POLICY = Policy(
    confirm="echo",
    unmatched_delays_s=(300,),
    unconfirmed_delays_s=(60,),
    give_up_after_s=86_400,
    timeout_s=2,
)


def wire(email: str = EVA, **changes: Any) -> str:
    document = {
        "v": 1,
        "email": email,
        "attributes": [{"type": "String", "key": "plan", "value": VALUE}],
    }
    return json.dumps(document | changes)


def put(account: Account, text: str, lane: Any = "live") -> str:
    job_id = new_job_id()
    account.inbox.put(lane, [Entry(job_id=job_id, wire=text)])
    return job_id


def forgets(account: Account, email: str = EVA) -> Forgotten:
    """Forget an email; afterwards nothing holds it, and to forget it twice changes nothing."""
    found = account.removal.forget(email)
    assert holding(account.client, *WORDS) == {}
    again = account.removal.forget(email)
    assert again == Forgotten(account="default", under_way=found.under_way)
    assert holding(account.client, *WORDS) == {}
    return found


def settled(account: Account, status: Any, email: str = EVA) -> AttributeJob:
    """A job that came to its end, with all that an outcome may hold."""
    job = account.staged(email, plan=VALUE)
    fields = {
        "http_status": 422,
        "message": f"{VALUE} is no plan",
        "customers": json.dumps([["cus_1", CUSTOMER]]),
        "document": dump_wire(job),
    }
    assert account.settle(account.claim(), status, fields=fields)
    return job


class TestWhatWaits:
    @pytest.mark.parametrize("lane", ["live", "bulk"])
    @pytest.mark.parametrize("email", SPELLINGS)
    @pytest.mark.parametrize("taken", [False, True])
    def test_in_the_inbox(self, account: Account, lane: Any, email: str, taken: bool) -> None:
        job, other = account.job(email, lane=lane, plan=VALUE), account.job(BOB, plan="pro")
        if taken:
            account.take()
        assert forgets(account) == Forgotten(account="default", canceled=1)
        found = account.outcome(job)
        assert (found.status, found.email, found.keys) == ("canceled", None, ())
        assert account.counted() == {"canceled": 1}
        assert account.in_inbox() == {other.job_id}
        if taken:
            staged = account.boxes.stage(
                [(account.taken[each.job_id], each) for each in (job, other)]
            )
            assert [each.result for each in staged] == ["known", "staged"]
        else:
            account.stage(other)
        assert holding(account.client, *WORDS) == {}
        assert account.deliver_all() == [{"plan": "pro"}]
        account.assert_nothing_is_left()

    @pytest.mark.parametrize(
        "text",
        [
            wire(v=2),
            wire(v=2, email=None, customer={"addresses": [EVA]}),
            wire(v=2, email=None, note=f"for <{EVA.upper()}>, urgent"),
            wire().replace("@", "\\u0040"),
            wire(attributes=[]),
            wire()[:-3],
            wire().replace("@", "\\u0040")[:-3],
            wire().replace('"v"', '"email": "bob@example.com", "v"'),
            json.dumps([EVA, VALUE]),
            json.dumps({"email": 7, EVA: VALUE}, ensure_ascii=False),
        ],
    )
    def test_in_the_inbox_as_a_document_that_no_worker_here_can_read(
        self, account: Account, text: str
    ) -> None:
        job_id = put(account, text)
        account.take()
        assert forgets(account).canceled == 1
        assert not account.inbox.reject(account.taken[job_id], "no job", email=EVA)
        assert holding(account.client, *WORDS) == {}
        account.assert_nothing_is_left()

    def test_that_somebody_put_into_the_inbox_once_more(self, account: Account) -> None:
        """As a publisher may that writes the keys itself."""
        for job in (account.staged(EVA, plan=VALUE), settled(account, "refused")):
            account.client.hset(KEYS.inbox, job.job_id, dump_wire(job))
            account.client.zadd(KEYS.of("inbox:live"), {job.job_id: 1})
            forgets(account)
            account.assert_nothing_is_left()

    @pytest.mark.parametrize("lane", ["live", "bulk"])
    def test_in_its_mailbox(self, account: Account, lane: Any) -> None:
        for email in SPELLINGS:
            account.staged(email, lane=lane, plan=VALUE, age=7)
        account.staged(EVA, nps=7)
        assert forgets(account).canceled == 2
        assert account.counted() == {"superseded": 2, "canceled": 2}
        assert account.box(EVA) == {}
        assert account.deliver_all() == []
        account.assert_nothing_is_left()

    @pytest.mark.parametrize("kind", [Kind.SERVER, Kind.UNMATCHED, Kind.ACCOUNT, Kind.CONTENT])
    def test_that_was_tried(self, account: Account, kind: Kind) -> None:
        account.staged(EVA, plan=VALUE)
        account.staged(EVA, nps=7)
        claim = account.claim()
        verdict = Verdict(kind=kind, http_status=500, may_still_act=kind is Kind.SERVER)
        account.carry_out(claim, settle(verdict, claim, POLICY, reason=VALUE), kind)
        assert forgets(account).canceled == 2
        account.health.resume()
        assert account.claimed() == []
        account.assert_nothing_is_left()

    def test_the_next_one_waits_where_a_lost_request_may_still_act(self, account: Account) -> None:
        account.staged(EVA, plan=VALUE)
        account.fails(account.claim(), retry_s=30, rest_s=30)
        forgets(account)
        account.staged(EVA, plan="max")
        assert account.claimed() == []
        account.clock.time_passes(30)
        assert account.deliver_all() == [{"plan": "max"}]

    def test_a_record_that_nothing_points_to(self, account: Account) -> None:
        job = account.staged(EVA, plan=VALUE)
        account.client.delete(*account.client.keys(KEYS.of("mailbox", "*")))
        account.client.delete(KEYS.of("due:live"))
        assert forgets(account).canceled == 1
        assert account.status(job) == "canceled"
        account.assert_nothing_is_left()

    def test_keys_that_something_else_wrote(self, account: Account) -> None:
        settled(account, "delivered")
        for name in account.client.keys(KEYS.of("email", "*")):
            account.client.delete(name)
            account.client.set(name, EVA)
            account.client.set(name.replace("email:", "mailbox:"), EVA)
        forgets(account)


class TestWhatIsUnderWay:
    ANSWERS = (
        Verdict(kind=Kind.TAKEN, http_status=200, shown=({"plan": VALUE},)),
        Verdict(kind=Kind.TAKEN, http_status=200),
        Verdict(kind=Kind.CONTENT, http_status=422, message=VALUE),
        Verdict(kind=Kind.UNMATCHED, http_status=404),
        Verdict(kind=Kind.SERVER, http_status=500),
        Verdict(kind=Kind.SERVER, may_still_act=True),
        Verdict(kind=Kind.PACE, http_status=429),
        None,
    )

    @pytest.mark.parametrize("answer", ANSWERS)
    def test_its_answer_writes_nothing(self, account: Account, answer: Verdict | None) -> None:
        job = account.staged(EVA, plan=VALUE)
        claim = account.claim()
        assert forgets(account) == Forgotten(account="default", canceled=1, under_way=True)
        assert account.size("leases") == 1, "its place in flight is not free yet"
        if answer is None:
            assert account.boxes.give_back(claim)
        else:
            settlement = settle(answer, claim, POLICY, reason="")
            done = account.carry_out(claim, settlement, answer.kind)
            assert (done.held, done.outcomes) == (False, ())
        assert holding(account.client, *WORDS) == {}
        account.health.resume()
        assert account.claimed() == []
        account.assert_nothing_is_left()
        assert account.status(job) == "canceled"
        assert account.counted() == {"canceled": 1}

    def test_of_an_email_that_failed_before(self, account: Account) -> None:
        account.staged(EVA, plan=VALUE)
        account.fails(account.claim())
        claim = account.claim()
        assert account.size("leases:failing") == 1
        forgets(account)
        assert not account.fails(claim)
        account.assert_nothing_is_left()

    def test_by_a_worker_that_died(self, account: Account) -> None:
        account.staged(EVA, plan=VALUE)
        claim = account.claim()
        forgets(account)
        account.clock.time_passes(61)
        assert account.claimed() == []
        account.assert_nothing_is_left()
        assert not account.settle(claim)
        assert holding(account.client, *WORDS) == {}

    @pytest.mark.parametrize("answered", [True, False])
    def test_a_new_job_waits_for_its_end(self, account: Account, answered: bool) -> None:
        """Never two requests in flight for one email, and the newest wins."""
        account.staged(EVA, plan=VALUE)
        claim = account.claim()
        forgets(account)
        job = account.staged(EVA, plan="max")
        assert account.claimed() == []
        if answered:
            assert not account.settle(claim)
        else:
            account.clock.time_passes(61)
        assert account.deliver_all() == [{"plan": "max"}]
        assert account.status(job) == "delivered"
        account.assert_nothing_is_left()

    def test_a_new_job_is_canceled_and_the_next_one_waits_for_its_end(
        self, account: Account
    ) -> None:
        account.staged(EVA, plan=VALUE)
        claim = account.claim()
        forgets(account)
        assert account.removal.cancel(account.staged(EVA, plan="max").job_id).canceled
        account.staged(EVA, plan="free")
        assert account.claimed() == []
        assert not account.settle(claim)
        assert account.deliver_all() == [{"plan": "free"}]
        account.assert_nothing_is_left()

    def test_a_new_job_waits_where_the_request_was_lost(self, account: Account) -> None:
        account.staged(EVA, plan=VALUE)
        claim = account.claim()
        forgets(account)
        account.staged(EVA, plan="max")
        account.fails(claim, retry_s=30, rest_s=30)
        assert account.claimed() == []
        account.clock.time_passes(30)
        assert account.deliver_all() == [{"plan": "max"}]


class TestWhatIsSettled:
    @pytest.mark.parametrize("status", ["delivered", "refused", "unmatched", "failed"])
    def test_its_status_and_times_are_left(self, account: Account, status: Any) -> None:
        job = settled(account, status)
        before = account.outcome(job)
        ttl_s = account.client.ttl(KEYS.of("outcome", job.job_id))
        assert forgets(account).outcomes == 1
        assert account.outcome(job) == replace(
            before, email=None, keys=(), message=None, customers=()
        )
        assert ttl_s - 60 < account.client.ttl(KEYS.of("outcome", job.job_id)) <= ttl_s
        assert account.outcomes.of_email(EVA) == []
        assert not account.health.replay(job.job_id)
        assert account.counted() == {status: 1}
        account.assert_nothing_is_left()

    def test_more_than_the_history_lists(self, account: Account) -> None:
        jobs = [settled(account, "refused", SPELLINGS[n % 3]) for n in range(103)]
        other = settled(account, "refused", BOB)
        account.removal.forget(EVA)
        assert set(holding(account.client, *WORDS)) == set(holding(account.client, BOB)), (
            "that is the other one's"
        )
        assert account.outcome(jobs[0]).email is None
        assert account.outcome(other).email == BOB

    def test_as_invalid(self, account: Account) -> None:
        job_id = put(account, wire(attributes=[]))
        account.take()
        assert account.inbox.reject(account.taken[job_id], "no attributes", email=EVA.upper())
        assert forgets(account).outcomes == 1

    def test_a_replay_comes_back_while_it_is_forgotten(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = settled(account, "refused")
        account.client.delete(KEYS.of("email", mailbox_id_of(EVA)))  # as if 100 others came since
        scan = account.removal._scan

        def replayed(start: str) -> Any:
            assert account.health.replay(job.job_id) or start
            yield from scan(start)

        monkeypatch.setattr(account.removal, "_scan", replayed)
        account.removal.forget(EVA)
        assert holding(account.client, *WORDS) == {}
        assert account.status(job) == "canceled"

    def test_what_was_delivered_last_is_not_known_any_more(self, account: Account) -> None:
        settled(account, "delivered")
        assert forgets(account).values == 1
        job = account.job(EVA, only_changed=True, plan=VALUE)
        assert account.stage(job) == "staged"

    def test_an_idempotency_key_names_its_job_without_a_digest(self, account: Account) -> None:
        job, other = account.job(EVA, plan=VALUE), account.job(BOB, plan=VALUE)
        entries = [
            Entry(job_id=each.job_id, wire=dump_wire(each), idempotency_key=each.email, content="c")
            for each in (job, other)
        ]
        account.inbox.put("live", entries)
        account.removal.forget(EVA)
        found = account.inbox.put("live", [replace(entries[0], job_id=new_job_id(), content="d")])
        assert (found.known[0].job_id, found.known[0].conflict) == (job.job_id, False)
        found = account.inbox.put("live", [replace(entries[1], job_id=new_job_id(), content="d")])
        assert found.known[0].conflict, "the other one's digest is still there"
        names = account.client.keys(KEYS.of("idem", "*"))
        assert sorted(map(len, map(account.client.get, names))) == [36, 38]
        assert all(account.client.ttl(name) > 0 for name in names)


class TestWhatComesLate:
    def test_a_retry_that_says_it_occurred_before_is_canceled(self, account: Account) -> None:
        settled(account, "delivered")
        forgets(account)
        job = account.job(EVA, ago_s=60, plan=VALUE)
        assert account.stage(job) == "forgotten"
        found = account.outcome(job)
        assert (found.status, found.email, found.keys) == ("canceled", None, ())
        assert holding(account.client, *WORDS) == {}
        account.assert_nothing_is_left()

    def test_what_occurred_since_then_is_sent(self, account: Account) -> None:
        forgets(account)
        account.clock.step(1)
        for job in (account.job(EVA, ago_s=0.5, age=7), account.job(EVA, plan="max")):
            assert account.stage(job) == "staged"
        assert account.deliver_all() == [{"age": 7, "plan": "max"}]

    def test_another_email_is_not_late(self, account: Account) -> None:
        forgets(account)
        assert account.stage(account.job(BOB, ago_s=60, plan="pro")) == "staged"

    def test_for_a_day_and_no_longer(self, account: Account) -> None:
        forgets(account)
        (name,) = account.client.keys(KEYS.of("forgotten", "*"))
        assert LATE_S - 60 < account.client.ttl(name) <= LATE_S
        account.client.delete(name)
        assert account.stage(account.job(EVA, ago_s=60, plan="pro")) == "staged"


def test_other_emails_are_untouched(account: Account) -> None:
    """Everywhere at once; also an email that only resembles it."""
    emails = [BOB, "secret@bücher.example", "eva.secret@xn--bcher-kva.example.org", EVA]
    own: list[str] = [mailbox_id_of(EVA)]
    for email in emails:
        jobs = [settled(account, "refused", email), account.staged(email, plan=VALUE)]
        account.settle(account.claim(), "pending", retry_s=300, waits=True)
        jobs += [account.staged(email, lane="bulk", age=7)]
        own += [job.job_id for job in jobs if email == EVA]
    inbox = {email: account.job(email, plan=VALUE).job_id for email in emails}
    own.append(inbox[EVA])

    def of_others() -> dict[str, Any]:
        state = account.state("outcomes", "types", "ledger", "pace", "clock", "arrivals", "counts")
        return {
            name: [each for each in _entries(content) if not any(word in each for word in own)]
            for name, content in state.items()
            if not any(word in name for word in [*own, "counts:"])
        }

    before = of_others()
    assert account.removal.forget(EVA).canceled == 3
    assert of_others() == before
    assert account.health.status().inbox == 3
    assert account.counted() == {"refused": 4, "canceled": 3}


def _entries(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return sorted(map(str, content.items() if isinstance(content, dict) else content))


def test_an_email_that_nobody_knows(account: Account) -> None:
    settled(account, "delivered", BOB)
    before = account.state()
    assert not account.removal.forget(EVA).anything
    tombstone = set(account.state()) - set(before)
    assert {name.split(":")[2] for name in tombstone} == {"forgotten"}
    assert {name: account.state()[name] for name in before} == before


def test_each_account_by_itself(account: Account) -> None:
    settled(account, "refused")
    assert forgets(account).account == "default"


class TestWhatIsDamaged:
    """It costs the email nothing of its right to be forgotten."""

    @pytest.mark.parametrize("damage", ["no JSON", "another type"])
    def test_an_outcome_of_the_history(self, account: Account, damage: str) -> None:
        first = account.staged(EVA, plan=VALUE)
        account.deliver_all()
        waiting = account.staged(EVA, plan=VALUE)
        key = KEYS.of("outcome", first.job_id)
        account.client.delete(key)
        if damage == "no JSON":
            account.client.set(key, f"{EVA} {VALUE}")
        else:
            account.client.rpush(key, EVA)
        assert account.removal.forget(EVA).canceled == 1
        assert holding(account.client, *WORDS) == {}
        assert account.status(waiting) == "canceled"

    def test_the_record_of_a_job_that_waits(self, account: Account) -> None:
        waiting = account.staged(EVA, plan=VALUE)
        key = KEYS.of("job", waiting.job_id)
        account.client.delete(key)
        account.client.rpush(key, EVA)
        account.removal.forget(EVA)
        assert holding(account.client, *WORDS) == {}


def test_late_jobs_are_known_for_a_day_whatever_is_delivered_meanwhile(account: Account) -> None:
    account.staged(EVA, plan=VALUE)
    account.removal.forget(EVA)
    key = KEYS.of("forgotten", mailbox_id_of(EVA))
    assert LATE_S - 60 < account.client.ttl(key) <= LATE_S
    account.staged(EVA, plan=VALUE)
    account.deliver_all()
    assert account.client.ttl(key) <= LATE_S
    account.client.delete(key)  # the day is over
    assert account.stage(account.job(EVA, ago_s=3600, other=VALUE)) == "staged"


def test_an_answer_that_was_lost_leaves_no_digest_behind(account: Account) -> None:
    job = account.job(EVA, plan=VALUE)
    entry = Entry(job_id=job.job_id, wire=dump_wire(job), idempotency_key="k", content="digest")
    account.inbox.put("live", [entry])
    account.stage(job)
    account.deliver_all()
    forget = account.removal._forget

    def twice(**arg: Any) -> Any:
        forget(**arg)
        return forget(**arg)

    account.removal._forget = twice  # type: ignore[assignment]
    account.removal.forget(EVA)
    [name] = account.client.keys(KEYS.of("idem", "*")) or [""]
    assert not name or account.client.get(name) == job.job_id


def test_on_a_full_redis(account: Account) -> None:
    if is_fake(account.client):
        pytest.skip("it is never full")
    account.staged(EVA, plan=VALUE)
    second = account.staged(BOB, plan="pro")
    account.client.config_set("maxmemory", "1")
    try:
        assert account.removal.forget(EVA).canceled == 1
        assert account.removal.cancel(second.job_id).canceled
        account.health.resume()
    finally:
        account.client.config_set("maxmemory", "0")
    assert holding(account.client, *WORDS) == {}
