"""A stint of deliveries, from its first claim to its last outcome, without Celery and HTTP."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable

import pytest
import redis

from attribute_courier.worker import deliveries as module
from attribute_courier.worker.chartmogul import Answer, NoAnswer, NotSent

from .desk import ADA, API_KEY, BOB, EVE, KEYS, POLICY, PONG, Desk

NOT_FOUND = Answer(status=404, body=b'{"message": "The page was not found"}')
PAGE = Answer(status=404, body=b"<h1>404 Not Found</h1>")
NOBODY = Answer(status=404, body=b'{"message": "No customer has this email"}')
REFUSED = Answer(status=422, body=b'{"errors": {"custom": "is bad"}}')
FAILED = Answer(status=500, body=b"{}")
REVOKED = Answer(status=401, body=b'{"message": "No valid API key provided"}')
LOST = NoAnswer(reason="no answer within 2 s", sent=True)


@pytest.fixture
def desk(client: redis.Redis) -> Desk:
    return Desk(client)


@pytest.fixture
def slow(client: redis.Redis) -> Desk:
    """Four requests a second: whoever comes second waits."""
    return Desk(client, rate_limit=4)


def test_a_stint_delivers_all_that_is_due_and_says_what_came_of_it(desk: Desk) -> None:
    jobs = [desk.accepted(email, plan="pro") for email in (ADA, BOB, EVE)]
    desk.notifier.delivers = 0
    stint = desk.run()
    assert [desk.outcome(job).status for job in jobs] == ["delivered"] * 3
    assert [(sent.email, sent.custom) for sent in desk.chartmogul.sent] == [
        (email, {"plan": "pro"}) for email in (ADA, BOB, EVE)
    ]
    assert stint.deliveries == 3
    assert stint.why == "nothing due"
    assert stint.summary() == "3 delivered"
    assert desk.notifier.reported_as() == [(job, "delivered") for job in jobs]
    assert desk.leases() == 0


def test_a_stint_with_nothing_to_do_says_so(desk: Desk) -> None:
    assert desk.run().summary() == "nothing due"
    assert desk.notifier.delivers == 0


def test_the_summary_counts_outcomes_and_failed_attempts(desk: Desk) -> None:
    for n, answer in enumerate([LOST, REFUSED, LOST, REVOKED]):
        desk.accepted(f"{n}@example.com", plan="pro")
        desk.chartmogul.answers.append(answer)
    stint = desk.run()
    assert stint.summary() == "1 refused · 3 failed attempts (no answer, HTTP 401)"
    desk.health.resume()
    assert desk.run().summary() == "1 delivered"


def test_a_stint_was_in_vain_if_all_its_attempts_failed(desk: Desk) -> None:
    desk.accepted(EVE, plan="pro")
    desk.chartmogul.answers.append(LOST)
    stint = desk.run()
    assert (stint.in_vain, stint.summary()) == (True, "1 failed attempt (no answer)")
    for email, answer in ((ADA, FAILED), (BOB, REFUSED)):
        desk.accepted(email, plan="pro")
        desk.chartmogul.answers.append(answer)
    assert not desk.run().in_vain
    assert not desk.run().in_vain  # nothing is due


def test_a_request_has_little_time_to_leave_and_the_timeout_to_end(desk: Desk) -> None:
    """A claim that took longer than that is given back by the client (promises 3 and 4)."""
    desk.accepted(plan="pro")
    before_s = time.monotonic()
    desk.run()
    [sent] = desk.chartmogul.sent
    answered_s = sent.leave_by_s - module.LEAVE_WITHIN_S
    asked_s = sent.ends_by_s - POLICY.timeout_s
    assert before_s <= asked_s <= answered_s <= time.monotonic()


class TestWaiting:
    """While a stint waits for its time, it holds nothing."""

    def test_no_email_and_no_lease_is_held(self, slow: Desk) -> None:
        slow.accepted(ADA, plan="pro")
        slow.accepted(BOB, plan="pro")
        seen: list[tuple[int, int]] = []

        def look() -> None:
            if slow.chartmogul.sent:
                seen.append((slow.leases(), slow.client.zcard(KEYS.of("due:live"))))

        slow.chartmogul.while_waiting = look
        slow.run()
        assert (0, 1) in seen, "the second email was still due"
        assert len(slow.chartmogul.sent) == 2

    def test_what_leaves_is_the_newest_there_is(self, slow: Desk) -> None:
        slow.accepted(ADA, plan="pro")
        older = slow.accepted(BOB, plan="free")
        newer: list[str] = []

        def come() -> None:
            if slow.chartmogul.sent and not newer:
                newer.append(slow.accepted(BOB, plan="pro"))

        slow.chartmogul.while_waiting = come
        slow.run()
        assert slow.chartmogul.sent[1].custom == {"plan": "pro"}
        assert slow.outcome(older).status == "superseded"
        assert slow.outcome(newer[0]).status == "delivered"

    def test_a_live_job_overtakes_bulk_to_the_last_moment(self, slow: Desk) -> None:
        slow.accepted(ADA, plan="pro")
        slow.accepted(BOB, lane="bulk", plan="pro")
        live: list[str] = []

        def come() -> None:
            if slow.chartmogul.sent and not live:
                live.append(slow.accepted(EVE, plan="pro"))

        slow.chartmogul.while_waiting = come
        slow.run()
        assert [sent.email for sent in slow.chartmogul.sent] == [ADA, EVE, BOB]


class TestNotSent:
    """The request was late: nothing was written, so nothing happened."""

    def test_the_email_is_due_as_before_and_no_attempt_counts(self, desk: Desk) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [NotSent()]
        stint = desk.run()
        assert stint.deliveries == 1
        assert desk.outcome(job).status == "delivered"
        assert desk.outcome(job).attempts == 1
        assert desk.client.zcard(KEYS.of("ledger")) == 1, "the time was given back"

    def test_a_stint_that_is_over_leaves_it_to_another(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "STINT_S", 0)
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [NotSent()]
        desk.run()
        assert desk.notifier.delivers == 1
        assert desk.leases() == 0
        assert desk.outcome(job).status == "pending"
        assert desk.outcome(job).attempts == 0


class TestRoute:
    """A 404 that does not speak of the email: one ping decides."""

    def test_the_ping_is_answered_so_the_email_is_unmatched(self, desk: Desk) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [NOT_FOUND]
        desk.chartmogul.pings = [PONG]
        desk.run()
        assert desk.chartmogul.pinged == 1
        outcome = desk.outcome(job)
        assert (outcome.status, outcome.http_status) == ("pending", 404)
        assert desk.health.status().pause is None

    @pytest.mark.parametrize("answer", [NOT_FOUND, PAGE])
    def test_the_ping_is_not_found_either_so_the_route_is_wrong(
        self, desk: Desk, answer: Answer
    ) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [answer]
        desk.chartmogul.pings = [answer]
        desk.run()
        assert desk.chartmogul.pinged == 1
        pause = desk.health.status().pause
        assert pause is not None
        assert "CHARTMOGUL_API_URL" in pause.reason
        assert desk.outcome(job).attempts == 0

    def test_the_ping_is_answered_so_a_page_is_the_servers(self, desk: Desk) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [PAGE]
        desk.chartmogul.pings = [PONG]
        desk.run()
        outcome = desk.outcome(job)
        assert (outcome.status, outcome.attempts) == ("pending", 1)
        assert desk.health.status().pause is None

    def test_a_404_that_speaks_of_the_email_needs_no_ping(self, desk: Desk) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [NOBODY]
        desk.run()
        assert desk.chartmogul.pinged == 0
        assert desk.outcome(job).next_attempt_at is not None


class TestPaused:
    def test_nothing_is_sent(self, desk: Desk) -> None:
        job = desk.accepted(plan="pro")
        desk.health.pause("moving house")
        assert desk.run().summary() == "paused"
        assert desk.health.held_by() == "moving house"
        assert desk.chartmogul.sent == []
        assert desk.outcome(job).status == "pending"

    def test_a_fault_of_the_account_pauses_it_and_ends_the_stint(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        jobs = [desk.accepted(email, plan="pro") for email in (ADA, BOB)]
        desk.chartmogul.answers = [REVOKED]
        stint = desk.run()
        assert stint.why == "paused"
        assert len(desk.chartmogul.sent) == 1
        assert {desk.outcome(job).attempts for job in jobs} == {0}
        assert "account default: paused: No valid API key provided" in caplog.text
        desk.health.resume()
        desk.run()
        assert {desk.outcome(job).status for job in jobs} == {"delivered"}


class TestStopping:
    def test_what_is_under_way_is_finished_and_nothing_else_begun(self, desk: Desk) -> None:
        first, second = desk.accepted(ADA, plan="pro"), desk.accepted(BOB, plan="pro")
        desk.notifier.delivers = 0
        desk.chartmogul.answers = [desk.stopping.set]
        desk.run()
        assert desk.outcome(first).status == "delivered"
        assert desk.outcome(second).status == "pending"
        assert len(desk.chartmogul.sent) == 1
        assert desk.leases() == 0

    def test_a_stint_that_begins_then_sends_nothing(self, desk: Desk) -> None:
        """Its message was taken before."""
        job = desk.accepted(ADA, plan="pro")
        desk.stopping.set()
        desk.run()
        assert desk.chartmogul.sent == []
        assert desk.outcome(job).status == "pending"

    def test_a_stint_that_waits_claims_nothing(self, slow: Desk) -> None:
        slow.accepted(ADA, plan="pro")
        job = slow.accepted(BOB, plan="pro")

        def stop() -> None:
            if slow.chartmogul.sent:
                slow.stopping.set()

        slow.chartmogul.while_waiting = stop
        slow.run()
        assert len(slow.chartmogul.sent) == 1
        assert slow.leases() == 0
        assert slow.outcome(job).status == "pending"


class TestAnotherStint:
    def test_is_asked_for_while_more_is_due_and_nobody_waits(self, desk: Desk) -> None:
        desk.accepted(ADA, plan="pro")
        desk.accepted(BOB, plan="pro")
        desk.notifier.delivers = 0
        asked: list[int] = []
        desk.chartmogul.answers = [lambda: asked.append(desk.notifier.delivers)] * 2
        desk.run()
        assert asked == [1, 1], "by the first claim, before its request; the second was the last"

    def test_goes_on_when_the_time_of_this_one_is_over(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker with several accounts gives each its turn."""
        monkeypatch.setattr(module, "STINT_S", 0)
        desk.accepted(ADA, plan="pro")
        desk.accepted(BOB, plan="pro")
        desk.notifier.delivers = 0
        desk.run()
        assert len(desk.chartmogul.sent) == 1
        assert desk.notifier.delivers == 2, "one for the other email, one at its end"

    def test_is_not_asked_for_by_a_worker_that_stops(self, desk: Desk) -> None:
        desk.accepted(ADA, plan="pro")
        desk.notifier.delivers = 0
        desk.chartmogul.answers = [desk.stopping.set]
        desk.run()
        assert desk.notifier.delivers == 0


