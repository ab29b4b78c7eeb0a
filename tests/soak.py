"""`python -m tests.soak`: an hour of steady work, in which nothing may grow.

Two workers, live jobs and bulk loads, a server that fails now and then; everything on this machine,
with a retention of a minute, so that what is forgotten is forgotten within the run. It ends with 1
when something grew.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import redis

from attribute_courier.cli.stage import start_worker
from attribute_courier.config import load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import (
    EmbeddedRedis,
    Fault,
    LeashedProcess,
    SandboxConfig,
    SandboxProcess,
)

from .waiting import wait_until

JOBS_PER_S = 20
SAMPLE_EVERY_S = 5
RETENTION_S = 60
SETTINGS = {
    "COURIER_RETENTION": str(RETENTION_S),
    "COURIER_UNMATCHED_DELAYS": "1s,2s",
    "COURIER_UNCONFIRMED_DELAYS": "1s",
}
# The capped stream of ends, the keys' types, and Celery's own: its queues and their bindings.
LASTING = ("{default}:outcomes", "{default}:types", "{default}:layout", "courier:celery:")
MAY_GROW = {
    "worker memory, MB": (0.05, 4.0),
    "worker open files": (0.0, 24.0),
    "Redis memory, MB": (0.1, 1.0),
    "Redis keys": (0.1, 100.0),
    "Redis clients": (0.0, 12.0),
}
"""Share and amount by which a figure may be greater at the end than before: noise, not growth."""


@click.command()
@click.option("--minutes", default=60.0, show_default=True, type=click.FloatRange(min=5))
@click.option("--seed", default=1, show_default=True)
def main(minutes: float, seed: int) -> None:
    """Work steadily for so long, then tell what grew."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="courier-soak-")))
        server = stack.enter_context(EmbeddedRedis(home / "redis"))
        stand_in = stack.enter_context(
            SandboxProcess(
                SandboxConfig(auto_customers="*@load.example", latency_s=0.1, seed=seed),
                log=home / "stand-in.log",
            )
        )
        stand_in.configure(faults=[Fault(kind="status", status=500, probability=0.02)])
        environ = {
            "COURIER_REDIS_URL": server.url,
            "CHARTMOGUL_API_URL": stand_in.url,
            "CHARTMOGUL_API_KEY": stand_in.api_key,
            **SETTINGS,
        }
        os.environ.update(environ)
        workers = [start_worker(environ, home / f"worker-{n}.log") for n in range(2)]
        for worker in workers:
            stack.callback(worker.stop, 10)
        producer = Producer(replace(load_settings(), enqueue_timeout_s=20))
        stack.callback(producer.close)
        client = redis.Redis.from_url(server.url, decode_responses=True)
        stack.callback(client.close)

        samples = []
        for passed_s in work(producer, random.Random(seed), minutes * 60):
            samples.append(sample(client, workers))
            if len(samples) % 12 == 0:
                shown = ", ".join(f"{name} {value:g}" for name, value in samples[-1].items())
                click.echo(f"{passed_s / 60:.0f} min: {shown}")
        grown = report(samples)
        left = left_over(client)
        if left:
            click.echo(f"without an end: {', '.join(left)}")
        errors = [log.name for log in home.glob("worker-*.log") if "Traceback" in log.read_text()]
        if errors:
            click.echo(f"a traceback in {', '.join(errors)}")
    sys.exit(1 if grown or left or errors else 0)


def work(producer: Producer, draw: random.Random, seconds: float) -> Iterator[float]:
    """Hand jobs over; yields the seconds passed whenever it is time for a sample."""
    start_s = sampled_s = time.monotonic()
    count = 0
    while (passed_s := time.monotonic() - start_s) < seconds:
        email = f"customer-{draw.randrange(400)}@load.example"
        if draw.random() < 0.01:
            email = "nobody@example.com"
        producer.add_attributes(email, {f"key_{draw.randrange(6)}": draw.randrange(1000)})
        count += 1
        if count % (60 * JOBS_PER_S) == 0:
            producer.add_many(
                (f"customer-{n}@load.example", {"nightly": draw.randrange(1000)})
                for n in range(300)
            )
        time.sleep(max(0.0, start_s + count / JOBS_PER_S - time.monotonic()))
        if time.monotonic() - sampled_s >= SAMPLE_EVERY_S:
            sampled_s = time.monotonic()
            yield passed_s


def sample(client: redis.Redis, workers: list[LeashedProcess]) -> dict[str, float]:
    """What could grow, now. The stream of ends is left out: it grows up to its cap."""
    stream = client.memory_usage("courier:{default}:outcomes") or 0
    found = {
        "worker memory, MB": sum(_resident_kb(worker.pid) for worker in workers) / 1024,
        "Redis memory, MB": (client.info("memory")["used_memory"] - stream) / 1024**2,  # type: ignore[index,operator]
        "Redis keys": float(client.dbsize()),  # type: ignore[arg-type]
        "Redis clients": float(client.info("clients")["connected_clients"]),  # type: ignore[index]
    }
    files = [Path(f"/proc/{worker.pid}/fd") for worker in workers]
    if all(each.is_dir() for each in files):
        found["worker open files"] = float(sum(len(os.listdir(each)) for each in files))
    return {name: round(value, 1) for name, value in found.items()}


def report(samples: list[dict[str, float]]) -> list[str]:
    """Print each figure's median in the quarters of the run; returns the names of what grew."""
    quarter = max(1, len(samples) // 4)
    grown = []
    for name in samples[0]:
        values = [each[name] for each in samples]
        medians = [statistics.median(values[n * quarter : (n + 1) * quarter]) for n in range(4)]
        share, amount = MAY_GROW[name]
        # The first quarter fills caches, and the retention.
        if medians[3] > medians[1] * (1 + share) + amount:
            grown.append(name)
        steps = " → ".join(f"{each:g}" for each in medians)
        click.echo(f"{name}: {steps}{'  GREW' if name in grown else ''}")
    return grown


def left_over(client: redis.Redis) -> list[str]:
    """Keys that stay for ever when all is done, other than those that may."""

    def lasting() -> list[str]:
        return sorted(
            name
            for name in client.scan_iter(count=1000)
            if client.ttl(name) == -1 and not any(each in name for each in LASTING)
        )

    try:
        wait_until(lambda: not lasting(), timeout_s=RETENTION_S, what="all is done")
    except AssertionError:
        return lasting()
    return []


def _resident_kb(pid: int) -> int:
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True)
    return int(told.stdout)


if __name__ == "__main__":
    main()
