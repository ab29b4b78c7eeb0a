"""Messages by another broker than the Redis that holds the state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.config.messages import ACCEPT_QUEUE, ACCEPT_TASK, KEY_PREFIX
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
        assert courier.wait(receipt)[0].status == "delivered"
        wait_until(lambda: "The broker, Redis at" in courier.log(), what="the worker says so")
        second.start()
        wait_until(lambda: "is well again" in courier.log(), what="it goes on")


class TestATransportThatIsNotAsynchronous:
    @pytest.fixture
    def folders(self, courier: Courier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Messages as files; what they call in is out for the other side, so one folder is both."""
        names = {"data_folder_in": "m", "data_folder_out": "m", "control_folder": "control"}
        options = "&".join(f"{name}={tmp_path / folder}" for name, folder in names.items())
        for folder in set(names.values()):
            (tmp_path / folder).mkdir()
        url = f"filesystem://?{options}"
        courier.environ["COURIER_BROKER_URL"] = url
        monkeypatch.setenv("COURIER_BROKER_URL", url)
        courier.producer.close()
        courier.producer = Producer(load_settings())
        return tmp_path / "m"

    def test_carries_messages(self, courier: Courier, folders: Path) -> None:
        early = courier.producer.add_attributes(ADA, {"plan": "pro"})
        wait_until(lambda: list(folders.glob(f"*.{ACCEPT_QUEUE}.msg")), what="the wake-up")
        worker = courier.start_worker()
        assert courier.wait(early)[0].status == "delivered"
        wait_until(lambda: f"Task {ACCEPT_TASK}[" in courier.log(), what="a message came")
        (folders / f"1_x.{ACCEPT_QUEUE}.msg").write_text("garbage")
        wait_until(lambda: not list(folders.glob("1_x.*")), what="the worker met it")
        before = courier.log().count(f"Task {ACCEPT_TASK}[")
        courier.producer.celery.send_task(ACCEPT_TASK, [courier.account])
        wait_until(lambda: courier.log().count(f"Task {ACCEPT_TASK}[") > before)
        assert run_health(courier) == 0
        worker.stop(grace_s=20)
        assert worker.popen.returncode == 0


def run_health(courier: Courier) -> int:
    command = [sys.executable, "-m", "attribute_courier", "health"]
    return subprocess.run(command, env={**os.environ, **courier.environ}, timeout=60).returncode