def test_jobs_that_came_into_the_inbox_are_accepted_between_two_requests(desk: Desk) -> None:
    """And delivered by the same stint: whoever was woken for them may have found nothing yet."""
    desk.accepted(ADA, plan="pro")
    late = desk.produced(BOB, plan="pro")
    desk.run()
    assert desk.outcome(late).status == "delivered"
    assert [sent.email for sent in desk.chartmogul.sent] == [ADA, BOB]


def test_an_answer_whose_lease_has_ended_changes_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Another delivery answers for the jobs."""
    job = desk.accepted(plan="pro")

    def others() -> Answer:
        [mailbox] = desk.client.zrange(KEYS.of("leases"), 0, -1)
        desk.client.zadd(KEYS.of("leases"), {mailbox: 0})
        assert desk.mailboxes.claim("another").email == ADA  # type: ignore[union-attr]
        return REFUSED

    desk.chartmogul.answers = [others]
    stint = desk.run()
    assert desk.outcome(job).status == "pending"
    assert "the lease ended before its answer came" in caplog.text
    assert stint.deliveries == 0
    assert desk.notifier.reported == []


class TestFlower:
    def test_sees_an_attempt_that_failed(self, desk: Desk) -> None:
        job = desk.accepted(plan="pro")
        desk.chartmogul.answers = [FAILED]
        desk.run()
        assert desk.notifier.reported_as() == [(job, "pending")]
        [outcome] = desk.notifier.reported
        assert outcome.next_attempt_at is not None
        assert outcome == desk.outcome(job)

    def test_sees_no_bulk_jobs(self, desk: Desk) -> None:
        desk.accepted(lane="bulk", plan="free")
        job = desk.accepted(lane="bulk", plan="pro")
        desk.notifier.reported.clear()
        desk.run()
        assert desk.outcome(job).status == "delivered"
        assert desk.notifier.received_jobs == []
        assert desk.notifier.reported == []

    def test_sees_bulk_jobs_that_end_badly(self, desk: Desk) -> None:
        waiting = desk.accepted(lane="bulk", plan="pro")
        bad = desk.accepted(BOB, lane="bulk", plan="pro")
        desk.chartmogul.answers = [FAILED, REFUSED]
        desk.run()
        assert desk.outcome(waiting).attempts  # a second try may have come by now
        assert desk.notifier.reported_as() == [(bad, "refused")]

    def test_sees_what_a_newer_job_replaced_while_a_request_was_lost(self, desk: Desk) -> None:
        """Its worker died, so nobody judged it; the next claim settles the older job."""
        older = desk.accepted(plan="free")
        desk.mailboxes.claim("of a worker that dies")
        newer = desk.accepted(plan="pro")
        assert desk.outcome(older).status == "pending", "its value is in flight"
        [mailbox] = desk.client.zrange(KEYS.of("leases"), 0, -1)
        desk.client.zadd(KEYS.of("leases"), {mailbox: 0})
        time.sleep(0.03)  # what has fallen due is looked for every 20 ms
        desk.run()
        assert desk.notifier.reported_as() == [(newer, "delivered"), (older, "superseded")]


def test_damaged_entries_are_told_of_and_harm_no_other(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    lost = desk.accepted(ADA, plan="pro")
    kept = desk.accepted(ADA, seats=3)
    other = desk.accepted(BOB, plan="pro")
    desk.client.delete(KEYS.of("job", lost))
    desk.run()
    assert "1 entries of mailboxes were damaged and are removed" in caplog.text
    assert [desk.outcome(job).status for job in (kept, other)] == ["delivered"] * 2
    assert [sent.custom for sent in desk.chartmogul.sent] == [{"seats": 3}, {"plan": "pro"}]


class TestPrivate:
    """Promise 10: ChartMogul's words are kept without the email, the values and the key."""

    WORDS = f"{ADA.upper()} may not have plan 'gold-42', says {API_KEY}"

    @pytest.mark.parametrize("status", [422, 500, 401])
    def test_words_of_an_answer(
        self, desk: Desk, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        job = desk.accepted(plan="gold-42")
        body = json.dumps({"message": self.WORDS}).encode()
        desk.chartmogul.answers = [Answer(status=status, body=body)]
        desk.run()
        pause = desk.health.status().pause
        circuit = desk.client.hget(KEYS.of("circuit"), "reason")
        shown = f"{desk.outcome(job).message} {caplog.text} {pause} {circuit}"
        assert "may not have plan '***'" in shown
        for private in (ADA, "gold-42", API_KEY):
            assert private.lower() not in shown.lower()

    def test_words_for_two_jobs_hide_the_values_of_both(self, desk: Desk) -> None:
        jobs = [desk.accepted(plan="gold-42"), desk.accepted(seat="window-7")]
        body = json.dumps({"message": "no gold-42 at window-7"}).encode()
        desk.chartmogul.answers = [Answer(status=500, body=body)]
        desk.run()
        assert {desk.outcome(job).message for job in jobs} == {"no *** at ***"}


@pytest.mark.parametrize(
    "content",
    [
        '{"message": "\\ud83d is bad"}',
        '{"errors": {"\\udcff": ["\\ud800"]}}',
        '{"errors": [{"a": [[[["\\udc80"]]]]}, null, 1e999]}',
        '{"message": "\\u0000"}',
        '{"message": "' + "x" * 900_000 + '"}',
    ],
)
def test_an_answer_of_any_form_leads_to_an_outcome(desk: Desk, content: str) -> None:
    """One that could not be noted would be asked for again and again, without end."""
    job = desk.accepted(plan="pro")
    desk.chartmogul.answers = [Answer(status=422, body=content.encode())]
    desk.run()
    outcome = desk.outcome(job)
    assert outcome.status == "refused"
    assert outcome.message
    assert outcome.message.encode()


def test_customers_of_any_form_lead_to_an_outcome(desk: Desk) -> None:
    content = (
        b'{"entries": [{"uuid": "\\ud800", "external_id": {"a": "\\udcff"}}, null, [], "x", '
        b'{"uuid": 8, "external_id": true, "attributes": {"custom": {"plan": "pro"}}}]}'
    )
    job = desk.accepted(plan="pro")
    desk.chartmogul.answers = [Answer(status=200, body=content)]
    desk.run()
    outcome = desk.outcome(job)
    assert outcome.summary() == "delivered · 5 customers"
    assert outcome.message == "shown by 1 of 5 customers"
    for customer in outcome.customers:
        assert str(customer.uuid).encode()
        assert str(customer.external_id).encode()


def test_a_server_that_has_forgotten_the_scripts_is_told_them_again(desk: Desk) -> None:
    """As after a failover, in the middle of a delivery."""
    job = desk.accepted(plan="pro")
    desk.chartmogul.answers = [desk.client.script_flush]
    desk.run()
    assert desk.outcome(job).status == "delivered"
    assert len(desk.chartmogul.sent) == 1


def test_when_redis_fails_the_stint_ends_with_its_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease ends by itself, and the email is due again."""
    desk.accepted(plan="pro")

    def refuse(*args: object, **kwargs: object) -> Callable[..., object]:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(desk.mailboxes, "settle", refuse)
    with pytest.raises(redis.ConnectionError):
        desk.run()
    assert desk.leases() == 1


def test_our_own_words_are_not_masked(desk: Desk) -> None:
    """A value that stands in the server's address would only be taken out of it."""
    job = desk.accepted(plan="1")
    lost = NoAnswer(reason="no connection to 127.0.0.1:8181: refused", sent=False)
    desk.chartmogul.answers.append(lost)
    desk.run()
    assert desk.outcome(job).message == lost.reason
