"""An email is forgotten, and a job taken back, while a real worker is at work on them."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.result import AsyncResult

from attribute_courier.jobs.errors import NotDelivered
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.sandbox import Fault

from ..conftest import Courier
from ..everything import holding
from ..waiting import wait_until

EVA = "Eva.Secret@bücher.example"
VALUE = "planted-value"
PRIVATE = ["eva.secret", VALUE, "cus_0001"]
WORDS = [*PRIVATE, "bücher", "b\\u00fccher", "xn--bcher"]
BOB = "bob@example.com"
REFUSAL = json.dumps({"errors": {"custom": f"{EVA}: '{VALUE}' is no good"}})


def refusal(email: str = EVA, seconds: float = 0) -> Fault:
    return Fault(kind="status", status=422, email=email, content=REFUSAL, seconds=seconds, count=1)


@contextmanager
def events(courier: Courier) -> Iterator[list[dict[str, Any]]]:
    """What Flower gets to see of canceled jobs."""
    app, seen = courier.producer.celery, list[dict[str, Any]]()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-revoked": seen.append})
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        before = courier.client.pubsub_numpat()
        thread.start()
        wait_until(lambda: courier.client.pubsub_numpat() > before, what="Flower listens")
        yield seen
        receiver.should_stop = True
        thread.join(10)


def test_whatever_is_known_of_an_email_is_gone(courier: Courier) -> None:
    producer = courier.producer
    courier.stand_in.configure(customers=[EVA, BOB], faults=[refusal()])
    courier.start_worker()
    refused = producer.add_attributes(EVA, {"plan": VALUE})
    assert courier.wait(refused)[0].status == "refused"
    delivered = producer.add_attributes(EVA, {"note": VALUE})
    other = producer.add_attributes(BOB, {"plan": "pro"})
    invalid = new_job_id()
    courier.client.hset(courier.keys.inbox, invalid, json.dumps({"v": 1, "email": EVA}))
    courier.client.zadd(courier.keys.of("inbox:live"), {invalid: 1})
    assert {outcome.status for outcome in courier.wait(delivered, other)} == {"delivered"}
    wait_until(lambda: courier.outcomes.statuses([invalid]) == ["invalid"])
    newer = new_job_id()  # it stays with the worker, which cannot read it
    courier.client.hset(courier.keys.inbox, newer, json.dumps({"v": 2, "email": EVA}))
    courier.client.zadd(courier.keys.of("inbox:live"), {newer: 1})
    wait_until(lambda: "left for a newer worker" in courier.log())
    assert len(holding(courier.client, *WORDS)) >= 4

    (found,) = producer.forget("eva.secret@xn--bcher-kva.example")
    assert holding(courier.client, *WORDS) == {}
    assert (found.canceled, found.under_way) == (1, False)
    assert found.outcomes >= 3
    assert producer.outcomes(EVA) == []
    outcome = producer.outcome(refused.job_id)
    assert outcome is not None
    assert (outcome.email, outcome.keys, outcome.message) == (None, (), None)
    assert producer.outcomes(BOB)[0].status == "delivered"
    assert courier.client.hlen(courier.keys.inbox) == 0

    again = producer.add_attributes(EVA, {"plan": "new"})
    assert courier.wait(again)[0].summary() == "delivered · 1 customer"
    log = courier.log().lower()
    assert not [word for word in PRIVATE if word in log], "of an email, its domain may be seen"


def test_a_worker_that_holds_a_lease_writes_nothing_of_it(courier: Courier) -> None:
    """Its answer comes when the email is forgotten already; a new job waits for that."""
    producer = courier.producer
    slow = [
        Fault(kind="latency", email=f"1.{EVA}", seconds=1, count=1),
        refusal(f"2.{EVA}", seconds=1),
        Fault(kind="status", status=500, email=f"3.{EVA}", seconds=1, count=1),
    ]
    emails = [fault.email or "" for fault in slow]
    courier.stand_in.configure(customers=emails, faults=slow)
    worker = courier.start_worker()
    sent = [producer.add_attributes(email, {"plan": VALUE}) for email in emails]
    leases = courier.keys.of("leases")
    wait_until(lambda: courier.client.zcard(leases) == 3, what="all are being sent")
    worker.send(signal.SIGSTOP)  # however long the next lines take
    for email in emails:
        (found,) = producer.forget(email)
        assert (found.canceled, found.under_way) == (1, True)
    assert holding(courier.client, *WORDS) == {}
    outcomes = courier.wait(*sent)
    for outcome in outcomes:
        assert (outcome.status, outcome.reason, outcome.email) == ("canceled", "forgotten", None)
    worker.send(signal.SIGCONT)

    again = [producer.add_attributes(email, {"plan": "new"}) for email in emails]
    wait_until(lambda: courier.client.zcard(leases) == 0, what="all are answered")
    assert holding(courier.client, VALUE) == {}
    assert [courier.outcomes.get(job.job_id) for job in sent] == outcomes
    assert {outcome.status for outcome in courier.wait(*again)} == {"delivered"}
    for email, job in zip(emails, again, strict=True):
        assert courier.custom(email)["plan"] == "new", "it came after what was under way"
        assert [each.job_id for each in producer.outcomes(email)] == [job.job_id]
    log = courier.log()
    assert "Traceback" not in log
    assert not [word for word in PRIVATE if word in log.lower()]


def test_a_job_is_taken_back_before_it_is_sent(courier: Courier) -> None:
    producer = courier.producer
    courier.health().pause("for this test")
    courier.start_worker()
    job = producer.add_attributes("ada@example.com", {"plan": "pro"}, idempotency_key="k")
    other = producer.add_attributes("ada@example.com", {"age": 8})
    wait_until(lambda: not courier.client.hlen(courier.keys.inbox), what="both are accepted")
    with events(courier) as seen:
        done = job.cancel()
        wait_until(lambda: seen, what="the event for Flower")
    assert (seen[0]["type"], seen[0]["uuid"]) == ("task-revoked", job.job_id)
    assert seen[0]["hostname"].startswith("courier@"), "no worker that Flower does not know"
    assert seen[0]["args"] == "a***@example.com · 1 attribute"
    assert (done.result, done.canceled) == ("canceled", True)
    assert producer.cancel(job.job_id).canceled
    outcome = job.wait(5)
    assert done.outcome == outcome
    assert (outcome.status, outcome.reason, outcome.attempts) == ("canceled", "asked", 0)

    again = producer.add_attributes("ada@example.com", {"plan": "pro"}, idempotency_key="k")
    assert (again.duplicate, again.job_id) == (True, job.job_id), "the same job, canceled"
    result: AsyncResult[Any] = AsyncResult(job.job_id, app=producer.celery)
    assert (result.state, result.ready()) == ("REVOKED", True)
    assert (result.successful(), result.failed()) == (False, False)
    with pytest.raises(NotDelivered, match="canceled"):
        result.get(timeout=5)

    courier.health().resume()
    assert courier.wait(other)[0].status == "delivered"
    assert [post["custom"] for post in courier.posts()] == [
        [{"type": "Integer", "key": "age", "value": 8}]
    ]
    late = producer.cancel(other.job_id)
    assert late.summary() == "not canceled: it is settled: delivered · 1 customer"
