"""Messages by another broker than the Redis that holds the state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.config.messages import ACCEPT_QUEUE, KEY_PREFIX
from attribute_courier.producers import Producer
from attribute_courier.sandbox import EmbeddedRedis

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"
QUEUE = KEY_PREFIX + ACCEPT_QUEUE


class TestASecondRedis:
    @pytest.fixture
    def second(
        self, courier: Courier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[EmbeddedRedis]:
        with EmbeddedRedis(tmp_path / "broker") as found:
            courier.environ["COURIER_BROKER_URL"] = found.url
            monkeypatch.setenv("COURIER_BROKER_URL", found.url)
            courier.producer.close()
            courier.producer = Producer(load_settings())
            yield found
            courier.producer.close()

    def test_carries_messages_and_the_first_holds_the_state(
        self, courier: Courier, second: EmbeddedRedis
    ) -> None:
        early = courier.producer.add_attributes(ADA, {"plan": "pro"})
        with redis.Redis.from_url(second.url, decode_responses=True) as broker:
            assert broker.llen(QUEUE) == 1, "the wake-up"
            courier.start_worker()
            assert courier.wait(early)[0].status == "delivered"
            live = courier.producer.add_attributes(ADA, {"plan": "max"})
            assert courier.wait(live)[0].status == "delivered"
            assert courier.custom(ADA) == {"plan": "max"}
            assert not broker.keys("courier:{*"), "no state"
        assert not courier.client.keys(f"{KEY_PREFIX}*"), "no messages"

    def test_that_is_away_holds_no_job_up(self, courier: Courier, second: EmbeddedRedis) -> None:
        courier.start_worker()
        second.kill()
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        wait_until(lambda: "The broker" in courier.log(), what="the worker says so")
        second.start()
        assert courier.wait(receipt)[0].status == "delivered"
