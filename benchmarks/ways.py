"""The ways to deliver that are compared: the courier, and a plain Celery task."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import redis
from celery import Celery

from attribute_courier.cli.stage import start_worker
from attribute_courier.config import load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import LeashedProcess
from attribute_courier.state.keys import Keys

from .stage import Stage, forget_settings

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 90

# The example of ChartMogul's reference, "Add Custom Attributes to Customers by Email".
CUSTOM: list[dict[str, Any]] = [
    {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"},
    {"type": "Integer", "key": "age", "value": 8},
]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A way whose workers are ready."""

    send: Callable[[str, list[dict[str, Any]]], object]
    """Hands over a job: custom attributes for this email."""
    ended: Callable[[], int]
    """How many jobs are at their end."""
    pids: Callable[[], list[int]]
    """The workers' processes."""
    tick: Callable[[], None] = lambda: None
    """To be called a few times a second while jobs are under way."""
    counts: Callable[[], dict[str, int]] = dict
    """What the way itself counted."""


@dataclass(frozen=True, kw_only=True)
class RunningCourier(Running):
    """Attribute Courier, whose producer can do more."""

    producer: Producer


@dataclass(frozen=True, kw_only=True)
class RunningPlain(Running):
    """A plain Celery task."""

    send_live: Callable[[str, list[dict[str, Any]]], object]
    """As `send`, but to the queue of those that are urgent, if there is one."""


@dataclass(frozen=True, kw_only=True)
class CourierWay:
    """Attribute Courier. With a seed for restarts, a worker is ended every few seconds."""

    workers: int
    rate_limit: float | None = None
    """`COURIER_RATE_LIMIT`; None for its default."""
    restarts_seed: int | None = None

    @property
    def name(self) -> str:
        name = f"courier, {self.workers} worker" + ("s" if self.workers > 1 else "")
        return name if self.restarts_seed is None else f"{name}, restarts"

    @contextmanager
    def running(self, stage: Stage) -> Iterator[RunningCourier]:
        """Entered, its workers are ready; left, all its processes are gone."""
        forget_settings()
        environ = {
            "COURIER_REDIS_URL": stage.server.url,
            "CHARTMOGUL_API_URL": stage.stand_in.url,
            "CHARTMOGUL_API_KEY": stage.stand_in.api_key,
        }
        if self.rate_limit is not None:
            environ["COURIER_RATE_LIMIT"] = str(self.rate_limit)
        os.environ.update(environ)
        # An application gives up after two seconds; on a busy machine the benchmark rather waits.
        producer = Producer(replace(load_settings(), enqueue_timeout_s=20))
        client: Any = redis.Redis.from_url(stage.server.url)
        ended_jobs = Keys(producer.settings.default_account).outcomes
        crew = _Crew(lambda log: start_worker(environ, log), stage.home)
        restarts = _Restarts(crew, self.restarts_seed)

        def counts() -> dict[str, int]:
            with producer.reading() as outcomes:
                found = outcomes.recent(limit=client.xlen(ended_jobs))
            return {**Counter(each.status for each in found), **restarts.made}

        try:
            crew.start(self.workers)
            yield RunningCourier(
                producer=producer,
                send=producer.add_attributes,
                ended=lambda: int(client.xlen(ended_jobs)),
                pids=crew.pids,
                tick=restarts.tick,
                counts=counts,
            )
        finally:
            crew.kill()
            client.close()
            producer.close()


@dataclass(frozen=True, kw_only=True)
class PlainWay:
    """A Celery task around the official client (plain.py), in one worker.

    task_rate_limit: Celery's `rate_limit`; empty for none.
    client_retries: The client's `max_retries`; empty for its default.
    live_queue: Whether tasks that are urgent have a queue of their own.
    """

    name: str
    pool: Literal["threads", "prefork"] = "threads"
    concurrency: int = 20
    task_rate_limit: str = ""
    client_retries: str = ""
    live_queue: bool = False

    @contextmanager
    def running(self, stage: Stage) -> Iterator[RunningPlain]:
        """Entered, its worker is ready; left, all its processes are gone."""
        environ = os.environ | {
            "BENCHMARK_REDIS_URL": stage.server.url,
            "BENCHMARK_API_URL": stage.stand_in.url,
            "BENCHMARK_API_KEY": stage.stand_in.api_key,
            "BENCHMARK_TASK_RATE_LIMIT": self.task_rate_limit,
            "BENCHMARK_CLIENT_RETRIES": self.client_retries,
        }
        argv = [sys.executable, "-m", "celery", "-A", "benchmarks.plain", "worker"]
        argv += ["--pool", self.pool, "--concurrency", str(self.concurrency), "--loglevel", "info"]
        argv += ["--queues", "celery,live"] if self.live_queue else []
        live = "live" if self.live_queue else "celery"

        def start(log: Path) -> LeashedProcess:
            with log.open("ab") as out:
                return LeashedProcess(argv, cwd=ROOT, env=environ, stdout=out, stderr=out)

        crew = _Crew(start, stage.home)
        # By the task's name: its module takes the environment of a worker.
        task = "benchmarks.plain.add_attributes"
        with Celery("sender", broker=stage.server.url, set_as_current=False) as sender:
            try:
                crew.start(1)
                yield RunningPlain(
                    send=lambda email, custom: sender.send_task(task, [email, custom]),
                    send_live=lambda email, custom: sender.send_task(
                        task, [email, custom], queue=live
                    ),
                    ended=lambda: int(stage.stand_in.stats()["applied"]),
                    pids=crew.pids,
                )
            finally:
                crew.kill()


PLAIN_WAYS = (
    PlainWay(name="plain, threads"),
    PlainWay(name="plain, threads, no client retries", client_retries="0"),
    PlainWay(name="plain, threads, rate_limit", task_rate_limit="40/s"),
    PlainWay(name="plain, prefork, rate_limit", pool="prefork", task_rate_limit="40/s"),
)
# As many threads as 40 requests a second need at 250 ms: the strongest rival at a strict stand-in.
FITTED_PLAIN_WAY = PlainWay(name="plain, 10 threads", concurrency=10, client_retries="0")


class _Crew:
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
                os.killpg(worker.pid, signal.SIGKILL)  # with the children of a prefork worker
            worker.kill()

    def _add(self) -> None:
        self._logs.append(self._home / f"worker-{len(self._logs)}.log")
        self.at_work.append(self._start_one(self._logs[-1]))


class _Restarts:
    """Every 2 to 5 s a worker is asked to end, or is killed; never without a seed."""

    def __init__(self, crew: _Crew, seed: int | None) -> None:
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
