"""What a verdict means for each job of a delivery, and for its mailbox."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from attribute_courier.config import load_settings
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.outcome import Status
from attribute_courier.jobs.schema import load_wire
from attribute_courier.state.mailboxes import (
    Claim,
    JobResult,
    PendingJob,
    Settlement,
    Value,
)
from attribute_courier.state.outcomes import MAX_ID
from attribute_courier.worker.settlement import (
    BACKOFF_CAP_S,
    LONGEST_BREAK_S,
    MANY_JOBS,
    Jitter,
    Policy,
)
from attribute_courier.worker.settlement import settle as settle_with_reason
from attribute_courier.worker.verdicts import Kind, Verdict

ADA = "ada@example.com"
A = "01a2082a-52c7-7d95-a474-00000000000a"
B = "01a2082a-52c7-7d95-a474-00000000000b"
HOUR_S = 3600
NOW_US = 1_772_357_400_000_000
POLICY = Policy(
    confirm="echo",
    unmatched_delays_s=(300, 3_600, 21_600, 86_400),
    unconfirmed_delays_s=(60,),
    give_up_after_s=86_400,
    timeout_s=10,
)


def value(key: str, content: object, job_id: str = A, type_: str = "String") -> Value:
    version = f"{NOW_US - 1_000_000:016d}{job_id}"
    return Value(version=version, attribute=Attribute.of(type_, content, key=key))


PLAN = value("plan", "pro")
SEATS = value("seats", 12, B, "Integer")


def claim(
    *jobs: PendingJob,
    values: tuple[Value, ...] = (PLAN,),
    now_us: int = NOW_US,
    failures: int = 0,
    batch: int = 0,
) -> Claim:
    return Claim(
        mailbox_id="mailbox",
        token="token",
        email=ADA,
        now_us=now_us,
        account_us=now_us,
        claimed_s=0,
        answered_s=0.0,
        failures=failures,
        batch=batch,
        values=values,
        jobs=jobs or (PendingJob(job_id=A),),
    )


MERGED = claim(PendingJob(job_id=A), PendingJob(job_id=B), values=(PLAN, SEATS))


def many(count: int, **more: Any) -> Claim:
    """A claim for so many jobs, with a value each."""
    ids = [f"01a2082a-52c7-7d95-a474-{n:012}" for n in range(count)]
    values = tuple(value(f"k{n}", n, job_id, "Integer") for n, job_id in enumerate(ids))
    return claim(*(PendingJob(job_id=job_id) for job_id in ids), values=values, **more)


def customer(**custom: Any) -> dict[str, Any]:
    return {"uuid": "cus_1", "external_id": "cus_0001", "attributes": {"custom": custom}}


def taken(*entries: Any) -> Verdict:
    shown = [
        entry["attributes"]["custom"]
        for entry in entries
        if isinstance(entry, dict) and "attributes" in entry
    ]
    return Verdict(kind=Kind.TAKEN, http_status=200, entries=entries, shown=tuple(shown))


UNMATCHED = Verdict(kind=Kind.UNMATCHED, http_status=404, message="none found")
REFUSED = Verdict(kind=Kind.CONTENT, http_status=422, message="is bad")
FAILED = Verdict(kind=Kind.SERVER, http_status=500, message="oops")
LOST = Verdict(kind=Kind.SERVER, message="no answer in time", may_still_act=True)
REVOKED = Verdict(kind=Kind.ACCOUNT, http_status=401, message="no valid key")
TOO_FAST = Verdict(kind=Kind.PACE, http_status=429, message="too fast")


def settle(
    verdict: Verdict, claimed: Claim, policy: Policy = POLICY, jitter: Jitter | None = None
) -> Settlement:
    """With the verdict's own words, in which nothing is private here."""
    reason = verdict.message or ""
    if jitter is None:
        return settle_with_reason(verdict, claimed, policy, reason=reason)
    return settle_with_reason(verdict, claimed, policy, reason=reason, jitter=jitter)


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def only(settlement: Settlement) -> JobResult:
    (result,) = settlement.jobs
    return result


def statuses(settlement: Settlement) -> dict[str, Status]:
    return {result.job_id: result.status for result in settlement.jobs}


