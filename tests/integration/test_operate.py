"""What an operator sees of real workers: who is alive, what was counted, and what is wrong."""

from __future__ import annotations

import pytest

from attribute_courier.config import load_settings
from attribute_courier.operate.picture import look

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"


def codes(courier: Courier) -> list[str]:
    return [problem.code for problem in look(courier.client, load_settings()).problems]


def test_a_worker_is_seen_from_its_start_to_its_end(courier: Courier) -> None:
    assert codes(courier) == ["no_worker"]
    worker = courier.start_worker()
    [account] = look(courier.client, load_settings()).accounts
    [seen] = account.workers
    assert (seen.pool, seen.concurrency) == ("thread", 30)
    assert seen.name.startswith("courier@")
    assert codes(courier) == []
    worker.stop(20)
    assert codes(courier) == ["no_worker"], "it said that it ended"


@pytest.mark.long
def test_a_killed_worker_is_missed_within_fifteen_seconds(courier: Courier) -> None:
    courier.start_worker().kill()
    wait_until(lambda: codes(courier) == ["no_worker"], timeout_s=15)


def test_what_was_delivered_is_counted_with_its_times(courier: Courier) -> None:
    courier.start_worker()
    courier.wait(
        courier.producer.add_attributes(ADA, {"plan": "pro"}),
        courier.producer.add_attributes("nobody@nowhere.example", {"plan": "pro"}, lane="bulk"),
    )
    [account] = look(courier.client, load_settings()).accounts
    assert account.counts.jobs == {
        ("live", "delivered", ""): 1,
        ("bulk", "unmatched", "no_customer"): 1,
    }
    assert account.counts.attempts == {"2xx": 1, "4xx": 3}
    assert account.counts.latency.count == 4
    assert 0 < account.counts.latency.sum_s < 20
    assert account.counts.delay["live"].count == 1
    assert 0 < account.counts.delay["live"].sum_s < 20
    assert account.last_delivered_at is not None
