"""A tour: what the courier does, one idea a test, from the outside.

Read it from top to bottom. Each test has a real Redis, a real worker, and a stand-in for ChartMogul
that keeps what it is sent. `ada@example.com` is a customer there; `nobody@example.com` is not.
"""

from __future__ import annotations

import subprocess
import sys

from attribute_courier.sandbox import Fault

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"


def test_a_job_is_queued_and_a_worker_delivers_it(courier: Courier) -> None:
    """`add_attributes` returns at once; the receipt tells later what became of the job."""
    courier.start_worker()
    receipt = courier.producer.add_attributes(ADA, {"channel": "Facebook", "age": 8})
    outcome = receipt.wait(20)
    assert outcome.status == "delivered"
    assert [customer.external_id for customer in outcome.customers] == ["cus_0001"]
    assert courier.custom(ADA) == {"channel": "Facebook", "age": 8}


def test_the_newest_value_wins(courier: Courier) -> None:
    """Of two jobs that wait for one key, the older is never sent."""
    older = courier.producer.add_attributes(ADA, {"plan": "free"})
    newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
    courier.start_worker()
    assert newer.wait(20).status == "delivered"
    assert older.wait(20).status == "superseded"
    assert courier.custom(ADA) == {"plan": "pro"}


def test_jobs_for_one_email_become_one_request(courier: Courier) -> None:
    """What waits for an email leaves together, and each job has an outcome of its own."""
    receipts = [courier.producer.add_attributes(ADA, {f"key_{n}": n}) for n in range(5)]
    courier.start_worker()
    assert {receipt.wait(20).status for receipt in receipts} == {"delivered"}
    assert len(courier.posts()) == 1


def test_an_email_without_a_customer_waits_for_one(courier: Courier) -> None:
    """Customers reach ChartMogul late, so the job is tried again before it ends `unmatched`."""
    courier.start_worker(COURIER_UNMATCHED_DELAYS="1s,1s,1s,1s")
    receipt = courier.producer.add_attributes("nobody@example.com", {"plan": "pro"})
    wait_until(courier.posts, what="the first attempt")
    courier.stand_in.configure(customers=[ADA, "nobody@example.com"])  # now the customer is there
    outcome = receipt.wait(20)
    assert outcome.status == "delivered"
    assert outcome.attempts > 1


def test_a_refusal_says_why(courier: Courier) -> None:
    """ChartMogul's own words are kept, without the email and the values."""
    content = '{"errors": {"custom": "gold is no plan"}}'
    courier.stand_in.configure(faults=[Fault(kind="status", status=422, content=content)])
    courier.start_worker()
    outcome = courier.producer.add_attributes(ADA, {"plan": "gold"}).wait(20)
    assert (outcome.status, outcome.http_status) == ("refused", 422)
    assert outcome.message == "custom: *** is no plan"


def test_an_idempotency_key_makes_asking_twice_safe(courier: Courier) -> None:
    """Whoever does not know whether the first call arrived asks again, and it is one job."""
    receipts = [
        courier.producer.add_attributes(ADA, {"plan": "pro"}, idempotency_key="order-7")
        for _ in range(2)
    ]
    assert receipts[0].job_id == receipts[1].job_id
    assert receipts[1].duplicate
    courier.start_worker()
    receipts[1].wait(20)
    assert len(courier.posts()) == 1


def test_a_live_job_does_not_wait_behind_bulk(courier: Courier) -> None:
    """A sign-up overtakes last night's backfill."""
    load = ((f"{n}@load.example", {"n": n}) for n in range(200))
    assert courier.producer.add_many(load).enqueued == 200
    courier.start_worker()
    wait_until(courier.posts, what="the backfill is under way")
    courier.producer.add_attributes(ADA, {"plan": "pro"}).wait(20)
    assert len(courier.posts()) < 150, "most of the backfill still waits"


def test_an_operator_pauses_and_resumes_an_account(courier: Courier) -> None:
    """While it is paused, jobs are accepted and wait; none is lost."""

    def command(*arguments: str) -> str:
        argv = [sys.executable, "-m", "attribute_courier.cli", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

    courier.start_worker()
    command("pause", "--reason", "moving house")
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
    wait_until(lambda: courier.health().status().live.due == 1, what="the job waits")
    assert "moving house" in command("status")
    assert courier.posts() == []
    command("resume")
    assert receipt.wait(20).status == "delivered"


def test_what_ended_badly_can_be_replayed(courier: Courier) -> None:
    """Its values are kept, and overwrite nothing that is newer."""
    courier.stand_in.configure(faults=[Fault(kind="status", status=422, count=1)])
    courier.start_worker()
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
    assert receipt.wait(20).status == "refused"
    assert courier.health().replay(receipt.job_id)
    wait_until(lambda: receipt.wait(20).status == "delivered", what="it is delivered after all")
    assert courier.custom(ADA) == {"plan": "pro"}


def test_any_process_can_ask_what_became_of_a_job(courier: Courier) -> None:
    """The outcome is in Redis: its id, or the email, is all that it takes."""
    courier.start_worker()
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
    receipt.wait(20)
    ask = (
        "import sys; from attribute_courier.producers import default_producer as p; "
        "print(p().outcome(sys.argv[1]).status, len(p().outcomes('ada@example.com')))"
    )
    argv = [sys.executable, "-c", ask, receipt.job_id]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["delivered", "1"]
