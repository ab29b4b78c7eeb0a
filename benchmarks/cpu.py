"""What a delivery costs a worker, when nothing limits it.

`python -m benchmarks.cpu` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click

from attribute_courier.sandbox import SandboxError

from .measure import ratio
from .processes import cpu_s, resident_bytes
from .report import Target, tell
from .stage import email, staged, unlimited
from .ways import CUSTOM, CourierWay, PlainWay

COURIER = CourierWay(workers=1, rate_limit=10_000)
PLAIN = PlainWay(name="plain, 20 threads")
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one run took, from the first job handed over to the last one at its end."""

    delivered: int
    seconds: float
    worker_cpu_s: float
    redis_cpu_s: float
    worker_bytes: int
    """Memory of the worker at the end."""

    @property
    def worker_cpu_each_s(self) -> float:
        """Seconds of the worker's CPU time for a delivery."""
        return ratio(self.worker_cpu_s, self.delivered)


def run(way: CourierWay | PlainWay, emails: int, bound_s: float) -> Spent:
    """Let one way deliver a job for each email."""
    with staged(unlimited()) as stage, way.running(stage) as running:
        [worker] = running.pids()
        worker_s, redis_s, start_s = cpu_s(worker), cpu_s(stage.server.pid), time.monotonic()
        for number in range(emails):
            running.send(email(number), CUSTOM)
        while running.ended() < emails and time.monotonic() < start_s + bound_s:
            time.sleep(0.05)
        seconds = time.monotonic() - start_s
        return Spent(
            delivered=running.ended(),
            seconds=seconds,
            worker_cpu_s=cpu_s(worker) - worker_s,
            redis_cpu_s=cpu_s(stage.server.pid) - redis_s,
            worker_bytes=resident_bytes(worker),
        )


def table(runs: Sequence[tuple[str, Sequence[Spent]]]) -> list[list[str]]:
    """Medians of each way's runs; the last way is what the first is compared with."""
    lines = [["way", "delivered", "per s", "worker, CPU each", "Redis, CPU each", "memory"]]
    worker, server, memory = [], [], []
    for name, spent in runs:
        worker.append(median(each.worker_cpu_each_s for each in spent))
        server.append(median(ratio(each.redis_cpu_s, each.delivered) for each in spent))
        memory.append(median(each.worker_bytes for each in spent))
        lines.append(
            [
                name,
                f"{sum(each.delivered for each in spent):,}",
                f"{median(ratio(each.delivered, each.seconds) for each in spent):,.0f}",
                f"{worker[-1] * 1e3:.2f} ms",
                f"{server[-1] * 1e3:.2f} ms",
                f"{memory[-1] / MEBIBYTE:,.0f} MiB",
            ]
        )
    ratios = [f"{ratio(each[0], each[-1]):.2f}" for each in (worker, server, memory)]
    return [*lines, ["courier / plain", "", "", *ratios]]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.cpu
  python -m benchmarks.cpu --emails 500 --rounds 1
"""
)
@click.option("--emails", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=2,
    show_default=True,
    help="How often each way gets its turn.",
)
@click.option(
    "--bound",
    "bound_s",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds after which a run is cut off.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(emails: int, rounds: int, bound_s: float, path: Path | None) -> None:
    """Deliver a job for each email to a stand-in for ChartMogul that has no limits and answers at
    once: with the courier, and with a plain Celery task around the official client.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
    courier: list[Spent] = []
    plain: list[Spent] = []
    try:
        for number in range(rounds):
            click.echo(f"round {number + 1} of {rounds} …", err=True)
            courier.append(run(COURIER, emails, bound_s))
            plain.append(run(PLAIN, emails, bound_s))
    except (SandboxError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    tell(
        table([("courier", courier), (PLAIN.name, plain)]),
        targets=[
            Target(
                what="CPU of the worker for a delivery, courier / plain",
                sense="at most",
                aim=1,
                found=ratio(
                    median(each.worker_cpu_each_s for each in courier),
                    median(each.worker_cpu_each_s for each in plain),
                ),
            )
        ],
        path=path,
        courier=[asdict(each) for each in courier],
        plain=[asdict(each) for each in plain],
    )


if __name__ == "__main__":
    main()