def later(result: JobResult, *, now_us: int) -> Claim:
    """The job's next claim: it remembers what its outcome notes."""
    noted = result.fields
    since = noted["failing_since"]
    job = PendingJob(
        job_id=result.job_id,
        attempts=int(noted.get("attempts", 0)),
        unmatched=int(noted.get("unmatched", 0)),
        unmatched_until_us=int(noted.get("unmatched_until", 0)),
        unconfirmed=int(noted.get("unconfirmed", 0)),
        unconfirmed_until_us=int(noted.get("unconfirmed_until", 0)),
        failing_since_us=int(since) if since else None,
    )
    return claim(job, now_us=now_us)


@pytest.mark.parametrize(
    ("verdict", "single", "first", "second"),
    [
        (taken(customer(plan="pro", seats=12)), "delivered", "delivered", "delivered"),
        (taken(customer(plan="pro")), "delivered", "delivered", "pending"),
        (taken(customer()), "pending", "pending", "pending"),
        (UNMATCHED, "pending", "pending", "pending"),
        (REFUSED, "refused", "pending", "pending"),
        (FAILED, "pending", "pending", "pending"),
        (LOST, "pending", "pending", "pending"),
        (REVOKED, "pending", "pending", "pending"),
        (TOO_FAST, "pending", "pending", "pending"),
    ],
)
def test_each_verdict_on_one_job_and_on_two_in_one_request(
    verdict: Verdict, single: Status, first: Status, second: Status
) -> None:
    alone = settle(verdict, claim(), POLICY, highest)
    merged = settle(verdict, MERGED, POLICY, highest)
    assert statuses(alone) == {A: single}
    assert statuses(merged) == {A: first, B: second}
    assert alone.batch == 0
    assert merged.batch == (1 if verdict is REFUSED else 0), "halved until the culprit is alone"


