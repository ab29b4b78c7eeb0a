"""The ways to deliver that are compared: the courier, and its rivals."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import dramatiq
import redis
from celery import Celery
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results.backends import RedisBackend
from taskiq import AsyncTaskiqTask
from taskiq.kicker import AsyncKicker
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from attribute_courier.cli.stage import start_worker
from attribute_courier.config import load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import LeashedProcess

from .rivals.floor import QUEUE
from .stage import Stage, forget_settings

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 90
WAIT_S = 30
"""Seconds that `Running.wait` waits at most."""

Custom = list[dict[str, Any]]

# The example of ChartMogul's reference, "Add Custom Attributes to Customers by Email".
CUSTOM: Custom = [
    {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"},
    {"type": "Integer", "key": "age", "value": 8},
]
ONE: Custom = [{"type": "String", "key": "channel", "value": "Facebook"}]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A way whose workers are ready."""

    send: Callable[[str, Custom], Any]
    """Hands over a job: custom attributes for this email. Returns what `wait` takes."""
    send_live: Callable[[str, Custom], Any]
    """The same, as urgent as this way can make it."""
    wait: Callable[[Any], object] | None
    """Waits until the outcome of a job can be read, and reads it; None where there is none."""
    pids: Callable[[], list[int]]
    """The workers, each the leader of a session of its own."""
    tick: Callable[[], None] = lambda: None
    """To be called a few times a second while jobs are under way."""


@dataclass(frozen=True, kw_only=True)
class RunningCourier(Running):
    """Attribute Courier, whose producer can do more."""

    producer: Producer
    made: Counter[str]
    """Signals that were sent to workers."""

    def settled(self, job_ids: list[str]) -> bool:
        """Whether all of them are at their end. Takes those from the list that are."""
        while job_ids and self.status(job_ids[-1]) not in ("pending", None):
            job_ids.pop()
        return not job_ids

    def status(self, job_id: str) -> str | None:
        """What has become of a job so far."""
        outcome = self.producer.outcome(job_id)
        return None if outcome is None else outcome.status

    def accepted(self, job_id: str) -> bool:
        """Whether a worker has taken a job out of the inbox."""
        outcome = self.producer.outcome(job_id)
        return outcome is not None and outcome.accepted_at is not None


@dataclass(frozen=True, kw_only=True)
class CourierWay:
    """Attribute Courier. With a seed for restarts, a worker is ended every few seconds."""

    workers: int = 1
    rate_limit: float | None = None
    """`COURIER_RATE_LIMIT`; None for its default."""
    restarts_seed: int | None = None
    accounts: int = 1
    """How many the workers serve; jobs are for the first."""

    @property
    def name(self) -> str:
        name = f"courier, {_workers(self.workers)}"
        return name if self.restarts_seed is None else f"{name}, restarts"

    def environ(self, stage: Stage) -> dict[str, str]:
        """The settings of its workers and producers."""
        environ = {
            "COURIER_REDIS_URL": stage.server.url,
            "CHARTMOGUL_API_URL": stage.stand_in.url,
            "CHARTMOGUL_API_KEY": stage.stand_in.api_key,
        }
        if self.rate_limit is not None:
            environ["COURIER_RATE_LIMIT"] = str(self.rate_limit)
        for number in range(2, self.accounts + 1):
            names = [environ.get("COURIER_ACCOUNTS", "default"), f"account{number}"]
            environ["COURIER_ACCOUNTS"] = ",".join(names)
            environ[f"CHARTMOGUL_API_KEY_ACCOUNT{number}"] = f"{stage.stand_in.api_key}-{number}"
        return environ

    @contextmanager
    def running(self, stage: Stage, start: bool = True) -> Iterator[RunningCourier]:
        """Entered, its workers are ready, unless they are not to start; left, all are gone."""
        forget_settings()
        environ = self.environ(stage)
        os.environ.update(environ)
        # An application gives up after two seconds; on a busy machine the benchmark rather waits.
        producer = Producer(replace(load_settings(), enqueue_timeout_s=20))
        crew = Crew(lambda log: start_worker(environ, log), stage.home)
        restarts = _Restarts(crew, self.restarts_seed)
        try:
            if start:
                crew.start(self.workers)
            yield RunningCourier(
                producer=producer,
                made=restarts.made,
                send=producer.add_attributes,
                send_live=producer.add_attributes,
                wait=lambda receipt: receipt.wait(WAIT_S),
                pids=crew.pids,
                tick=restarts.tick,
            )
        finally:
            crew.kill()
            producer.close()


def courier_command(*args: str) -> None:
    """Run `courier …` with the settings of the way that runs.

    Raises:
        RuntimeError: it did not end well; with what it said.
    """
    argv = [sys.executable, "-m", "attribute_courier.cli", *args]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)  # noqa: S603
    if done.returncode != 0:
        raise RuntimeError(f"courier {args[0]} ended with {done.returncode}:\n{done.stderr}")


