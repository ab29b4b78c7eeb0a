"""The design's promises, on a real worker, a real Redis and real sockets.

Each test fails when the rule that it names is broken in the code.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from attribute_courier.config.celery import ACCEPT_QUEUE, ACCEPT_TASK, DELIVER_TASK
from attribute_courier.jobs.errors import IdempotencyConflict
from attribute_courier.producers import Producer
from attribute_courier.sandbox import Fault
from attribute_courier.state.inbox import Inbox
from attribute_courier.state.mailboxes import Claim

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"


def test_a_job_is_delivered_and_its_outcome_tells_to_whom(courier: Courier) -> None:
    courier.start_worker()
    receipt = courier.producer.add_attributes(ADA, {"channel": "Facebook", "age": 8})
    outcome = receipt.wait(20)
    assert outcome.status == "delivered"
    assert outcome.attempts == 1
    assert outcome.http_status == 200
    assert [customer.external_id for customer in outcome.customers] == ["cus_0001"]
    assert courier.custom(ADA) == {"channel": "Facebook", "age": 8}
    assert outcome.accepted_at <= outcome.sent_at <= outcome.settled_at


class TestNothingIsLost:
    """Promise 1."""

    def test_a_worker_killed_in_the_middle_of_a_delivery(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=1.5)
        worker = courier.start_worker()
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        wait_until(courier.posts, what="the request is under way")
        worker.kill()
        courier.stand_in.configure(latency_s=0)
        courier.start_worker()
        assert courier.wait(receipt)[0].status == "delivered"
        assert courier.custom(ADA)["plan"] == "pro"

    def test_an_accept_message_that_the_broker_lost(self, courier: Courier) -> None:
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        assert courier.drop_messages(ACCEPT_QUEUE) == 1
        courier.start_worker()
        assert courier.wait(receipt)[0].status == "delivered"

    def test_a_deliver_message_that_the_broker_lost(self, courier: Courier) -> None:
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        courier.drop_messages(ACCEPT_QUEUE)
        courier.accept()
        assert courier.client.hlen(courier.keys.inbox) == 0, "due, and nobody told"
        courier.start_worker()
        assert courier.wait(receipt)[0].status == "delivered"

    def test_a_worker_that_died_between_its_claim_and_its_request(self, courier: Courier) -> None:
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        courier.accept()
        assert isinstance(courier.mailboxes(lease_s=2).claim("dead"), Claim)
        courier.start_worker()
        assert courier.wait(receipt)[0].status == "delivered"
        assert len(courier.posts()) == 1

    def test_a_worker_that_died_between_taking_a_job_and_staging_it(self, courier: Courier) -> None:
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        Inbox(courier.client, courier.keys, retention_s=1000).take(
            limit=1, within_s=2, bulk_share=0.1
        )
        courier.start_worker()
        assert courier.wait(receipt)[0].status == "delivered"

    def test_a_worker_stopped_gracefully_finishes_what_is_in_flight(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=1)
        worker = courier.start_worker()
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        wait_until(courier.posts, what="the request is under way")
        worker.stop(grace_s=20)
        assert worker.popen.returncode == 0
        outcome = receipt.outcome()
        assert outcome is not None
        assert outcome.status == "delivered"
        assert len(courier.posts()) == 1

    def test_redis_killed_and_restarted_under_a_working_courier(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=0.5)
        courier.start_worker()
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(30)
        ]
        wait_until(lambda: len(courier.posts()) >= 5, what="work is under way")
        wait_until(lambda: courier.client.info("persistence")["aof_pending_bio_fsync"] == 0)
        courier.server.kill()
        courier.server.start()
        outcomes = courier.wait(*receipts, timeout_s=60)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert courier.stand_in.stats()["overlaps"] == 0


class TestTheNewestWins:
    """Promise 2."""

    def test_an_older_job_that_arrives_after_a_newer_one_was_delivered(
        self, courier: Courier
    ) -> None:
        courier.start_worker()
        newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
        assert courier.wait(newer)[0].status == "delivered"
        earlier = datetime.now(UTC) - timedelta(hours=1)
        older = courier.producer.add_attributes(ADA, {"plan": "free"}, occurred_at=earlier)
        assert courier.wait(older)[0].status == "superseded"
        assert courier.custom(ADA)["plan"] == "pro"
        assert len(courier.posts()) == 1

    def test_jobs_that_say_no_time_count_in_the_order_of_their_arrival(
        self, courier: Courier
    ) -> None:
        """Also between two producers: each is told that its job is taken before the next comes."""
        other = Producer(courier.producer.settings)
        producers = [courier.producer, other]
        receipts = [
            producers[n % 2].add_attributes(f"{n % 4}@load.example", {"n": n, f"k{n % 3}": n})
            for n in range(40)
        ]
        courier.start_worker()
        courier.wait(*receipts)
        other.close()
        for email in range(4):
            mine = [n for n in range(40) if n % 4 == email]
            expected = {f"k{k}": max(n for n in mine if n % 3 == k) for k in range(3)}
            assert courier.custom(f"{email}@load.example") == {"n": max(mine), **expected}

    def test_a_job_that_says_no_time_is_newer_than_one_ahead_of_the_clock(
        self, courier: Courier
    ) -> None:
        """A producer whose clock runs ahead may not keep the email from every later job."""
        ahead = datetime.now(UTC) + timedelta(minutes=4)
        first = courier.producer.add_attributes(ADA, {"plan": "free"}, occurred_at=ahead)
        second = courier.producer.add_attributes(ADA, {"plan": "pro"})
        courier.start_worker()
        assert [each.status for each in courier.wait(first, second)] == ["superseded", "delivered"]
        third = courier.producer.add_attributes(ADA, {"plan": "max"})
        assert courier.wait(third)[0].status == "delivered"
        assert courier.custom(ADA) == {"plan": "max"}

    def test_a_retry_sends_what_is_true_then(self, courier: Courier) -> None:
        courier.stand_in.configure(faults=[Fault(kind="status", status=500, count=1)])
        courier.start_worker()
        older = courier.producer.add_attributes(ADA, {"plan": "free"})
        wait_until(courier.posts, what="the first attempt")
        newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
        first, second = courier.wait(older, newer)
        assert (first.status, second.status) == ("superseded", "delivered")
        assert courier.custom(ADA)["plan"] == "pro"
        assert [post["custom"][0]["value"] for post in courier.posts()] == ["free", "pro"]

    def test_a_lost_request_cannot_act_after_the_next_one(self, courier: Courier) -> None:
        """Its connection broke after it was applied: the next one waits until it is surely over."""
        courier.stand_in.configure(faults=[Fault(kind="drop_after", count=1)])
        courier.start_worker()
        older = courier.producer.add_attributes(ADA, {"plan": "free"})
        wait_until(courier.posts, what="the first attempt")
        newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
        courier.wait(older, newer)
        first, second = courier.posts()
        assert second["arrived_s"] - first["arrived_s"] >= 2 * 2.0
        assert courier.custom(ADA)["plan"] == "pro"

    def test_a_value_that_comes_in_while_an_older_one_is_in_flight(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=1)
        courier.start_worker()
        older = courier.producer.add_attributes(ADA, {"plan": "free", "seats": 3})
        wait_until(courier.posts, what="the request is under way")
        newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
        first, second = courier.wait(older, newer)
        assert (first.status, second.status) == ("delivered", "delivered")
        assert courier.custom(ADA) == {"plan": "pro", "seats": 3}
        assert [post["custom"] for post in courier.posts()][1] == [
            {"type": "String", "key": "plan", "value": "pro"}
        ]


class TestOneAtATime:
    """Promise 3."""

    def test_two_workers_and_many_jobs_for_few_emails(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=1.2, latency_sigma=0.2)
        courier.start_worker()
        courier.start_worker()
        receipts = []
        for n in range(300):
            values = {"n": n, f"k{n % 5}": n}
            receipts.append(courier.producer.add_attributes(f"{n % 7}@load.example", values))
            if n % 50 == 49:  # so that jobs come in while others of their email are in flight
                seen = len(courier.posts())
                wait_until(lambda seen=seen: len(courier.posts()) > seen)  # type: ignore[misc]
        outcomes = courier.wait(*receipts)
        assert {outcome.status for outcome in outcomes} <= {"delivered", "superseded"}
        stats = courier.stand_in.stats()
        assert stats["overlaps"] == 0
        assert stats["by_status"] == {"200": stats["requests"]}
        for email in range(7):
            expected = max(n for n in range(300) if n % 7 == email)
            assert courier.custom(f"{email}@load.example")["n"] == expected

    def test_a_message_that_comes_twice_does_no_harm(self, courier: Courier) -> None:
        """Every message is in the broker many times, as after redeliveries."""
        courier.stand_in.configure(latency_s=0.5)
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(10)
        ]
        courier.accept()
        receipts += [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(10, 20)
        ]
        for task in (ACCEPT_TASK, DELIVER_TASK):
            for _ in range(20):
                courier.producer.celery.send_task(task, [courier.account])
        courier.start_worker()
        outcomes = courier.wait(*receipts)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert courier.stand_in.stats()["overlaps"] == 0
        assert len(courier.posts()) == 20

    def test_a_slow_answer_is_cut_before_its_lease_ends(self, courier: Courier) -> None:
        """Bytes that drip in keep a read timeout from striking, but not the deadline."""
        courier.stand_in.configure(
            faults=[
                Fault(kind="slow_headers", count=1, email=ADA, seconds=15),
                Fault(kind="slow_body", count=1, email="two@example.com", seconds=15),
            ]
        )
        courier.start_worker()
        receipts = [
            courier.producer.add_attributes(email, {"plan": "pro"})
            for email in (ADA, "two@example.com")
        ]
        outcomes = courier.wait(*receipts, timeout_s=40)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert {outcome.attempts for outcome in outcomes} == {2}
        assert courier.stand_in.stats()["overlaps"] == 0


_ASK = """
from attribute_courier import add_attributes
for n in range(40):
    key = f"signup-{n}"
    receipt = add_attributes("ada@example.com", {"plan": key}, idempotency_key=key)
    print(receipt.job_id)
