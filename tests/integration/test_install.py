"""The courier in an application's own Celery app: `attribute_courier.worker.install`."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from attribute_courier.producers import Receipt
from attribute_courier.sandbox import LeashedProcess
from attribute_courier.state.workers import Workers

from ..conftest import Courier
from ..waiting import wait_until

HERE = Path(__file__).parent
CELERY = [sys.executable, "-m", "celery", "-A", "celery_host", "worker", "-l", "info"]
OFF = "the courier delivers nothing in this worker, whose other tasks go on: "


@dataclass
class Host:
    """An application with a Celery app of its own, whose broker is another database."""

    courier: Courier
    broker: str
    client: redis.Redis

    def environ(self, install: dict[str, Any] | None, conf: dict[str, Any]) -> dict[str, str]:
        found = {
            **os.environ,
            **self.courier.environ,
            "HOST_BROKER": self.broker,
            "HOST_CONF": json.dumps(conf),
            "PYTHONPATH": str(HERE),
        }
        return found if install is None else {**found, "HOST_INSTALL": json.dumps(install)}

    def start(
        self,
        *options: str,
        install: dict[str, Any] | None = None,
        conf: dict[str, Any] | None = None,
        **environ: str,
    ) -> LeashedProcess:
        """A worker of the application, ready to work."""
        before = self.courier.log().count(" ready.")
        with (self.courier.logs / f"worker-{len(self.courier.workers)}.log").open("ab") as log:
            worker = LeashedProcess(
                [*CELERY, *options, "--without-mingle", "--without-gossip"],
                env={**self.environ(install or {}, conf or {}), **environ},
                stdout=log,
                stderr=log,
            )
        self.courier.workers.append(worker)
        wait_until(
            lambda: self.courier.log().count(" ready.") > before or not worker.running,
            what="a worker of the application is ready",
        )
        assert worker.running, self.courier.log()
        return worker

    def run(
        self, *argv: str, install: dict[str, Any] | None = None, conf: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *argv],
            env=self.environ(install, conf or {}),
            capture_output=True,
            text=True,
            timeout=60,
        )

    def runs(self, program: str) -> None:
        """A program ends well."""
        done = self.run("-c", program)
        assert done.returncode == 0, done.stderr

    def send_own(self, *numbers: int) -> None:
        """Messages for the application's own task."""
        done = self.run(
            "-c",
            f"from celery_host import own\nfor number in {list(numbers)}: own.delay(number)",
        )
        assert done.returncode == 0, done.stderr

    def own_done(self) -> int:
        return int(self.client.scard("own-done"))  # type: ignore[arg-type]

    def add(self, count: int) -> list[Receipt]:
        """Jobs of a process that knows nothing of the application's Celery app."""
        add = self.courier.producer.add_attributes
        return [add(f"{n}@load.example", {"n": n}) for n in range(count)]


@pytest.fixture
def host(courier: Courier) -> Iterator[Host]:
    broker = re.sub(r"/\d+$", "/5", courier.server.url)
    with redis.Redis.from_url(broker, decode_responses=True) as client:
        yield Host(courier=courier, broker=broker, client=client)
    for worker in courier.workers:
        kill(worker)


def kill(worker: LeashedProcess) -> None:
    """The worker and the processes of its pool, all at once."""
    if worker.running:
        os.killpg(worker.pid, signal.SIGKILL)
    worker.kill()


def shows_a_job(channel: Any) -> bool:
    """Whether the next event tells that a job was delivered."""
    message = channel.get_message(timeout=0.1)
    body = base64.b64decode(json.loads(message["data"])["body"]) if message else b""
    return b'"attribute_courier.add_attributes"' in body and b"1 customer" in body


