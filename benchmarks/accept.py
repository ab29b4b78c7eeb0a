"""What it takes to accept jobs, and what Redis holds for each email that waits.

`python -m benchmarks.accept` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import redis
from celery import Celery

from attribute_courier.config import Secret, Settings, load_settings
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.outcome import Outcome
from attribute_courier.producers import Producer
from attribute_courier.sandbox import EmbeddedRedis, SandboxError
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Lease, Mailboxes
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.worker.account_worker import LEASE_MARGIN_S, Courier
from attribute_courier.worker.chartmogul import ChartMogul

from .measure import ratio
from .report import Target, tell
from .stage import email, forget_settings

ATTRIBUTES = {"channel": "Facebook", "age": 8, "mrr": 19.9}
CUSTOM = [
    {"type": "String", "key": "channel", "value": "Facebook"},
    {"type": "Integer", "key": "age", "value": 8},
    {"type": "Decimal", "key": "mrr", "value": 19.9},
]
"""The same, as a plain task would take it."""
AIM_PER_SECOND = 4_000
AIM_BYTES = 700


@dataclass(frozen=True, kw_only=True)
class Round:
    """One inbox, accepted."""

    jobs: int
    seconds: float
    worker_cpu_s: float
    redis_cpu_s: float
    inbox_bytes: int
    """What Redis held for the jobs while they were in the inbox."""
    mailbox_bytes: int
    """What it held for them after that."""


class NoPost:
    """Nobody else is to do anything: leases are given, and not used."""

    def accept(self, account: str) -> None:
        """The benchmark goes on by itself."""

    def deliver(self, account: str, lease: Lease) -> None:
        """No request is made."""

    def received(self, job: AttributeJob) -> None:
        """Nobody watches."""

    def report(self, outcome: Outcome) -> None:
        """Nobody watches."""


def courier_of(settings: Settings, client: redis.Redis) -> Courier:
    """A courier as a worker has one (`worker/app.py`), but without a post."""
    keys = Keys(settings.default_account)
    return Courier(
        settings.default_account,
        settings,
        mailboxes=Mailboxes(
            client,
            keys,
            lease_s=2 * settings.timeout_s + LEASE_MARGIN_S,
            retention_s=settings.retention_s,
            rate_limit=settings.rate_limit,
        ),
        outcomes=Outcomes(client, keys),
        weather=AccountHealth(
            client,
            keys,
            rate_limit=settings.rate_limit,
            probe_delays_s=settings.probe_delays_s,
        ),
        chartmogul=ChartMogul(settings.api_url, Secret("unused"), timeout_s=settings.timeout_s),
        post=NoPost(),
    )


def held_bytes(client: Any) -> int:
    """What Redis holds, without the buffers of its connections and of its append-only file."""
    info = client.info("memory")
    buffers = info["mem_clients_normal"] + info["mem_not_counted_for_evict"]
    return int(info["used_memory"] - buffers)


def emptied(client: Any) -> int:
    """Empty Redis; what it holds all the same."""
    client.execute_command("FLUSHDB", "SYNC")  # else it would go on in the background
    return held_bytes(client)


def cpu_s(client: Any) -> float:
    """Seconds of CPU time that Redis has used."""
    info = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def accepted(courier: Courier, producer: Producer, client: Any, jobs: int) -> Round:
    """Fill the inbox with bulk jobs of as many emails, and let one thread accept them all."""
    empty = emptied(client)
    producer.add_many(((email(number), ATTRIBUTES) for number in range(jobs)), max_waiting=jobs)
    full = held_bytes(client)
    before, worker_s, redis_s = time.perf_counter(), time.process_time(), cpu_s(client)
    count = 0
    while taken := courier.accept():
        count += taken
    seconds = time.perf_counter() - before
    worker_s, redis_s = time.process_time() - worker_s, cpu_s(client) - redis_s
    if count != jobs:
        raise click.ClickException(f"{count} of {jobs} jobs were accepted")
    return Round(
        jobs=jobs,
        seconds=seconds,
        worker_cpu_s=worker_s,
        redis_cpu_s=redis_s,
        inbox_bytes=full - empty,
        mailbox_bytes=held_bytes(client) - empty,
    )


def plain_bytes(url: str, client: Any, jobs: int) -> int:
    """What Redis holds for as many messages of a plain Celery task."""
    emptied(client)
    with Celery("plain", broker=url, set_as_current=False) as sender:
        sender.send_task("add_attributes", [email(0), CUSTOM])  # opens the connection
        before = held_bytes(client)
        for number in range(jobs):
            sender.send_task("add_attributes", [email(number), CUSTOM])
        return held_bytes(client) - before


def table(rounds: list[Round], plain: float) -> list[list[str]]:
    """Medians of the rounds; `plain` is the bytes for each of the plain way's messages."""

    inbox = median(ratio(each.inbox_bytes, each.jobs) for each in rounds)
    mailbox = median(ratio(each.mailbox_bytes, each.jobs) for each in rounds)
    worker = median(ratio(each.worker_cpu_s, each.jobs) for each in rounds)
    server = median(ratio(each.redis_cpu_s, each.jobs) for each in rounds)
    return [
        ["accepting", "", "vs plain"],
        ["jobs a second", f"{per_second(rounds):,.0f}", ""],
        ["CPU of the worker, a job", f"{worker * 1e6:,.0f} µs", ""],
        ["CPU of Redis, a job", f"{server * 1e6:,.0f} µs", ""],
        ["memory of Redis, an email in the inbox", f"{inbox:,.0f} B", f"{inbox / plain:.2f}"],
        ["memory of Redis, an email that waits", f"{mailbox:,.0f} B", f"{mailbox / plain:.2f}"],
        ["memory of Redis, a plain task's message", f"{plain:,.0f} B", ""],
    ]


