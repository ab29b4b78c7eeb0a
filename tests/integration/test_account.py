"""What concerns an account as a whole: pace, key and plan, server, replay (promises 4, 7, 8, 9)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from attribute_courier.config import load_settings
from attribute_courier.producers import Producer, Receipt
from attribute_courier.sandbox import Fault
from attribute_courier.state.account import AccountStatus

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"


def standing(courier: Courier, account: str = "default") -> AccountStatus:
    return courier.health(account).status()


def run(courier: Courier, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attribute_courier.cli", *arguments],
        env={**os.environ, **courier.environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class TestPace:
    """Promise 4."""

    @pytest.mark.long
    def test_the_limits_hold_over_several_workers(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=0.25)
        for _ in range(3):
            courier.start_worker()
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(250)
        ]
        outcomes = courier.wait(*receipts, timeout_s=60)
        stats = courier.stand_in.stats()
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert stats["max_in_progress"] <= 20
        assert stats["by_status"].get("429", 0) <= 2
        assert stats["overlaps"] == 0

    def test_the_share_of_an_account_is_a_setting(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=0.5)
        courier.start_worker(COURIER_RATE_LIMIT="10", COURIER_MAX_PARALLEL="3")
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(20)
        ]
        courier.wait(*receipts)
        stats = courier.stand_in.stats()
        assert stats["max_in_progress"] <= 3
        assert stats["max_in_any_second"] <= 10

    @pytest.mark.parametrize(
        ("form", "status"), [("seconds", 429), ("date", 429), ("seconds", 503)]
    )
    def test_retry_after_holds_the_whole_account(
        self, courier: Courier, form: str, status: int
    ) -> None:
        if status == 429:
            courier.stand_in.configure(retry_after=form, retry_after_s=3, rate_limit=1)
        else:
            courier.stand_in.configure(
                retry_after=form, retry_after_s=3, max_parallel=1, latency_s=1
            )
        courier.start_worker()
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(8)
        ]
        first = wait_until(
            lambda: [post for post in courier.posts() if post["status"] == status],
            what="the first refusal",
        )[0]
        courier.stand_in.configure(rate_limit=40, max_parallel=20, latency_s=0)
        outcomes = courier.wait(*receipts)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert {outcome.attempts for outcome in outcomes} == {1}, "waiting is no attempt"
        # What was on its way when the answer came is not held.
        later = [
            post["arrived_s"] - first["ended_s"]
            for post in courier.posts()
            if post["arrived_s"] > first["ended_s"] + 0.3
        ]
        assert min(later) > 1.5, "a date has whole seconds"

    @pytest.mark.long
    def test_a_hidden_limit_is_found(self, courier: Courier) -> None:
        courier.stand_in.configure(latency_s=0.1, hidden_rate_limit=20)
        courier.start_worker()
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(240)
        ]
        outcomes = courier.wait(*receipts, timeout_s=60)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert {outcome.attempts for outcome in outcomes} == {1}
        posts = courier.posts()
        refused = [post for post in posts[len(posts) // 2 :] if post["status"] == 429]
        assert len(refused) < 0.1 * len(posts) / 2
        assert standing(courier).rate < 30


class TestAccount:
    """Promise 8."""

    @pytest.mark.parametrize("kind", ["revoked", "expired", "forbidden"])
    def test_a_fault_of_the_account_pauses_it_and_is_no_jobs_fault(
        self, courier: Courier, kind: Any
    ) -> None:
        courier.stand_in.configure(faults=[Fault(kind=kind)])
        courier.start_worker(COURIER_PROBE_DELAYS="1s")
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(100)
        ]
        pause = wait_until(lambda: standing(courier).pause, what="the account is paused")
        assert pause.by == "account"
        wait_until(
            lambda: [each for each in courier.stand_in.requests() if each["method"] == "GET"],
            what="the first ping",
        )
        assert len(courier.posts()) <= 20
        courier.stand_in.configure(faults=[])
        outcomes = courier.wait(*receipts, timeout_s=40)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert {outcome.attempts for outcome in outcomes} == {1}

    def test_an_account_that_answers_pings_and_refuses_the_rest_is_asked_ever_less(
        self, courier: Courier
    ) -> None:
        courier.stand_in.configure(faults=[Fault(kind="forbidden", endpoint="attributes")])
        courier.start_worker(COURIER_PROBE_DELAYS="500ms,1s,1h")
        courier.producer.add_attributes(ADA, {"plan": "pro"})

        def next_probe_is_far() -> bool:
            pause = standing(courier).pause
            at = pause and pause.next_probe_at
            return at is not None and at - datetime.now(UTC) > timedelta(minutes=30)

        wait_until(next_probe_is_far, what="probes come at growing intervals")

    def test_by_hand(self, courier: Courier) -> None:
        courier.start_worker()
        assert run(courier, "pause", "--reason", "moving house").returncode == 0
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        wait_until(lambda: standing(courier).live.due == 1, what="the job is accepted and waits")
        told = run(courier, "status")
        assert "paused" in told.stdout
        assert "moving house" in told.stdout
        [document] = json.loads(run(courier, "status", "--format", "json").stdout)["accounts"]
        assert document["state"] == "paused"
        assert document["live"]["due"] == 1
        assert courier.posts() == []
        assert run(courier, "resume").returncode == 0
        assert courier.wait(receipt)[0].status == "delivered"
        [document] = json.loads(run(courier, "status", "--format", "json").stdout)["accounts"]
        assert document["state"] == "running"
        assert document["last_hour"] == {"delivered": 1}

    def test_one_account_does_not_slow_another(
        self, courier: Courier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        courier.stand_in.configure(
            accounts={"default": "sandbox-key", "eu": "eu-key"},
            latency_s=0.05,
            faults=[Fault(kind="revoked", account="eu")],
        )
        environ = {"COURIER_ACCOUNTS": "default,eu", "CHARTMOGUL_API_KEY_EU": "eu-key"}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        producer = Producer(load_settings())
        courier.start_worker(**environ)
        for n in range(100):
            producer.add_attributes(f"{n}@load.example", {"n": n}, account="eu")
        receipts = [producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(60)]
        outcomes = courier.wait(*receipts)
        producer.close()
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert standing(courier, "eu").state == "paused"
        assert standing(courier).pause is None


class TestCircuit:
    def test_a_run_of_server_failures_lets_one_probe_through_at_a_time(
        self, courier: Courier
    ) -> None:
        courier.stand_in.configure(faults=[Fault(kind="status", status=500)])
        courier.start_worker()
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(60)
        ]
        wait_until(lambda: standing(courier).circuit, what="the circuit opens")
        before = len(courier.posts())
        wait_until(lambda: len(courier.posts()) >= before + 2, what="probes")
        assert len(courier.posts()) <= 10 + 20 + 5, "not all sixty were tried"
        courier.stand_in.configure(faults=[])
        outcomes = courier.wait(*receipts, timeout_s=60)
        assert {outcome.status for outcome in outcomes} == {"delivered"}
        assert standing(courier).circuit is None


class TestCulprits:
    """Promise 7: the circuit judges emails, so a few that always fail hold nobody up."""

    CULPRITS = tuple(f"culprit-{n:02}@load.example" for n in range(20))

    def produce(self, courier: Courier) -> list[Receipt]:
        return [courier.producer.add_attributes(email, {"n": 1}) for email in self.CULPRITS]

    @pytest.mark.parametrize("status", [500, 502])
    def test_twenty_emails_that_always_fail_keep_no_good_job(
        self, courier: Courier, status: int
    ) -> None:
        courier.stand_in.configure(
            faults=[Fault(kind="status", status=status, email=email) for email in self.CULPRITS]
        )
        courier.start_worker()
        self.produce(courier)
        wait_until(lambda: standing(courier).circuit, what="ten of them have failed")
        for n in range(5):  # the circuit closes after each, and the others fail in their turn
            good = courier.producer.add_attributes(ADA, {"n": n})
            assert good.wait(5).status == "delivered"

    def test_twenty_emails_that_always_time_out_keep_no_good_job(self, courier: Courier) -> None:
        """Longer than one timeout and 5 s after their first wave: not."""
        timeout_s = 2
        courier.stand_in.configure(
            faults=[Fault(kind="latency", seconds=4, email=email) for email in self.CULPRITS]
        )
        courier.start_worker(COURIER_TIMEOUT=f"{timeout_s}s")
        self.produce(courier)
        wait_until(lambda: len(courier.posts()) >= 20, what="all of them are under way")
        good = courier.producer.add_attributes(ADA, {"n": 1})
        assert good.wait(timeout_s + 5).status == "delivered"
        wait_until(lambda: len(courier.posts()) >= 26, timeout_s=30, what="the second wave")
        good = courier.producer.add_attributes(ADA, {"n": 2})
        assert good.wait(timeout_s + 5).status == "delivered"

    def test_contents_that_are_too_large_open_no_circuit(self, courier: Courier) -> None:
        """CM5: 413 for twelve emails."""
        emails = self.CULPRITS[:12]
        courier.stand_in.configure(
            faults=[Fault(kind="status", status=413, body="html", email=email) for email in emails]
        )
        courier.start_worker()
        receipts = [courier.producer.add_attributes(email, {"n": 1}) for email in emails]
        outcomes = courier.wait(*receipts)
        assert {(each.status, each.http_status) for each in outcomes} == {("refused", 413)}
        assert all(each.message for each in outcomes)
        assert standing(courier).circuit is None
        assert courier.producer.add_attributes(ADA, {"n": 1}).wait(2).status == "delivered"


class TestSize:
    @pytest.mark.long
    def test_very_many_jobs_for_one_email_settle_within_a_minute(self, courier: Courier) -> None:
        """Settling is linear, and a request bounded."""
        courier.stand_in.configure(rate_limit=2_000)
        courier.start_worker(COURIER_RATE_LIMIT="1000")
        began_s = time.monotonic()
        bulk = courier.producer.add_many(
            [("big@load.example", {f"key_{n}": n}) for n in range(5_000)], lane="live"
        )
        assert bulk.enqueued == 5_000
        wait_until(
            lambda: standing(courier).last_hour.get("delivered") == 5_000,
            timeout_s=began_s + 60 - time.monotonic(),
            what="all are delivered",
        )
        assert courier.custom("big@load.example") == {f"key_{n}": n for n in range(5_000)}
        posts = courier.posts()
        assert max(len(post["custom"]) for post in posts) <= 250
        assert sum(len(post["custom"]) for post in posts) == 5_000, "none was sent twice"

    def test_how_much_a_request_carries_is_a_setting(self, courier: Courier) -> None:
        receipts = [courier.producer.add_attributes(ADA, {f"k{n}": n}) for n in range(20)]
        receipts += [
            courier.producer.add_attributes("two@example.com", {f"k{n}": "x" * 200})
            for n in range(12)
        ]
        courier.accept()
        courier.start_worker(COURIER_MAX_ATTRIBUTES="8", COURIER_MAX_REQUEST_BYTES="1024")
        assert {each.status for each in courier.wait(*receipts)} == {"delivered"}
        assert [len(post["custom"]) for post in courier.posts(ADA)] == [8, 8, 4]
        assert len(courier.posts("two@example.com")) == 3


class TestFailedAndReplay:
    def test_what_the_server_never_took_is_failed_and_can_be_replayed(
        self, courier: Courier
    ) -> None:
        courier.stand_in.configure(faults=[Fault(kind="status", status=500)])
        courier.start_worker(COURIER_GIVE_UP_AFTER="1s")
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro", "seats": 3}, source="crm")
        outcome = courier.wait(receipt, timeout_s=60)[0]
        assert outcome.status == "failed"
        courier.stand_in.configure(faults=[])

        told = run(courier, "replay", "--status", "failed", "--dry-run")
        assert receipt.job_id in told.stdout
        assert receipt.outcome() == outcome
        told = run(courier, "replay", "--status", "failed")
        assert told.returncode == 0, told.stderr
        assert "1 job replayed" in told.stderr
        assert courier.wait(receipt)[0].status == "delivered"
        assert courier.custom(ADA) == {"plan": "pro", "seats": 3}
        assert courier.posts()[-1]["custom"][0]["source"] == "crm"
        assert len(courier.outcomes.of_email(ADA)) == 1

    def test_a_replayed_job_overwrites_no_newer_value(self, courier: Courier) -> None:
        courier.stand_in.configure(faults=[Fault(kind="status", status=422, count=1)])
        courier.start_worker()
        older = courier.producer.add_attributes(ADA, {"plan": "free"})
        assert courier.wait(older)[0].status == "refused"
        newer = courier.producer.add_attributes(ADA, {"plan": "pro"})
        assert courier.wait(newer)[0].status == "delivered"
        assert run(courier, "replay", "--job", older.job_id).returncode == 0
        assert courier.wait(older)[0].status == "superseded"
        assert courier.custom(ADA) == {"plan": "pro"}

    def test_an_unconfirmed_job_can_be_replayed(self, courier: Courier) -> None:
        courier.start_worker()
        receipt = courier.producer.add_attributes("quiet@example.com", {"plan": "pro"})
        assert courier.wait(receipt)[0].status == "unconfirmed"
        assert run(courier, "replay", "--email", "quiet@example.com").returncode == 0
        assert courier.wait(receipt)[0].status == "unconfirmed"
        assert len(courier.posts("quiet@example.com")) == 4

    def test_what_was_delivered_is_not_replayed(self, courier: Courier) -> None:
        courier.start_worker()
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        courier.wait(receipt)
        assert run(courier, "replay", "--job", receipt.job_id).returncode == 1
        assert len(courier.posts()) == 1