@pytest.mark.parametrize("pool", [pytest.param("threads", marks=pytest.mark.long), "prefork"])
def test_nothing_is_lost_with_a_killed_worker_of_the_application(
    host: Host, courier: Courier, pool: str
) -> None:
    """Promise 1. The limits of the application's own tasks end none of ours."""
    options = ["-P", pool, "-c", "4", "-E", "-n", f"{pool}@host"]
    conf = {"task_time_limit": 2, "task_soft_time_limit": 1, "worker_prefetch_multiplier": 4}
    environ = {"COURIER_TIMEOUT": "500ms", "COURIER_RATE_LIMIT": "20"}
    first = host.start(*options, conf=conf, **environ)
    receipts = host.add(100)
    wait_until(lambda: len(courier.posts()) > 15, what="some are delivered")
    kill(first)
    assert len(courier.posts()) < 100, "it died on the way"

    told = host.client.pubsub(ignore_subscribe_messages=True)
    told.psubscribe("/5.celeryev/*")
    host.send_own(*range(20))
    second = host.start(*options, conf=conf, **environ)
    assert {outcome.status for outcome in courier.wait(*receipts)} == {"delivered"}
    assert all(courier.custom(f"{n}@load.example") == {"n": n} for n in range(100))
    wait_until(lambda: shows_a_job(told), what="Flower is told of a job")
    told.close()
    assert courier.stand_in.stats()["overlaps"] == 0
    wait_until(lambda: host.own_done() == 20, what="the application's own tasks ran")
    [alive] = [each for each in Workers(courier.client, ["default"]).alive() if each.seen_s < 5]
    assert (alive.name, alive.pool, alive.concurrency) == (
        f"{pool}@host",
        "thread" if pool == "threads" else pool,
        4,
    )
    assert "time limit" not in courier.log()
    second.stop(grace_s=20)
    assert second.popen.returncode == 0
    assert "Traceback" not in courier.log()


@pytest.mark.long
def test_a_time_limit_that_is_meant_for_our_tasks_loses_nothing(
    host: Host, courier: Courier
) -> None:
    host.start(
        *("-P", "prefork", "-c", "2"),
        conf={"task_annotations": {"*": {"time_limit": 1, "soft_time_limit": None}}},
        COURIER_TIMEOUT="500ms",
        COURIER_RATE_LIMIT="15",
    )
    receipts = host.add(40)
    wait_until(lambda: "Hard time limit (1" in courier.log(), what="a stint was killed")
    assert {outcome.status for outcome in courier.wait(*receipts)} == {"delivered"}
    assert courier.stand_in.stats()["overlaps"] == 0


def test_a_queue_of_its_own_and_a_stop_that_starts_no_further_request(
    host: Host, courier: Courier
) -> None:
    """Of the processes of the pool, too: they learn that their worker is to stop."""
    own_queue = {"queue": "for-the-courier"}
    stranger = host.start("-Q", "other", "-P", "solo", install=own_queue)
    assert "delivers nothing in this worker, which does not serve its queue" in courier.log()
    assert "one with -Q for-the-courier,other" in courier.log()
    worker = host.start("-P", "prefork", "-c", "2", "-Q", "for-the-courier", install=own_queue)
    host.add(400)
    wait_until(lambda: len(courier.posts()) > 20, what="it delivers")
    assert [each.concurrency for each in Workers(courier.client, ["default"]).alive()] == [2]
    worker.stop(grace_s=30)
    assert worker.popen.returncode == 0
    assert len(courier.posts()) < 250, "a stint there takes ten seconds, near 400 requests"
    assert courier.client.zcard(courier.keys.of("leases")) == 0, "what was in flight is settled"
    stranger.stop(grace_s=20)


