"""A worker that meets another layout of the keys refuses to start, in words."""

from __future__ import annotations

from attribute_courier.cli.stage import start_worker

from ..conftest import Courier
from ..waiting import wait_until


def test_a_worker_refuses_another_layout(courier: Courier) -> None:
    courier.client.set(courier.keys.of("layout"), "7")
    log = courier.logs / "refused.log"
    worker = start_worker(courier.environ, log)
    wait_until(lambda: not worker.running, what="the worker has ended")
    assert worker.popen.wait() != 0
    assert "have layout '7', and this release reads '1'" in log.read_text()
