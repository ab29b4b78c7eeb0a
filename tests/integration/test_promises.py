"""The design's promises, on a real worker, a real Redis and real sockets.

Each test fails when the rule that it names is broken in the code.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from attribute_courier.config.celery import DELIVER_TASK, KEY_PREFIX
from attribute_courier.producers import Producer
from attribute_courier.sandbox import Fault
from attribute_courier.state.mailboxes import Mailboxes

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
        assert courier.client.delete(KEY_PREFIX + "accept") == 1
        courier.start_worker()
        assert courier.wait(receipt)[0].status == "delivered"

    def test_a_deliver_message_that_the_broker_lost(self, courier: Courier) -> None:
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        mailboxes = Mailboxes(
            courier.client, courier.keys, lease_s=2, retention_s=1000, rate_limit=10_000
        )
        self._accept(courier, mailboxes, receipt.job_id)
        leases, _ = mailboxes.release(max_parallel=20)
        assert len(leases) == 1, "leased, and nobody told"
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

    @staticmethod
    def _accept(courier: Courier, mailboxes: Mailboxes, job_id: str) -> None:
        from attribute_courier.jobs.schema import load_wire

        ((taken, document),) = mailboxes.take(limit=1, within_s=60)
        assert taken == job_id
        assert mailboxes.stage([load_wire(job_id, document)]) == [("staged", "")]


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
        """Every message is in the broker twice, as after a redelivery."""
        courier.stand_in.configure(latency_s=1)
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(20)
        ]
        accept = KEY_PREFIX + "accept"
        courier.client.lpush(accept, *courier.client.lrange(accept, 0, -1))
        mailboxes = Mailboxes(
            courier.client, courier.keys, lease_s=9, retention_s=1000, rate_limit=10_000
        )
        for receipt in receipts[:10]:
            TestNothingIsLost._accept(courier, mailboxes, receipt.job_id)
        for lease in mailboxes.release(max_parallel=20)[0]:
            for _ in range(2):
                arguments = [courier.account, lease.mailbox_id, lease.token]
                courier.producer.celery.send_task(DELIVER_TASK, arguments)
        assert courier.client.llen(KEY_PREFIX + "deliver") == 20
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
from attribute_courier.producers import add_attributes
for n in range(40):
    key = f"signup-{n}"
    receipt = add_attributes("ada@example.com", {"plan": key}, idempotency_key=key)
    print(receipt.job_id)
"""


def test_promise_5_jobs_with_the_same_idempotency_key_are_one_job(courier: Courier) -> None:
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
    again = courier.producer.add_attributes(ADA, {"plan": "x"}, idempotency_key="signup-39")
    assert again.duplicate
    assert again.job_id == first[39]
    assert again.wait(20).status == "delivered"
    assert courier.custom(ADA)["plan"] == "signup-39"


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


def test_promise_7_one_bad_job_stops_no_other(courier: Courier) -> None:
    """Merged into one request that is refused, jobs are tried one by one."""
    receipts = [courier.producer.add_attributes(ADA, {f"k{n}": n}) for n in range(3)]
    # The merged request and the first of the single ones.
    refused = Fault(kind="status", status=422, count=2)
    courier.stand_in.configure(faults=[refused])
    mailboxes = Mailboxes(
        courier.client, courier.keys, lease_s=2, retention_s=1000, rate_limit=10_000
    )
    for receipt in receipts:
        TestNothingIsLost._accept(courier, mailboxes, receipt.job_id)
    courier.start_worker()
    statuses = [outcome.status for outcome in courier.wait(*receipts)]
    assert statuses == ["refused", "delivered", "delivered"]
    assert [len(post["custom"]) for post in courier.posts()] == [3, 1, 1, 1]


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