def test_a_redis_that_evicts_turns_it_off_until_it_is_mended(host: Host, courier: Courier) -> None:
    courier.client.config_set("maxmemory", "500mb")
    courier.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        host.start("-P", "threads", "-c", "2")
        wait_until(lambda: OFF in courier.log(), what="it says so")
        host.send_own(1)
        wait_until(host.own_done, what="the application's own task ran")
        [receipt] = host.add(1)
        assert Workers(courier.client, ["default"]).alive() == []
    finally:
        courier.client.config_set("maxmemory-policy", "noeviction")
        courier.client.config_set("maxmemory", "0")
    assert courier.wait(receipt)[0].status == "delivered"
    assert courier.log().count(OFF) == 1
    assert f"{OFF}Redis at {courier.server.url.rpartition('@')[2]}" in courier.log().replace(
        "redis://", ""
    )
    assert "CONFIG SET maxmemory-policy noeviction" in courier.log()
    assert "the courier delivers in this worker from now on" in courier.log()


def test_settings_that_are_not_valid_turn_it_off_in_words(host: Host, courier: Courier) -> None:
    worker = host.start("-P", "solo", COURIER_RATE_LIMIT="much")
    [line] = [line for line in courier.log().splitlines() if OFF in line]
    assert "COURIER_RATE_LIMIT: " in line
    assert "Traceback" not in courier.log()
    assert worker.running