Kind = Literal["celery", "dramatiq", "taskiq", "official", "floor"]


@dataclass(frozen=True, kw_only=True)
class RivalWay:
    """Another way to deliver; `rivals/` holds what its workers run.

    kind: What its workers are made of.
    workers: Its processes that deliver.
    concurrency: Requests that all of them together can have in progress, or wait with for a slot.
    rate_limit: Requests a second that its limiter allows, in Redis and for all workers.
    live_worker: Celery alone: whether one of two workers takes only urgent jobs, with a fifth of
        the threads.
    """

    kind: Kind
    workers: int = 1
    concurrency: int = 20
    rate_limit: float = 39.2
    live_worker: bool = False

    @property
    def title(self) -> str:
        """How tables call it."""
        names = {"official": "official client in Celery", "floor": "bare asyncio loop (floor)"}
        return names.get(self.kind, self.kind)

    def environ(self, stage: Stage) -> dict[str, str]:
        """The settings of its workers."""
        return {
            "BENCHMARK_REDIS_URL": stage.server.url,
            "BENCHMARK_API_URL": stage.stand_in.url,
            "BENCHMARK_API_KEY": stage.stand_in.api_key,
            "BENCHMARK_RATE_LIMIT": str(self.rate_limit),
            "BENCHMARK_CONCURRENCY": str(max(1, self.concurrency // self.workers)),
        }

    def commands(self) -> list[list[str]]:
        """What starts its workers, each."""
        each = str(max(1, self.concurrency // self.workers))
        if self.live_worker:
            fifth = self.concurrency // 5
            return [
                [*_CELERY, "--concurrency", str(self.concurrency - fifth), "--queues", "celery"],
                [*_CELERY, "--concurrency", str(fifth), "--queues", "live"],
            ]
        module = f"benchmarks.rivals.with_{self.kind}"
        command = {
            "celery": [*_CELERY, "--concurrency", each],
            "official": [*_OFFICIAL, "--concurrency", each],
            "dramatiq": [
                *("dramatiq", module, "--processes", "1", "--threads", each),
                *("--path", str(ROOT), "--skip-logging"),
            ],
            "taskiq": [
                *("taskiq", "worker", f"{module}:broker", "--workers", "1"),
                *("--max-async-tasks", each, "--no-parse", "--log-level", "WARNING"),
            ],
            "floor": ["benchmarks.rivals.floor"],
        }[self.kind]
        return [command] * self.workers

    @contextmanager
    def running(self, stage: Stage) -> Iterator[Running]:
        """Entered, its workers are ready; left, all its processes are gone."""
        environ = os.environ | self.environ(stage)
        commands = iter(self.commands())

        def start(log: Path) -> LeashedProcess:
            argv = [sys.executable, "-m", *next(commands)]
            with log.open("ab") as out:
                return LeashedProcess(argv, cwd=ROOT, env=environ, stdout=out, stderr=out)

        crew = Crew(start, stage.home)
        with ExitStack() as stack:
            stack.callback(crew.kill)
            crew.start(len(self.commands()))
            sender = {
                "celery": _celery_sender,
                "official": _official_sender,
                "dramatiq": _dramatiq_sender,
                "taskiq": _taskiq_sender,
                "floor": _floor_sender,
            }[self.kind]
            yield replace(sender(self, stage.server.url, stack), pids=crew.pids)


_CELERY_OPTIONS = (
    *("worker", "--pool", "threads", "--loglevel", "warning"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)
_CELERY = ("celery", "-A", "benchmarks.rivals.with_celery", *_CELERY_OPTIONS)
_OFFICIAL = ("celery", "-A", "benchmarks.rivals.official", *_CELERY_OPTIONS)

CELERY = RivalWay(kind="celery")
DRAMATIQ = RivalWay(kind="dramatiq")
TASKIQ = RivalWay(kind="taskiq")
# As many threads as 40 requests a second need at 250 ms: more are refused more often.
OFFICIAL = RivalWay(kind="official", concurrency=10)
FLOOR = RivalWay(kind="floor")
RIVALS = (CELERY, DRAMATIQ, TASKIQ, OFFICIAL, FLOOR)

Way = CourierWay | RivalWay


def title(way: Way) -> str:
    """How tables call it."""
    return way.name if isinstance(way, CourierWay) else way.title


def _celery_sender(way: RivalWay, url: str, stack: ExitStack) -> Running:
    # By the task's name: its module takes the environment of a worker.
    app = stack.enter_context(Celery("sender", broker=url, backend=url, set_as_current=False))
    task = "benchmarks.rivals.with_celery.add_attributes"
    live = "live" if way.live_worker else "celery"
    return Running(
        send=lambda email, custom: app.send_task(task, [email, custom]),
        send_live=lambda email, custom: app.send_task(task, [email, custom], queue=live),
        wait=lambda result: result.get(timeout=WAIT_S),
        pids=list,
    )


def _official_sender(_: RivalWay, url: str, stack: ExitStack) -> Running:
    app = stack.enter_context(Celery("sender", broker=url, set_as_current=False))

    def send(email: str, custom: Custom) -> Any:
        return app.send_task("benchmarks.rivals.official.add_attributes", [email, custom])

    return Running(send=send, send_live=send, wait=None, pids=list)


def _dramatiq_sender(_: RivalWay, url: str, stack: ExitStack) -> Running:
    broker, results = RedisBroker(url=url), RedisBackend(url=url)
    for queue in ("default", "live"):
        broker.declare_queue(queue)
    stack.callback(broker.client.close)
    stack.callback(results.client.close)

    def send(actor: str, queue: str) -> Callable[[str, Custom], Any]:
        return lambda email, custom: broker.enqueue(
            dramatiq.Message(
                queue_name=queue,
                actor_name=actor,
                args=(email, custom),
                kwargs={},
                options={},
            )
        )

    return Running(
        send=send("add_attributes", "default"),
        send_live=send("add_attributes_live", "live"),
        wait=lambda message: results.get_result(message, block=True, timeout=WAIT_S * 1000),
        pids=list,
    )


def _taskiq_sender(_: RivalWay, url: str, stack: ExitStack) -> Running:
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)
    backend: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend(url)
    broker = RedisStreamBroker(url).with_result_backend(backend)
    loop.run_until_complete(broker.startup())
    stack.callback(lambda: loop.run_until_complete(broker.shutdown()))

    def send(email: str, custom: Custom) -> AsyncTaskiqTask[Any]:
        kicker: AsyncKicker[Any, Any] = AsyncKicker("add_attributes", broker, {})
        return loop.run_until_complete(kicker.kiq(email, custom))

    return Running(
        send=send,
        send_live=send,
        wait=lambda task: loop.run_until_complete(task.wait_result(timeout=WAIT_S)),
        pids=list,
    )


def _floor_sender(_: RivalWay, url: str, stack: ExitStack) -> Running:
    client: Any = stack.enter_context(redis.Redis.from_url(url))

    def send(email: str, custom: Custom) -> None:
        client.rpush(QUEUE, json.dumps([email, custom]))

    return Running(send=send, send_live=send, wait=None, pids=list)


def _workers(count: int) -> str:
    return f"{count} worker" + ("s" if count > 1 else "")


class Crew:
    """Worker processes, each with a log of its own."""

    def __init__(self, start_one: Callable[[Path], LeashedProcess], home: Path) -> None:
        self.at_work: list[LeashedProcess] = []
        self._leaving: list[LeashedProcess] = []
        self._logs: list[Path] = []
        self._start_one = start_one
        self._home = home

    def start(self, count: int) -> None:
        """Start so many and wait until all are ready. Raises `RuntimeError` if one is not."""
        for _ in range(count):
            self._add()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(" ready." in log.read_text() for log in self._logs):
            if time.monotonic() > deadline or not all(each.running for each in self.at_work):
                said = "\n".join(log.read_text()[-2000:] for log in self._logs)
                raise RuntimeError(f"Not all workers are ready; the ends of their logs:\n{said}")
            time.sleep(0.1)

    def replace(self, worker: LeashedProcess, number: signal.Signals) -> None:
        """Send a worker a signal that ends it, and let another one take its place."""
        worker.send(number)
        self.at_work.remove(worker)
        self._leaving.append(worker)
        self._add()

    def pids(self) -> list[int]:
        """Of those that are at work."""
        return [each.pid for each in self.at_work]

    def kill(self) -> None:
        """Leave no process behind."""
        for worker in [*self.at_work, *self._leaving]:
            if worker.running:
                os.killpg(worker.pid, signal.SIGKILL)  # with its children
            worker.kill()

    def _add(self) -> None:
        self._logs.append(self._home / f"worker-{len(self._logs)}.log")
        self.at_work.append(self._start_one(self._logs[-1]))


class _Restarts:
    """Every 2 to 5 s a worker is asked to end, or is killed; never without a seed."""

    def __init__(self, crew: Crew, seed: int | None) -> None:
        self.made: Counter[str] = Counter()
        self._crew = crew
        self._draw = random.Random(seed)
        self._next_s = float("inf") if seed is None else 0.0

    def tick(self) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + self._draw.uniform(2, 5)
            number = self._draw.choice([signal.SIGTERM, signal.SIGKILL])
            self._crew.replace(self._draw.choice(self._crew.at_work), number)
            self.made[number.name] += 1
