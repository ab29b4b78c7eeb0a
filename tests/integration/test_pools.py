"""Which of Celery's pools and options work, and what the worker says of the others."""

from __future__ import annotations

import base64
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency import thread

from attribute_courier.config.celery import KEY_PREFIX
from attribute_courier.sandbox import LeashedProcess
from attribute_courier.worker import service

from ..conftest import Courier
from ..processes import children_of
from ..waiting import wait_until

COURIER = [sys.executable, "-m", "attribute_courier.cli", "worker"]
CELERY = [sys.executable, "-m", "celery", "-A", "attribute_courier.worker", "worker"]


def run(courier: Courier, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        env={**os.environ, **courier.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def started(courier: Courier) -> Any:
    """Start a worker by any command; it is ready then."""

    def start(*argv: str, **environ: str) -> LeashedProcess:
        log = courier.logs / "worker-0.log"
        with log.open("ab") as stream:
            worker = LeashedProcess(
                list(argv),
                env={**os.environ, **courier.environ, **environ},
                stdout=stream,
                stderr=stream,
            )
        courier.workers.append(worker)
        wait_until(lambda: " ready." in courier.log() or not worker.running, what="it is ready")
        assert worker.running, courier.log()
        return worker

    return start


def deliver_some(courier: Courier, count: int = 30) -> None:
    receipts = [
        courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(count)
    ]
    outcomes = courier.wait(*receipts)
    assert {outcome.status for outcome in outcomes} == {"delivered"}
    assert courier.stand_in.stats()["overlaps"] == 0


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
@pytest.mark.parametrize("command", ["courier", "celery"])
def test_a_pool_that_works(courier: Courier, started: Any, pool: str, command: str) -> None:
    concurrency = [] if pool == "solo" else ["--concurrency", "3"]
    if command == "courier":
        worker = started(*COURIER, "--pool", pool, *concurrency)
    else:
        worker = started(*CELERY, "-l", "info", "-P", pool, *concurrency)
    deliver_some(courier)
    assert "Traceback" not in courier.log()
    # Celery's own command takes "-P prefork" for unsaid, and then the pool that is configured.
    in_children = pool == "prefork" and command == "courier"
    assert ("ForkPoolWorker" in courier.log()) == in_children
    worker.stop(grace_s=20)
    assert worker.popen.returncode == 0


@pytest.fixture
def events(courier: Courier) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """The events of a kind that workers have sent so far, with what they must hold."""
    channel = courier.client.pubsub(ignore_subscribe_messages=True)
    channel.psubscribe(KEY_PREFIX + "/0.celeryev/*")
    seen: list[dict[str, Any]] = []

    def of(kind: str, **fields: str | None) -> list[dict[str, Any]]:
        while message := channel.get_message(timeout=0.1):
            body = json.loads(base64.b64decode(json.loads(message["data"])["body"]))
            seen.extend(body if isinstance(body, list) else [body])
        wanted = {"type": f"task-{kind}", **fields}
        return [each for each in seen if wanted.items() <= each.items()]

    yield of
    channel.close()


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_flower_sees_what_came_of_jobs_and_of_tasks(
    courier: Courier, started: Any, events: Any, pool: str
) -> None:
    courier.health().pause("for the test")
    receipt = courier.producer.add_attributes("0@load.example", {"n": 1})
    concurrency = [] if pool == "solo" else ["--concurrency", "2"]
    started(*COURIER, "--pool", pool, *concurrency, "--name", "courier@here")
    in_vain = {"exception": "1 accepted · paused: for the test", "traceback": None}
    [retried] = wait_until(lambda: events("retried", **in_vain), what="a task did no good")
    assert not events("succeeded", uuid=retried["uuid"])

    courier.health().resume()
    courier.wait(receipt)
    [event] = wait_until(lambda: events("succeeded", uuid=receipt.job_id), what="the job's event")
    assert event["hostname"] == "courier@here"
    wait_until(
        lambda: [each for each in events("succeeded") if "1 delivered" in each["result"]],
        what="a task says what it did",
    )
    # To Celery a retry was nothing but a state: the task did not run again.
    assert len(events("started", uuid=retried["uuid"])) == 1
    assert "Traceback" not in courier.log()


@pytest.mark.parametrize("pool", ["threads", "prefork", "solo"])
def test_flower_sees_what_ends_while_its_worker_stops(
    courier: Courier, started: Any, events: Any, pool: str
) -> None:
    courier.stand_in.configure(latency_s=1)
    worker = started(*COURIER, "--pool", pool)
    receipt = courier.producer.add_attributes("0@load.example", {"n": 1})
    wait_until(courier.posts, what="it is in flight")
    worker.stop(grace_s=20)
    assert receipt.outcome().status == "delivered"
    wait_until(lambda: events("succeeded", uuid=receipt.job_id), timeout_s=3, what="the event")


def test_prefork_stops_soon_although_a_task_had_just_come(courier: Courier, started: Any) -> None:
    """Celery forgets it, and nobody tells its process that what it said was read."""
    worker = started(*COURIER, "--pool", "prefork", "--concurrency", "2")
    deliver_some(courier, 2)
    children = children_of(worker.pid)

    def idle() -> bool:
        log = courier.log()
        return log.count(" received") == log.count(" succeeded in")

    wait_until(idle)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    had = courier.log().count(" received")
    courier.producer.add_attributes("late@load.example", {"n": 1})
    wait_until(lambda: courier.log().count(" received") > had)
    worker.popen.terminate()
    wait_until(lambda: "Warm shutdown" in courier.log())
    time.sleep(1)
    for child in children:
        os.kill(child, signal.SIGCONT)
    worker.stop(grace_s=15)
    assert worker.popen.returncode == 0


@pytest.mark.parametrize(
    "options", [["--autoscale", "10,3"], ["--autoscale=4"], ["-P", "prefork", "--autoscale", "4,1"]]
)
def test_autoscale_is_refused(courier: Courier, options: list[str]) -> None:
    ended = run(courier, *CELERY, *options)
    assert ended.returncode == 1
    assert "Error: a worker does not work with --autoscale" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_another_pool_is_refused(courier: Courier) -> None:
    ended = run(
        courier,
        *CELERY,
        "-P",
        "custom",
        CELERY_CUSTOM_WORKER_POOL="celery.concurrency.base:BasePool",
    )
    assert ended.returncode == 1
    assert (
        "threads (the default), prefork and solo, and not with gevent or eventlet" in ended.stderr
    )
    assert "Traceback" not in ended.stderr


class TestTheCheck:
    """By itself: neither gevent nor eventlet need be installed."""

    @pytest.fixture
    def app_module(self, courier: Courier) -> Any:
        return importlib.import_module("attribute_courier.worker.standalone")

    @pytest.mark.parametrize("module", ["gevent", "eventlet"])
    def test_refuses_green_pools(self, app_module: Any, module: str) -> None:
        green = type("TaskPool", (), {"__module__": f"celery.concurrency.{module}"})
        with pytest.raises(SystemExit, match="not with gevent or eventlet"):
            app_module.Checks(SimpleNamespace(app=app_module.app, pool_cls=green, hostname="x"))

    def test_refuses_a_patched_process(
        self, app_module: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "detect_environment", lambda: "gevent")
        with pytest.raises(SystemExit, match="not with gevent or eventlet"):
            app_module.Checks(
                SimpleNamespace(app=app_module.app, pool_cls=thread.TaskPool, hostname="x")
            )


@pytest.mark.long
def test_a_rate_limit_set_from_outside_is_ignored(courier: Courier) -> None:
    """Flower has a field for it."""
    courier.start_worker()
    app = courier.producer.celery
    for task in ("attribute_courier.accept", "attribute_courier.deliver"):
        replies = app.control.rate_limit(task, "1/m", reply=True, timeout=5)
        assert replies, "the worker got it"
    deliver_some(courier)


def test_an_end_by_an_error_has_an_exit_code(courier: Courier, started: Any) -> None:
    """So that a supervisor starts it again: `Restart=on-failure`."""
    broken = courier.logs / "broken.py"
    broken.write_text(
        "import sys\n"
        "from attribute_courier.worker.consumer import Intake\n"
        "def fail(*args, **options):\n"
        "    raise LookupError('a fault of our own')\n"
        "Intake.create_task_handler = fail\n"
        "from attribute_courier.cli import main\n"
        "main(['worker'])\n"
    )
    ended = run(courier, sys.executable, str(broken))
    assert ended.returncode == 1
    assert "a fault of our own" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HTTPS_PROXY", "gopher://proxy", "HTTPS_PROXY: a proxy's URL begins with"),
        ("REQUESTS_CA_BUNDLE", "/no/such/file", "REQUESTS_CA_BUNDLE: /no/such/file does not"),
        ("COURIER_REDIS_ULR", "redis://x", "did you mean COURIER_REDIS_URL?"),
        ("COURIER_REDIS_URL", "sentinel://x", "behind the Sentinels stands"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_at_the_start(
    courier: Courier, variable: str, value: str, says: str
) -> None:
    for command, code in (
        (COURIER, 2),
        (CELERY, None),
    ):
        ended = run(courier, *command, **{variable: value})
        assert says in ended.stderr
        assert ended.returncode == code if code else ended.returncode > 0


def test_an_exception_of_our_own_is_not_called_no_task(courier: Courier, tmp_path: Any) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from attribute_courier.worker import app\n"
        "from celery.worker.consumer import Consumer\n"
        "make = Consumer.create_task_handler\n"
        "def odd(self, *args, **options):\n"
        "    receive = make(self, *args, **options)\n"
        "    left = [2]\n"
        "    def on_task_received(message):\n"
        "        if left[0]:\n"
        "            left[0] -= 1\n"
        "            raise AttributeError('a fault of our own')\n"
        "        return receive(message)\n"
        "    return on_task_received\n"
        "Consumer.create_task_handler = odd\n"
        "from attribute_courier.cli import main\n"
        "main(['worker'])\n"
    )
    log = courier.logs / "worker-0.log"
    with log.open("ab") as stream:
        worker = LeashedProcess(
            [sys.executable, str(broken)],
            env={**os.environ, **courier.environ},
            stdout=stream,
            stderr=stream,
        )
    courier.workers.append(worker)
    wait_until(lambda: " ready." in courier.log(), what="it is ready")
    deliver_some(courier, 3)
    assert "could not be given to the pool" in courier.log()
    assert "AttributeError: a fault of our own" in courier.log()
    assert "is no task" not in courier.log()
    assert worker.running


def test_beside_an_application_that_left_its_variables(courier: Courier) -> None:
    courier.start_worker(
        CELERY_BROKER_URL="amqp://rabbit.invalid",
        CELERY_RESULT_BACKEND="redis://redis.invalid",
        CELERY_CONFIG_MODULE="no_such_module",
        CELERY_LOADER="no.such.module:Loader",
        FORKED_BY_MULTIPROCESSING="1",
        CELERY_WORKER_CONCURRENCY="1",
        CELERY_WORKER_POOL="solo",
    )
    deliver_some(courier, 3)