def test_to_include_the_tasks_alone_fails_in_words(host: Host, tmp_path: Path) -> None:
    (tmp_path / "slip.py").write_text(
        "from celery import Celery\n"
        "app = Celery('slip', broker='memory://', include=['attribute_courier.worker.tasks'])\n"
    )
    done = host.run(
        *("-m", "celery", "--workdir", str(tmp_path), "-A", "slip", "worker", "-P", "solo")
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "call attribute_courier.worker.install(app) where the Celery app is made" in last


def test_no_way_to_include_the_tasks_alone_works(host: Host) -> None:
    program = (
        "from celery import Celery\n"
        "from attribute_courier.config import SettingsError\n"
        "tasks = 'attribute_courier.worker.tasks'\n"
        "include, imports, found = (Celery(set_as_current=False) for _ in range(3))\n"
        "include.conf.include = [tasks]\n"
        "imports.conf.imports = [tasks]\n"
        "found.autodiscover_tasks(['attribute_courier.worker'])\n"
        "for app in (include, imports, found):\n"
        "    try:\n"
        "        app.loader.import_default_modules()\n"
        "    except SettingsError as error:\n"
        "        assert 'install(app)' in str(error)\n"
        "    else:\n"
        "        raise AssertionError('nothing is said')\n"
        "from attribute_courier.worker import install\n"
        "install(include)\n"
        "include.loader.import_default_modules()\n"
    )
    host.runs(program)


class TestTheWebProcess:
    def test_wakes_workers_through_the_application_s_app(
        self, host: Host, courier: Courier
    ) -> None:
        done = host.run("-m", "celery_host", "0@load.example", install={})
        assert done.returncode == 0, done.stderr
        [message] = host.client.lrange("celery", 0, -1)  # type: ignore[misc, union-attr]
        assert json.loads(message)["headers"]["task"] == "attribute_courier.accept"
        assert courier.client.keys("*celery*") == [], "no message in the courier's own queue"

        done = host.run("-m", "celery_host", "1@load.example", install={"queue": "ours"})
        assert done.returncode == 0, done.stderr
        assert host.client.llen("ours") == 0, "the first job has woken a worker already"
        receipt = courier.producer.outcome(done.stdout.split()[0])
        assert receipt is not None
        assert receipt.status == "pending"

    @pytest.mark.parametrize("broker", ["refuses", "is silent"])
    def test_does_not_wait_for_the_application_s_broker(
        self, host: Host, courier: Courier, broker: str
    ) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            if broker == "is silent":
                silent.listen()
            host.broker = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            done = host.run("-m", "celery_host", "0@load.example", install={})
        assert done.returncode == 0, done.stderr
        job_id, took_s = done.stdout.split()
        assert courier.client.hexists(courier.keys.inbox, job_id)
        # Kombu would wait for ever. Not 2 s, the time that Redis has: this machine may be busy.
        assert float(took_s) < 15

    def test_of_an_eager_application_delivers_nothing_and_sends_nothing(
        self, host: Host, courier: Courier
    ) -> None:
        program = (
            "from attribute_courier import add_attributes\n"
            "from celery_host import app\n"
            "print(add_attributes('0@load.example', {'n': 1}).job_id)\n"
            "print(app.tasks['attribute_courier.accept'].delay('default').get())\n"
        )
        done = host.run("-W", "error", "-c", program, install={}, conf={"task_always_eager": True})
        assert done.returncode == 0, done.stderr
        job_id, said = done.stdout.splitlines()
        assert "a worker delivers" in said
        assert courier.client.hkeys(courier.keys.inbox) == [job_id]
        assert host.client.keys("*") == []

    def test_pays_little_and_changes_nothing(self, host: Host) -> None:
        program = (
            "import socket, sys\n"
            "socket.socket.connect = None\n"
            "from celery import Celery, current_app, signals\n"
            "app = Celery('web', broker='memory://', set_as_current=False)\n"
            "before = current_app.main\n"
            "import attribute_courier.worker\n"
            "attribute_courier.worker.install(app)\n"
            "assert not app.configured, 'the settings may follow'\n"
            "heavy = {'redis', 'requests', 'marshmallow', 'celery.worker.request'}\n"
            "assert not heavy & set(sys.modules)\n"
            "assert current_app.main == before\n"
            "assert not signals.celeryd_init.receivers + signals.worker_process_init.receivers\n"
            "plain = Celery('plain', broker='memory://', set_as_current=False)\n"
            "app.finalize()\n"
            "assert 'attribute_courier.deliver' in app.tasks\n"
            "plain.finalize()\n"
            "assert 'attribute_courier.deliver' not in plain.tasks, 'they are not shared'\n"
            "assert dict(app.conf) == dict(plain.conf) | {'broker_url': 'memory://'}\n"
        )
        done = host.run("-W", "error", "-c", program)
        assert done.returncode == 0, done.stderr


def test_installed_twice(host: Host) -> None:
    program = (
        "from celery import Celery\n"
        "from attribute_courier.config import Settings, SettingsError\n"
        "from attribute_courier.worker import install\n"
        "def refused(error, says, *args, **options):\n"
        "    try:\n"
        "        install(*args, **options)\n"
        "    except error as fault:\n"
        "        assert says in str(fault), fault\n"
        "    else:\n"
        "        raise AssertionError('nothing is said')\n"
        "one, two = (Celery(name, broker='memory://') for name in ('one', 'two'))\n"
        "refused(TypeError, 'takes a Celery app, not str', 'one')\n"
        "install(one)\n"
        "install(one)\n"
        "refused(SettingsError, \"the Celery app 'one' has the courier already\", two)\n"
        "refused(SettingsError, 'or another queue', one, queue='other')\n"
        "refused(SettingsError, 'other settings', one, settings=Settings(rate_limit=3))\n"
    )
    host.runs(program)


def test_a_factory_that_makes_the_app_anew(host: Host) -> None:
    """Flask's documentation has `create_app()` make a Celery app, and each test calls it."""
    program = (
        "from celery import Celery\n"
        "from attribute_courier.config.waking import current_waker\n"
        "from attribute_courier.worker import install\n"
        "def made():\n"
        "    app = Celery('shop', broker='memory://')\n"
        "    install(app, queue='courier')\n"
        "    return app, current_waker().__self__.app\n"
        "first, woken = made()\n"
        "assert woken is first\n"
        "second, woken = made()\n"
        "assert woken is second\n"
        "assert all('attribute_courier.deliver' in app.tasks for app in (first, second))\n"
        "install(first, queue='courier')\n"
        "assert current_waker().__self__.app is first\n"
    )
    host.runs(program)


def test_the_courier_s_own_app_is_refused(host: Host) -> None:
    done = host.run("-c", "from attribute_courier.worker import app, install; install(app)")
    assert "this is the courier's own Celery app" in done.stderr.strip().splitlines()[-1]