"""


class TestAskedOnceDoneOnce:
    """Promise 5."""

    def test_jobs_with_the_same_idempotency_key_are_one_job(self, courier: Courier) -> None:
        """Also when two processes ask at once."""
        processes = [
            subprocess.Popen([sys.executable, "-c", _ASK], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        first, second = (process.communicate(timeout=60)[0].split() for process in processes)
        assert first == second
        assert len(set(first)) == 40
        assert courier.client.hlen(courier.keys.inbox) == 40

        courier.start_worker()
        wait_until(lambda: courier.client.hlen(courier.keys.inbox) == 0)
        again = courier.producer.add_attributes(
            ADA, {"plan": "signup-39"}, idempotency_key="signup-39"
        )
        assert again.duplicate
        assert again.job_id == first[39]
        assert again.wait(20).status == "delivered"
        assert courier.custom(ADA)["plan"] == "signup-39"

    @pytest.mark.parametrize(
        ("email", "values"), [(ADA, {"plan": "max"}), ("two@example.com", {"plan": "pro"})]
    )
    def test_the_same_key_with_other_content_is_an_error(
        self, courier: Courier, email: str, values: dict[str, str]
    ) -> None:
        """Before and after the first job is settled."""
        first = courier.producer.add_attributes(ADA, {"plan": "pro"}, idempotency_key="order-7")
        for _ in range(2):
            with pytest.raises(IdempotencyConflict) as caught:
                courier.producer.add_attributes(email, values, idempotency_key="order-7")
            assert caught.value.job_id == first.job_id
            if not courier.workers:
                courier.start_worker()
                assert courier.wait(first)[0].status == "delivered"
        again = courier.producer.add_attributes(ADA, {"plan": "pro"}, idempotency_key="order-7")
        assert (again.job_id, again.duplicate) == (first.job_id, True)
        assert len(courier.posts()) == 1
        assert courier.custom(ADA) == {"plan": "pro"}


class TestDeliveredMeansSeen:
    """Promise 6."""

    def test_a_200_that_changes_nothing_is_unconfirmed_after_a_second_try(
        self, courier: Courier
    ) -> None:
        courier.start_worker()
        receipt = courier.producer.add_attributes("quiet@example.com", {"plan": "pro"})
        outcome = receipt.wait(20)
        assert outcome.status == "unconfirmed"
        assert outcome.attempts == 2
        assert outcome.http_status == 200
        assert outcome.customers

    @pytest.mark.parametrize("confirm", ["match", "status"])
    def test_what_shown_takes_is_a_setting(self, courier: Courier, confirm: str) -> None:
        courier.start_worker(COURIER_CONFIRM=confirm)
        receipt = courier.producer.add_attributes("quiet@example.com", {"plan": "pro"})
        assert receipt.wait(20).status == "delivered"

    def test_values_are_compared_by_what_they_mean(self, courier: Courier) -> None:
        courier.start_worker()
        receipt = courier.producer.add_attributes(
            ADA,
            [
                {"type": "Timestamp", "key": "at", "value": "2016-01-31 00:00:00 UTC"},
                {"type": "Integer", "key": "age", "value": "8"},
                {"type": "Decimal", "key": "score", "value": "12.50"},
                {"type": "Boolean", "key": "trial", "value": "t"},
            ],
        )
        assert receipt.wait(20).status == "delivered"
        assert courier.custom(ADA) == {
            "at": "2016-01-31T00:00:00.000Z",
            "age": 8,
            "score": 12.5,
            "trial": True,
        }


class TestOneBadJobStopsNoOther:
    """Promise 7."""

    @pytest.mark.parametrize("status", [422, 413])
    def test_a_merged_request_that_is_refused_is_halved_until_the_culprit_is_alone(
        self, courier: Courier, status: int
    ) -> None:
        receipts = [courier.producer.add_attributes(ADA, {f"k{n}": n}) for n in range(5)]
        courier.accept()
        # All five, three of them, two of them, and the first alone.
        refused = Fault(kind="status", status=status, count=4)
        courier.stand_in.configure(faults=[refused])
        courier.start_worker()
        statuses = [outcome.status for outcome in courier.wait(*receipts)]
        assert statuses == ["refused", *["delivered"] * 4]
        assert [len(post["custom"]) for post in courier.posts()] == [5, 3, 2, 1, 4]

    def test_what_is_too_large_only_when_merged_is_delivered_in_parts(
        self, courier: Courier
    ) -> None:
        """CM6: 30 jobs for one email, each small enough by itself."""
        receipts = [courier.producer.add_attributes(ADA, {f"k{n}": n}) for n in range(30)]
        courier.accept()
        courier.stand_in.configure(faults=[Fault(kind="status", status=413, body="html", count=3)])
        courier.start_worker()
        assert {each.status for each in courier.wait(*receipts)} == {"delivered"}
        assert [len(post["custom"]) for post in courier.posts()][:4] == [30, 15, 8, 4]
        assert courier.custom(ADA) == {f"k{n}": n for n in range(30)}

    def test_a_merged_request_that_fails_again_and_again_is_halved_too(
        self, courier: Courier
    ) -> None:
        """A proxy that cannot stand one of the values answers 502 for the whole."""
        receipts = [courier.producer.add_attributes(ADA, {f"k{n}": n}) for n in range(4)]
        courier.accept()
        courier.stand_in.configure(faults=[Fault(kind="status", status=500, count=3)])
        courier.start_worker()
        assert {each.status for each in courier.wait(*receipts)} == {"delivered"}
        assert [len(post["custom"]) for post in courier.posts()][:4] == [4, 4, 2, 1]


def test_an_email_that_no_customer_has_is_tried_again_and_then_unmatched(courier: Courier) -> None:
    courier.start_worker()
    receipt = courier.producer.add_attributes("late@example.com", {"plan": "pro"})
    outcome = receipt.wait(20)
    assert outcome.status == "unmatched"
    assert outcome.attempts == 3


def test_a_customer_that_arrives_late_gets_its_attributes(courier: Courier) -> None:
    """The commonest race: attributes are asked for at sign-up, before the customer is there."""
    courier.start_worker(COURIER_UNMATCHED_DELAYS="1s,1s,1s")
    receipt = courier.producer.add_attributes("late@example.com", {"plan": "pro"})
    wait_until(courier.posts, what="the first attempt")
    customers = [*courier.stand_in.config.customers, "late@example.com"]
    courier.stand_in.configure(customers=customers)
    outcome = receipt.wait(20)
    assert outcome.status == "delivered"
    assert outcome.attempts > 1


def test_a_producer_of_its_own_settings(courier: Courier) -> None:
    courier.start_worker()
    producer = Producer(courier.producer.settings)
    assert producer.add_attributes(ADA, {"plan": "pro"}).wait(20).successful
    producer.close()
