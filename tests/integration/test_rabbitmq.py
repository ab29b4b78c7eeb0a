"""Messages by RabbitMQ: the promises hold, and nothing that the broker does costs a job."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from kombu import Connection
from kombu import Producer as KombuProducer

from attribute_courier.cli import main
from attribute_courier.config import Secret, load_settings
from attribute_courier.config.messages import ACCEPT_QUEUE, ACCEPT_TASK, DELIVER_QUEUE
from attribute_courier.jobs.hooks import HookEvent
from attribute_courier.producers import Producer
from attribute_courier.worker.receivers import Task

from ..cli_runner import CliRunner
from ..conftest import Courier
from ..flower import running_flower
from ..proxy import Proxy
from ..rabbitmq import RabbitMQ, rabbitmq
from ..waiting import wait_until
from . import test_promises

pytestmark = pytest.mark.long

ADA = "ada@example.com"
WHOLE = "COURIER_TESTS_RABBITMQ_WHOLE"
"""When this variable is set, each test of the promises runs, not only those about messages."""
_IS_WHOLE = bool(os.environ.get(WHOLE))  # before the tests scrub their environment


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as found:
        yield found


@pytest.fixture
def proxy(node: RabbitMQ) -> Iterator[Proxy]:
    """The way to RabbitMQ, which can be cut."""
    with Proxy(node.url) as found:
        yield found


@pytest.fixture
def courier(courier: Courier, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Courier]:
    """The whole courier, with messages by RabbitMQ; its queues are there, and empty."""
    courier.environ["COURIER_BROKER_URL"] = proxy.url
    monkeypatch.setenv("COURIER_BROKER_URL", proxy.url)
    courier.producer.close()
    courier.producer = Producer(load_settings())
    with courier.producer.celery.connection_for_write() as connection:
        for queue in (ACCEPT_QUEUE, DELIVER_QUEUE):
            bound = courier.producer.celery.amqp.queues[queue](connection.default_channel)
            bound.declare()
            bound.purge()
    yield courier
    courier.producer.close()


class TestThePromises:
    """Those of `test_promises` in which a message is lost, late, or comes twice."""

    nothing_is_lost = test_promises.TestNothingIsLost
    test_accept = nothing_is_lost.test_an_accept_message_that_the_broker_lost
    test_deliver = nothing_is_lost.test_a_deliver_message_that_the_broker_lost
    test_twice = test_promises.TestOneAtATime.test_a_message_that_comes_twice_does_no_harm


if _IS_WHOLE:
    globals().update(
        {name: each for name, each in vars(test_promises).items() if name.lower()[:4] == "test"}
    )


def received(courier: Courier) -> int:
    """How many messages the workers got."""
    return courier.log().count(f"Task {ACCEPT_TASK}[")


def test_a_job_is_taken_up_by_a_message(courier: Courier) -> None:
    early = courier.producer.add_attributes(ADA, {"plan": "free"})
    assert courier.drop_messages(ACCEPT_QUEUE) == 1
    courier.start_worker()
    courier.start_worker()  # which has the same name
    assert courier.wait(early)[0].status == "delivered"

    def by_a_message() -> bool:
        before = received(courier)
        receipt = courier.producer.add_attributes(ADA, {"plan": str(before)})
        assert courier.wait(receipt)[0].status == "delivered"
        return received(courier) > before

    wait_until(by_a_message, what="a job that a message brought")
    assert not courier.client.keys("courier:celery:*"), "no messages in Redis"


class TestABrokerThatIsAway:
    def test_from_the_start_holds_nothing_up(
        self, courier: Courier, proxy: Proxy, node: RabbitMQ
    ) -> None:
        proxy.lead_to("tcp://127.0.0.1:1")
        early = courier.producer.add_attributes(ADA, {"plan": "free"})
        ready = courier.log().count(" ready.")
        courier.workers.append(_start(courier))
        assert courier.wait(early)[0].status == "delivered", courier.log()
        assert courier.log().count(" ready.") == ready, "the worker is not connected"
        wait_until(lambda: "The broker at amqp://127.0.0.1" in courier.log())
        assert node.password not in courier.log()
        proxy.lead_to(node.url)
        wait_until(lambda: courier.log().count(" ready.") > ready, what="it connects")
        wait_until(lambda: "is well again" in courier.log())
        assert courier.log().count("; check COURIER_BROKER_URL") == 1, "it is said once"

    def test_under_work_holds_nothing_up(
        self, courier: Courier, proxy: Proxy, node: RabbitMQ
    ) -> None:
        courier.stand_in.configure(latency_s=0.2)
        courier.start_worker()
        first = courier.wait(courier.producer.add_attributes(ADA, {"plan": "free"}))
        assert first[0].status == "delivered"
        proxy.lead_to("tcp://127.0.0.1:1")
        proxy.cut()
        receipts = [
            courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(40)
        ]
        assert {each.status for each in courier.wait(*receipts)} == {"delivered"}
        proxy.lead_to(node.url)
        wait_until(lambda: "is well again" in courier.log())
        before = received(courier)
        courier.producer.celery.send_task(ACCEPT_TASK, [courier.account])
        wait_until(lambda: received(courier) > before, what="the worker takes messages again")
        assert courier.workers[0].running
        assert courier.stand_in.stats()["overlaps"] == 0
        assert "Traceback" not in courier.log()

    @pytest.mark.skipif(not _IS_WHOLE, reason=f"takes half a minute; {WHOLE}=1 runs it")
    def test_that_falls_silent_is_noticed(self, courier: Courier, proxy: Proxy) -> None:
        courier.start_worker()
        connected = courier.log().count("Connected to")
        proxy.fall_silent()
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        assert courier.wait(receipt)[0].status == "delivered"
        wait_until(lambda: courier.log().count("Connected to") > connected, timeout_s=90)

    def test_costs_a_producer_a_short_time_once(
        self, courier: Courier, proxy: Proxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        courier.producer.add_attributes(ADA, {"n": 0})  # imports Kombu, and connects
        with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and says nothing
            proxy.lead_to(f"tcp://127.0.0.1:{mute.getsockname()[1]}")
            proxy.cut()
            began_s = time.monotonic()
            for n in range(20):
                courier.client.delete(courier.keys.of("inbox:live"))  # so that each wakes a worker
                courier.producer.add_attributes(ADA, {"n": n})
            assert time.monotonic() - began_s < 8, "and not 20 times half a second"
            wait_until(lambda: "no message sent to the workers" in caplog.text)
            assert caplog.text.count("no message sent") == 1

    def test_that_restarted_gets_the_next_wake_up(self, courier: Courier, proxy: Proxy) -> None:
        courier.producer.add_attributes(ADA, {"n": 0})
        assert courier.drop_messages(ACCEPT_QUEUE) == 1
        proxy.cut()
        courier.client.delete(courier.keys.of("inbox:live"))
        courier.producer.add_attributes(ADA, {"n": 1})
        wait_until(lambda: courier.drop_messages(ACCEPT_QUEUE) == 1)


def _start(courier: Courier) -> Any:
    from attribute_courier.cli.stage import start_worker as start

    return start(courier.environ, courier.logs / f"worker-{len(courier.workers)}.log")


def test_a_producer_made_before_a_fork(courier: Courier) -> None:
    courier.producer.add_attributes(ADA, {"n": 0})
    assert courier.drop_messages(ACCEPT_QUEUE) == 1
    child = os.fork()
    if child == 0:
        try:
            courier.client.delete(courier.keys.of("inbox:live"))
            courier.producer.add_attributes(ADA, {"n": 1})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    wait_until(lambda: courier.drop_messages(ACCEPT_QUEUE) == 1, what="the child's message")
    courier.client.delete(courier.keys.of("inbox:live"))
    courier.producer.add_attributes(ADA, {"n": 2})
    wait_until(lambda: courier.drop_messages(ACCEPT_QUEUE) == 1, what="the parent's own")


GARBAGE: list[tuple[Any, dict[str, Any]]] = [
    (b"garbage", {"content_type": "application/json", "content_encoding": "utf-8"}),
    (b"\xff\xfe", {"content_type": "application/json", "content_encoding": "utf-8"}),
    (b"garbage", {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
    (b"garbage", {"content_type": "application/unheard-of", "content_encoding": "klingon"}),
    (b"", {}),
    ({"a": 1}, {"headers": {"task": ACCEPT_TASK, "id": "x"}}),
    ([["default"], {}, {}], {"headers": {"task": "no.such.task", "id": "x"}}),
    ([["default"], {}, {}], {"headers": {"task": ACCEPT_TASK, "id": "x", "compression": "gzip"}}),
    ([["no-such-account"], {}, {}], {"headers": {"task": ACCEPT_TASK, "id": "x"}}),
    ([[1, 2, 3], {}, {}], {"headers": {"task": ACCEPT_TASK, "id": "x"}}),
]


def test_messages_that_are_no_task_are_dropped(courier: Courier, node: RabbitMQ) -> None:
    courier.start_worker(COURIER_CONCURRENCY="4")
    with Connection(node.url) as connection:
        producer = KombuProducer(connection.default_channel)
        for queue in (ACCEPT_QUEUE, DELIVER_QUEUE):
            for body, options in GARBAGE:
                producer.publish(body, routing_key=queue, **options)
    wait_until(lambda: courier.log().count("dropped an entry of the broker's queue") >= 16)
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
    assert courier.wait(receipt)[0].status == "delivered"
    before = received(courier)
    courier.producer.celery.send_task(ACCEPT_TASK, [courier.account])
    wait_until(lambda: received(courier) > before, what="the worker takes messages")
    assert courier.workers[0].running


def test_flower_shows_jobs_and_that_one_is_canceled(courier: Courier) -> None:
    with running_flower(courier.environ, courier.logs, password="hush") as flower:
        courier.start_worker()
        receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
        assert courier.wait(receipt)[0].status == "delivered"
        wait_until(lambda: flower.state(receipt.job_id) == "SUCCESS")
        courier.stand_in.configure(latency_s=0)
        courier.health().pause("a test")
        held = courier.producer.add_attributes("held@load.example", {"n": 1})
        wait_until(lambda: flower.state(held.job_id) == "RECEIVED")
        assert courier.producer.cancel(held.job_id).canceled
        wait_until(lambda: flower.state(held.job_id) == "REVOKED")
        workers = flower.get("/api/workers?refresh=1").json()
        assert workers, "remote control goes by RabbitMQ, too"


def test_ping_and_doctor_send_a_message_through(courier: Courier, proxy: Proxy) -> None:
    shown = CliRunner().invoke(main, ["ping"]).output
    assert "Broker amqp://127.0.0.1" in shown
    assert "a message went through a queue and back" in shown
    proxy.lead_to("tcp://127.0.0.1:1")
    proxy.cut()
    found = CliRunner().invoke(main, ["ping"])
    assert found.exit_code == 3
    assert "The broker at amqp://127.0.0.1" in found.output


def test_a_wrong_password_is_said_and_not_shown(courier: Courier, node: RabbitMQ) -> None:
    wrong = "hush-never-shown"
    courier.environ["COURIER_BROKER_URL"] = node.url.replace(node.password, wrong)
    courier.workers.append(_start(courier))
    wait_until(lambda: "refuses it" in courier.log() or "check COURIER_BROKER" in courier.log())
    assert wrong not in courier.log()
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro"})
    assert courier.wait(receipt)[0].status == "delivered", "it goes on without"


def test_a_hooks_task_reaches_an_application(node: RabbitMQ) -> None:
    event = HookEvent(
        id="a-job_1-0",
        type="job.settled",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        data={"job_id": "a-job", "status": "delivered", "message": "ä"},
    )
    with Connection(node.url) as connection, Proxy(node.url) as way:
        queue = connection.SimpleQueue("outcomes")
        task = Task("shop.on_outcome", Secret(way.url), "outcomes", timeout_s=5)
        assert task.send(event) is None
        first = queue.get(timeout=10)
        assert first.headers["task"] == "shop.on_outcome"
        assert first.decode()[0] == [event.document()]
        way.lead_to("tcp://127.0.0.1:1")
        way.cut()
        refused = task.send(event)
        assert refused is not None
        assert "the broker does not take it" in refused.reason
        way.lead_to(node.url)
        wait_until(lambda: task.send(event) is None, what="the broker is back")
        assert queue.get(timeout=10).headers["id"] == first.headers["id"], "a repeat has its id"
        queue.close()
        task._connection().release()