class TestDelivered:
    def test_notes_who_has_the_email_and_when_it_was_sent(self) -> None:
        entries = (customer(plan="pro"), {"uuid": None}, "no customer", {"external_id": 8})
        result = only(settle(taken(*entries), claim(), POLICY))
        assert result.fields == {
            "attempts": 1,
            "sent": NOW_US,
            "http_status": 200,
            "reason": "",
            "message": "shown by 1 of 4 customers",
            "customers": '[["cus_1", "cus_0001"], [null, null], [null, null], [null, "8"]]',
            "failing_since": "",
        }

    def test_leaves_nothing_to_be_tried_again(self) -> None:
        settlement = settle(taken(customer(plan="pro")), claim(failures=5), POLICY)
        assert settlement.seen == settlement.taken == {"plan"}
        assert (settlement.retry_s, settlement.rest_s, settlement.failures) == (0, 0, 0)
        assert not settlement.waits

    @pytest.mark.parametrize(
        ("customers", "message"),
        [
            ([{"plan": "pro"}], ""),
            ([{"plan": "pro"}, {"plan": "pro"}], ""),
            ([{"plan": "pro"}, {"plan": "free"}], "shown by 1 of 2 customers"),
            ([{"plan": "pro"}, {}, {"plan": "pro"}], "shown by 2 of 3 customers"),
        ],
    )
    def test_says_where_not_all_customers_show_the_values(
        self, customers: list[dict[str, Any]], message: str
    ) -> None:
        result = only(settle(taken(*(customer(**custom) for custom in customers)), claim()))
        assert (result.status, result.fields["message"]) == ("delivered", message)

    def test_keeps_the_words_beside_the_customers(self) -> None:
        apart = taken(customer(plan="pro"), customer(plan="free"))
        said = replace(apart, message="one is closed")
        message = only(settle(said, claim())).fields["message"]
        assert message == "shown by 1 of 2 customers: one is closed"

    def test_keeps_no_document_to_replay(self) -> None:
        assert "document" not in only(settle(taken(customer(plan="pro")), claim())).fields

    def test_wants_each_value_shown_by_some_customer(self) -> None:
        values = (PLAN, value("age", 8, type_="Integer"))
        apart = taken(customer(plan="pro"), customer(age=8))
        assert only(settle(apart, claim(values=values), POLICY)).status == "delivered"
        half = taken(customer(plan="pro"), customer(age=9))
        assert only(settle(half, claim(values=values), POLICY)).status == "pending"

    @pytest.mark.parametrize(
        ("confirm", "nobody", "somebody"),
        [
            ("echo", "pending", "pending"),
            ("match", "pending", "delivered"),
            ("status", "delivered", "delivered"),
        ],
    )
    def test_by_what_the_settings_take_for_proof(
        self, confirm: str, nobody: Status, somebody: Status, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURIER_CONFIRM", confirm)
        policy = Policy.of(load_settings())
        assert only(settle(taken(), claim(), policy)).status == nobody
        assert only(settle(taken(customer()), claim(), policy)).status == somebody

    def test_a_customers_id_of_any_form_can_be_kept(self) -> None:
        strange: list[Any] = [
            ["\ud800"],
            {"a": 1},
            "\udcff\x1b[31m\u202e",
            "x" * 1_000_000,
            float("inf"),
            True,
        ]
        verdict = taken(*({"uuid": each, "external_id": each} for each in strange))
        customers = str(only(settle(verdict, claim(), POLICY)).fields["customers"])
        assert len(customers) < 2 * len(strange) * (MAX_ID + 10)
        for uuid, external_id in json.loads(customers):
            assert uuid == external_id
            assert uuid.encode()
            assert uuid.isprintable()


class TestUnconfirmed:
    def test_is_tried_once_more_after_a_minute(self) -> None:
        settlement = settle(taken(customer(plan="free")), claim(), POLICY)
        result = only(settlement)
        assert (result.status, settlement.retry_s, settlement.rest_s) == ("pending", 60, 0)
        assert result.fields["message"] == "ChartMogul answered without showing the values"
        again = later(result, now_us=NOW_US + 60_000_001)
        assert only(settle(taken(customer()), again, POLICY)).status == "unconfirmed"

    def test_does_not_lose_its_minute_to_a_newer_job(self) -> None:
        result = only(settle(taken(customer()), claim(), POLICY))
        early = settle(taken(customer()), later(result, now_us=NOW_US + 1_000_000), POLICY)
        assert only(early).status == "pending"
        assert early.retry_s == 59
        assert only(early).fields["attempts"] == 2

    def test_values_are_taken_but_not_seen(self) -> None:
        """ChartMogul may have them all the same: nothing older may follow."""
        settlement = settle(taken(customer(plan="pro")), MERGED, POLICY)
        assert settlement.taken == {"plan", "seats"}
        assert settlement.seen == {"plan"}

    def test_keeps_its_customers(self) -> None:
        result = only(settle(taken(customer()), claim(), POLICY))
        assert result.fields["customers"] == '[["cus_1", "cus_0001"]]'

    def test_keeps_the_words_beside_the_customers(self) -> None:
        said = replace(taken(customer()), message="is odd")
        message = only(settle(said, claim())).fields["message"]
        assert message == "ChartMogul answered without showing the values: is odd"


class TestUnmatched:
    def test_waits_as_long_as_the_settings_say_before_each_try_and_ends_then(self) -> None:
        now_us = NOW_US
        result = only(settle(UNMATCHED, claim(), POLICY))
        for delay_s in POLICY.unmatched_delays_s:
            settlement = settle(UNMATCHED, later(result, now_us=now_us), POLICY)
            assert settlement.rest_s == 0
            now_us += round(delay_s * 1e6)
            result = only(settle(UNMATCHED, later(result, now_us=now_us), POLICY))
        assert result.status == "unmatched"
        assert not settle(UNMATCHED, later(result, now_us=now_us)).waits
        assert now_us == NOW_US + (300 + 3_600 + 21_600 + 86_400) * 1_000_000

    @pytest.mark.parametrize(("tries", "delay_s"), [*enumerate(POLICY.unmatched_delays_s)])
    def test_is_tried_again_after_the_delay_of_its_turn(self, tries: int, delay_s: float) -> None:
        job = PendingJob(job_id=A, unmatched=tries, attempts=tries)
        settlement = settle(UNMATCHED, claim(job), POLICY)
        assert settlement.retry_s == delay_s
        assert settlement.waits, "a newer job of the email waits as well"
        assert only(settlement).fields["unmatched"] == tries + 1

    def test_does_not_lose_its_days_to_the_newer_jobs_of_a_busy_sign_up(self) -> None:
        """A request that is made before a job's own time counts as an attempt, and as no try."""
        result = only(settle(UNMATCHED, claim(), POLICY))
        for second in range(1, 20):
            early = later(result, now_us=NOW_US + second * 1_000_000)
            settlement = settle(UNMATCHED, early, POLICY)
            result = only(settlement)
            assert result.status == "pending"
            assert settlement.retry_s == 300 - second
        assert result.fields["unmatched"] == 1
        assert result.fields["attempts"] == 20

    def test_with_several_jobs_the_first_to_be_due_says_when(self) -> None:
        jobs = PendingJob(job_id=A, unmatched=2), PendingJob(job_id=B)
        settlement = settle(UNMATCHED, claim(*jobs, values=(PLAN, SEATS)), POLICY)
        assert settlement.retry_s == 300

    @pytest.mark.parametrize("behind_s", [1, 3600, 10**9])
    def test_does_not_wait_longer_than_its_delays_when_the_clock_steps_back(
        self, behind_s: int
    ) -> None:
        """Its time was noted by a clock that ran ahead."""
        job = PendingJob(job_id=A, unmatched=1, unmatched_until_us=NOW_US + behind_s * 1_000_000)
        settlement = settle(UNMATCHED, claim(job))
        assert settlement.retry_s == min(behind_s, max(POLICY.unmatched_delays_s))

    def test_that_showed_no_values_before_has_its_own_waiting_time(self) -> None:
        waiting = only(settle(UNMATCHED, claim(), POLICY))
        arrived = settle(taken(customer()), later(waiting, now_us=NOW_US + 1), POLICY)
        assert only(arrived).status == "pending"
        assert arrived.retry_s == 60


class TestRefused:
    def test_says_why(self) -> None:
        result = only(settle(REFUSED, claim(), POLICY))
        assert (result.fields["http_status"], result.fields["message"]) == (422, "is bad")

    @pytest.mark.parametrize(("jobs", "half"), [(2, 1), (3, 2), (5, 3), (100, 50)])
    def test_in_company_is_halved_until_the_culprit_is_alone(self, jobs: int, half: int) -> None:
        assert settle(REFUSED, many(jobs)).batch == half

    def test_alone_ends_the_search(self) -> None:
        assert settle(REFUSED, claim(batch=1)).batch == 0

    def test_in_company_is_tried_again_at_once(self) -> None:
        settlement = settle(REFUSED, MERGED, POLICY)
        assert (settlement.retry_s, settlement.rest_s, settlement.failures) == (0, 0, 0)
        assert not settlement.taken | settlement.seen


class TestBatch:
    """How many jobs the next request may carry, while a culprit is searched for."""

    @pytest.mark.parametrize("verdict", [taken(customer(plan="pro")), UNMATCHED])
    @pytest.mark.parametrize(
        ("batch", "grown"), [(0, 0), (1, 2), (3, 6), (127, 254), (128, 0), (MANY_JOBS, 0)]
    )
    def test_grows_by_what_went_well(self, verdict: Verdict, batch: int, grown: int) -> None:
        assert settle(verdict, claim(batch=batch)).batch == grown

    def test_is_not_halved_by_a_single_failure_of_the_server(self) -> None:
        assert settle(FAILED, many(8), POLICY, highest).batch == 0

    @pytest.mark.parametrize("verdict", [FAILED, LOST])
    def test_is_halved_when_the_server_fails_again(self, verdict: Verdict) -> None:
        assert settle(verdict, many(8, failures=1)).batch == 4
        assert settle(verdict, many(3, failures=5, batch=3)).batch == 2

    @pytest.mark.parametrize("verdict", [FAILED, REVOKED, TOO_FAST])
    def test_stays_otherwise(self, verdict: Verdict) -> None:
        assert settle(verdict, claim(batch=4, failures=5)).batch == 4


class TestFailedAlone:
    """A culprit that was found lets the other jobs of its email go first, and without it."""

    @pytest.mark.parametrize("verdict", [FAILED, LOST])
    def test_marks_the_culprit_when_the_search_has_found_it(self, verdict: Verdict) -> None:
        assert only(settle(verdict, claim(batch=1, failures=3))).failed_alone

    def test_says_nothing_where_no_search_goes_on(self) -> None:
        assert not only(settle(FAILED, claim(failures=3))).failed_alone

    def test_says_nothing_of_jobs_in_company(self) -> None:
        results = settle(FAILED, many(2, batch=2, failures=3)).jobs
        assert [result.failed_alone for result in results] == [False, False]

    @pytest.mark.parametrize("verdict", [FAILED, REVOKED, TOO_FAST])
    def test_stays_until_something_better_is_known(self, verdict: Verdict) -> None:
        job = PendingJob(job_id=A, failed_alone=True)
        assert only(settle(verdict, claim(job))).failed_alone

    def test_ends_with_an_answer(self) -> None:
        job = PendingJob(job_id=A, failed_alone=True)
        assert not only(settle(UNMATCHED, claim(job, batch=1))).failed_alone


class TestReplay:
    """Outcomes after which a job can be sent again keep what it asked for."""

    DAY_AGO = PendingJob(job_id=A, lane="bulk", failing_since_us=NOW_US - 86_400_000_000)
    NO_MORE_TRIES = PendingJob(job_id=A, lane="bulk", unmatched=4, unconfirmed=1)

    @pytest.mark.parametrize(
        ("verdict", "job", "status"),
        [
            (FAILED, DAY_AGO, "failed"),
            (REFUSED, NO_MORE_TRIES, "refused"),
            (UNMATCHED, NO_MORE_TRIES, "unmatched"),
            (taken(customer()), NO_MORE_TRIES, "unconfirmed"),
        ],
    )
    def test_the_document_is_the_job_as_it_may_be_asked_for_again(
        self, verdict: Verdict, job: PendingJob, status: Status
    ) -> None:
        values = (PLAN, value("seats", 12, type_="Integer"))
        result = only(settle(verdict, claim(job, values=values)))
        assert result.status == status
        again = load_wire(A, str(result.fields["document"]))
        assert (again.job_id, again.email, again.lane) == (A, ADA, "bulk")
        assert again.attributes == tuple(each.attribute for each in values)
        assert again.occurred_at == PLAN.occurred_at, "it replaces nothing that is newer"

    def test_of_several_jobs_each_keeps_its_own(self) -> None:
        jobs = (PendingJob(job_id=A, unmatched=4), PendingJob(job_id=B, unmatched=4))
        first, second = settle(UNMATCHED, claim(*jobs, values=(PLAN, SEATS))).jobs
        assert load_wire(A, str(first.fields["document"])).attributes == (PLAN.attribute,)
        assert load_wire(B, str(second.fields["document"])).attributes == (SEATS.attribute,)

    @pytest.mark.parametrize("verdict", [FAILED, UNMATCHED, taken(customer()), REVOKED])
    def test_a_pending_job_keeps_none(self, verdict: Verdict) -> None:
        assert "document" not in only(settle(verdict, claim())).fields


class TestServerFailures:
    @pytest.mark.parametrize(
        ("failures", "ceiling_s"), [(0, 1), (1, 2), (2, 4), (9, 512), (10, 600), (5000, 600)]
    )
    def test_back_off_with_full_jitter_up_to_ten_minutes(
        self, failures: int, ceiling_s: float
    ) -> None:
        asked: list[tuple[float, float]] = []

        def jitter(low: float, high: float) -> float:
            asked.append((low, high))
            return 0.25

        settlement = settle(FAILED, claim(failures=failures), POLICY, jitter)
        assert asked == [(0, ceiling_s)]
        assert ceiling_s <= BACKOFF_CAP_S
        assert settlement.retry_s == 0.25
        assert settlement.rest_s == 0.25, "a newer job waits as well: it is the server's fault"
        assert settlement.failures == failures + 1

    def test_differ_in_their_delays(self) -> None:
        delays = {settle(FAILED, claim(failures=8), POLICY).retry_s for _ in range(20)}
        assert len(delays) > 10
        assert all(0 <= delay <= 256 for delay in delays)

    def test_that_may_still_act_rest_for_twice_the_timeout_at_least(self) -> None:
        short, long = (
            settle(LOST, claim(failures=9), POLICY, jitter) for jitter in (lowest, highest)
        )
        assert (short.retry_s, short.rest_s) == (20, 20)
        assert (long.retry_s, long.rest_s) == (512, 512)

    @pytest.mark.parametrize(("verdict", "keys"), [(FAILED, set()), (LOST, {"plan"})])
    def test_may_have_taken_the_values_if_they_may_still_act(
        self, verdict: Verdict, keys: set[str]
    ) -> None:
        settlement = settle(verdict, claim(), POLICY)
        assert settlement.taken == keys
        assert not settlement.seen

    @pytest.mark.parametrize(("asked_s", "waits_s"), [(None, 0.25), (0.1, 0.25), (90, 90)])
    def test_wait_as_long_as_the_answer_asks(self, asked_s: float | None, waits_s: float) -> None:
        verdict = Verdict(kind=Kind.SERVER, http_status=503, retry_after_s=asked_s)
        settlement = settle(verdict, claim(), POLICY, lambda low, high: 0.25)
        assert (settlement.retry_s, settlement.rest_s) == (waits_s, waits_s)

    def test_count_as_attempts_and_remember_when_they_began(self) -> None:
        first = only(settle(FAILED, claim(), POLICY))
        assert (first.fields["attempts"], first.fields["failing_since"]) == (1, NOW_US)
        second = only(settle(LOST, later(first, now_us=NOW_US + HOUR_S * 1_000_000), POLICY))
        assert (second.fields["attempts"], second.fields["failing_since"]) == (2, NOW_US)

    @pytest.mark.parametrize(
        ("after_s", "status"), [(86_399.9, "pending"), (86_400, "failed"), (1e6, "failed")]
    )
    def test_are_given_up_after_a_day(self, after_s: float, status: Status) -> None:
        job = PendingJob(job_id=A, failing_since_us=NOW_US - round(after_s * 1e6))
        assert only(settle(FAILED, claim(job), POLICY)).status == status

    def test_have_no_long_break_between_them(self) -> None:
        """A day that the account was paused, or no worker ran, is no day of failures."""
        since_us = NOW_US - 86_400_000_000
        for break_s, status in ((LONGEST_BREAK_S, "failed"), (LONGEST_BREAK_S + 1, "pending")):
            sent_us = NOW_US - break_s * 1_000_000
            job = PendingJob(job_id=A, failing_since_us=since_us, sent_us=sent_us)
            result = only(settle(FAILED, claim(job), POLICY))
            assert result.status == status
            assert result.fields["failing_since"] == (since_us if status == "failed" else NOW_US)

    def test_that_end_a_job_too_long_to_be_written_again_end_it_all_the_same(self) -> None:
        """Another language may write shorter than we do, up to the limit."""
        values = tuple(value(f"k{n}", "x" * 255) for n in range(250))
        job = PendingJob(job_id=A, failing_since_us=NOW_US - 86_400_000_000)
        result = only(settle(FAILED, claim(job, values=values), POLICY))
        assert result.status == "failed"
        assert "document" not in result.fields

    def test_are_given_up_job_by_job(self) -> None:
        day_us = 86_400_000_000
        jobs = PendingJob(job_id=A, failing_since_us=NOW_US - day_us), PendingJob(job_id=B)
        settlement = settle(LOST, claim(*jobs, values=(PLAN, SEATS)), POLICY, highest)
        assert statuses(settlement) == {A: "failed", B: "pending"}
        assert settlement.rest_s == 20

    @pytest.mark.parametrize("between", [UNMATCHED, taken(customer()), REVOKED, TOO_FAST])
    def test_a_day_apart_are_no_day_of_failures(self, between: Verdict) -> None:
        """An answer of another kind, and the days of waiting after it, are not the server's."""
        first = only(settle(FAILED, claim(), POLICY))
        waited = only(settle(between, later(first, now_us=NOW_US + 1), POLICY))
        assert waited.status == "pending"
        day_us = 86_400_000_000
        next_one = settle(FAILED, later(waited, now_us=NOW_US + 2 * day_us), POLICY)
        assert only(next_one).status == "pending"


class TestFaultsThatAreNoJobs:
    @pytest.mark.parametrize("verdict", [REVOKED, TOO_FAST])
    @pytest.mark.parametrize("failures", [0, 50])
    def test_count_no_attempt_and_end_no_job(self, verdict: Verdict, failures: int) -> None:
        ages = (None, NOW_US - 10**13)
        for age in ages:
            job = PendingJob(job_id=A, attempts=3, failing_since_us=age)
            result = only(settle(verdict, claim(job, failures=failures), POLICY))
            assert result.status == "pending"
            assert not {"attempts", "sent", "unmatched", "unconfirmed"} & result.fields.keys()

    @pytest.mark.parametrize("verdict", [REVOKED, TOO_FAST])
    def test_say_what_holds_the_job_up(self, verdict: Verdict) -> None:
        fields = only(settle(verdict, claim(), POLICY)).fields
        assert fields["http_status"] == verdict.http_status
        assert fields["message"] == verdict.message
