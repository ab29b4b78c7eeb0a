"""Celery's results are the outcomes; several accounts; waiting for what becomes of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import Retry
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, GroupResult, ResultSet

from attribute_courier.config import load_settings
from attribute_courier.producers import NotDelivered, Outcome, Producer, Receipt
from attribute_courier.sandbox import EmbeddedRedis, Fault, SandboxConfig, SandboxProcess
from attribute_courier.state.keys import Keys

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"
TWO = "two@example.com"


def result_of(courier: Courier, receipt: Receipt) -> AsyncResult[Outcome]:
    return AsyncResult(receipt.job_id, app=courier.producer.celery)


def test_a_jobs_outcome_is_its_celery_result(courier: Courier) -> None:
    delivered = courier.producer.add_attributes(ADA, {"plan": "pro"})
    result = result_of(courier, delivered)
    assert (result.state, result.ready(), result.result) == ("PENDING", False, None)
    with pytest.raises(CeleryTimeoutError):
        result.get(timeout=0.2)

    courier.start_worker()
    outcome = result.get(timeout=20)
    assert outcome == delivered.outcome()
    assert (outcome.status, outcome.email) == ("delivered", ADA)
    assert (result.state, result.successful(), result.failed()) == ("SUCCESS", True, False)
    assert result.date_done is not None

    yesterday = datetime.now(UTC) - timedelta(days=1)
    late = courier.producer.add_attributes(ADA, {"plan": "free"}, occurred_at=yesterday)
    assert result_of(courier, late).get(timeout=20).status == "superseded"

    unmatched = courier.producer.add_attributes("nobody@example.com", {"plan": "pro"})
    result = result_of(courier, unmatched)
    with pytest.raises(NotDelivered) as caught:
        result.get(timeout=20)
    assert caught.value.outcome == unmatched.outcome()
    assert caught.value.outcome.status == "unmatched"
    assert "nobody" not in f"{caught.value} {caught.value!r}"
    assert (result.state, result.failed()) == ("FAILURE", True)
    assert isinstance(result.get(propagate=False), NotDelivered)

    # And what Celery builds on single results.
    jobs = [courier.producer.add_attributes(TWO, {f"k{n}": n}) for n in range(5)]
    several = ResultSet([result_of(courier, job) for job in jobs], app=courier.producer.celery)
    assert [each.status for each in several.join(timeout=20)] == ["delivered"] * 5
    group = GroupResult("jobs", several.results, app=courier.producer.celery)
    assert (group.completed_count(), group.successful()) == (5, True)


def test_a_job_that_is_tried_again_is_in_retry(courier: Courier) -> None:
    courier.stand_in.configure(faults=[Fault(kind="status", status=500)])
    courier.start_worker(COURIER_GIVE_UP_AFTER="60")
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
    result = result_of(courier, receipt)

    def retry() -> Retry | None:
        return result.result if result.state == "RETRY" else None

    found = wait_until(retry, what="the first attempt failed")
    assert isinstance(found.when, datetime)
    assert found.when.tzinfo is not None
    assert not result.ready()
    outcome = receipt.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.http_status) == ("pending", 500)
    assert outcome.next_attempt_at is not None

    courier.stand_in.configure(faults=[])
    assert result.get(timeout=30).status == "delivered"


def test_waiting_for_an_outcome_in_a_coroutine(courier: Courier) -> None:
    courier.start_worker()

    async def ask() -> list[Outcome]:
        receipts = [courier.producer.add_attributes(TWO, {f"k{n}": n}) for n in range(5)]
        return await asyncio.gather(*(receipt.wait_async(20) for receipt in receipts))

    assert {outcome.status for outcome in asyncio.run(ask())} == {"delivered"}


@pytest.fixture
def two_accounts() -> Iterator[SandboxProcess]:
    keys = {"eu": "eu-key-1", "us": "us-key-2"}
    with SandboxProcess(SandboxConfig(accounts=keys)) as process:
        yield process


def test_jobs_of_two_accounts_go_to_the_right_one_with_its_key(
    courier: Courier,
    server: EmbeddedRedis,
    two_accounts: SandboxProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = {
        "COURIER_ACCOUNTS": "eu,us",
        "CHARTMOGUL_API_URL": two_accounts.url,
        "CHARTMOGUL_API_KEY": "",
        "CHARTMOGUL_API_KEY_EU": "eu-key-1",
        "CHARTMOGUL_API_KEY_US": "us-key-2",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    producer = Producer(load_settings())
    courier.start_worker(**environ)
    eu = producer.add_attributes(ADA, {"plan": "eu"})
    us = producer.add_attributes(ADA, {"plan": "us"}, account="us")
    assert (eu.account, us.account) == ("eu", "us"), "the first one is the default"
    outcomes = [receipt.wait(20) for receipt in (eu, us)]
    assert [(each.account, each.status) for each in outcomes] == [
        ("eu", "delivered"),
        ("us", "delivered"),
    ]
    for account in ("eu", "us"):
        [customer] = two_accounts.customers(ADA, account=account)
        assert customer["attributes"]["custom"] == {"plan": account}
        [asked] = [each for each in two_accounts.requests() if each["account"] == account]
        assert asked["status"] == 200

    # Whoever asks by the job's id alone finds it, whichever account it is of.
    assert AsyncResult(us.job_id, app=producer.celery).get(timeout=5).account == "us"
    assert [each.job_id for each in producer.outcomes(ADA, account="us")] == [us.job_id]
    assert producer.outcome(us.job_id) is None, "it is not the default account's"

    # The same idempotency key in two accounts is two jobs.
    both = [
        producer.add_attributes(ADA, {"n": 1}, idempotency_key="x", account=account)
        for account in ("eu", "us")
    ]
    assert [receipt.duplicate for receipt in both] == [False, False]
    assert courier.client.exists(Keys("default").inbox) == 0
    producer.close()