def per_second(rounds: list[Round]) -> float:
    """Jobs accepted a second, in the median round."""
    return median(ratio(each.jobs, each.seconds) for each in rounds)


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.accept
  python -m benchmarks.accept --rounds 1 --emails 1000000
"""
)
@click.option(
    "--emails",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Each with a bulk job of three attributes.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(emails: int, rounds: int, path: Path | None) -> None:
    """Accept an inbox full of bulk jobs, in this process and in one thread, with the worker's own
    code and a Redis of its own; see what Redis holds for them before and after.

    No worker runs, and nothing is delivered. Nothing is asserted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
    forget_settings()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="courier-benchmark-")))
        try:
            server = stack.enter_context(EmbeddedRedis(home / "redis"))
        except SandboxError as error:
            raise click.ClickException(str(error)) from None
        settings = replace(load_settings(), redis_url=Secret(server.url), enqueue_timeout_s=20)
        client = stack.enter_context(redis.Redis.from_url(server.url, decode_responses=True))
        producer = Producer(settings)
        stack.callback(producer.close)
        courier = courier_of(settings, client)
        accepted(courier, producer, client, 500)  # connections are opened, and scripts are loaded
        results = [accepted(courier, producer, client, emails) for _ in range(rounds)]
        messages = min(emails, 20_000)
        plain = plain_bytes(server.url, client, messages) / messages
    tell(
        table(results, plain),
        targets=[
            Target(
                what="jobs accepted a second",
                sense="at least",
                aim=AIM_PER_SECOND,
                found=per_second(results),
            ),
            Target(
                what="memory of Redis, an email that waits",
                sense="at most",
                aim=AIM_BYTES,
                found=median(ratio(each.mailbox_bytes, each.jobs) for each in results),
                unit="B",
            ),
        ],
        path=path,
        rounds=[asdict(each) for each in results],
        plain_bytes=plain,
    )


if __name__ == "__main__":
    main()
