"""How long Redis's scripts take, with few emails waiting and with very many.

`python -m benchmarks.growth` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import redis

from .measure import ratio
from .processes import pin, sessions
from .report import Target, tell
from .stage import Stage, email, staged, tidily, unlimited, until
from .ways import ONE, CourierWay, RunningCourier, courier_command

SIZES = (1_000, 100_000, 1_000_000)
DELIVERIES = 600
"""So many are made at each size."""
LIVE = 300
"""So many live jobs are handed over meanwhile."""
ENOUGH_CALLS = 30
"""A script that is called less often has no median to speak of."""
BATCH = 1_000
BOUND_S = 600
SETTLING_S = 3.0
"""Seconds after loading in which ticks and expiries of the load itself come to their end."""
LOG_LENGTH = 500_000

CONTROL = """-- control: touches two small keys, whatever else there is
for number = 1, 10 do
  redis.call('HSET', KEYS[1], number % 3, number)
  redis.call('ZADD', KEYS[2], number, number % 3)
end
return redis.call('ZRANGE', KEYS[2], 0, 0)
"""
"""A script that cannot grow: what it takes longer is the machine's, with more memory in use."""

_HEADER = re.compile(r"^-- ([a-z_]+): ", re.MULTILINE)

# Two workers load, since accepting is what takes the time; none has a limit.
WAY = CourierWay(workers=2, rate_limit=10_000)


@dataclass(frozen=True, kw_only=True)
class Size:
    """What scripts took while about so many emails waited."""

    waiting: int
    loaded_s: float
    """Seconds until all were accepted that came on top of the size before."""
    took_us: Mapping[str, Sequence[int]]
    """Script → microseconds of each call, by Redis's own clock."""

    @property
    def all_us(self) -> list[int]:
        return [each for calls in self.took_us.values() for each in calls]


class Scripts:
    """Reads from Redis's slow log, set to log everything, what each script took."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._names: dict[str, str] = {}

    def watch(self) -> None:
        """From now on."""
        self._client.config_set("slowlog-max-len", LOG_LENGTH)
        self._client.config_set("slowlog-log-slower-than", 0)
        self._client.slowlog_reset()

    def seen(self) -> dict[str, list[int]]:
        """Script → microseconds of each call since then. Watching ends."""
        self._client.config_set("slowlog-log-slower-than", -1)
        found = defaultdict(list)
        for entry in self._client.slowlog_get(LOG_LENGTH):
            name, _, rest = entry["command"].partition(b" ")
            if name.upper() == b"EVALSHA":
                found[self._name(rest.split()[0].decode())].append(entry["duration"])
        self._client.slowlog_reset()
        return dict(found)

    def _name(self, digest: str) -> str:
        """A script's name, as its header has it; else its digest, which changes with its text."""
        if digest not in self._names:
            try:
                source = self._client.execute_command("SCRIPT", "SHOW", digest).decode()
            except redis.ResponseError:
                source = ""  # a server without this command
            named = [name for name in _HEADER.findall(source) if name not in ("arg", "include")]
            self._names[digest] = named[-1] if named else digest[:8]
        return self._names[digest]


def load(running: RunningCourier, first: int, count: int) -> float:
    """Hand over bulk jobs for further emails, and wait until all are accepted."""
    start_s = time.monotonic()
    ids: list[str] = []

    def note(job_ids: Sequence[str | None]) -> None:
        ids[:] = [str(job_id) for job_id in job_ids]

    jobs = ((email(first + number), ONE) for number in range(count))
    running.producer.add_many(jobs, batch_size=BATCH, on_batch=lambda batch: note(batch.job_ids))
    if not until(lambda: all(map(running.accepted, ids)), BOUND_S):
        raise RuntimeError(f"{count:,} jobs were not accepted within {BOUND_S} s")
    time.sleep(SETTLING_S)
    return time.monotonic() - start_s


def deliver(running: RunningCourier, stage: Stage, size: int, control: Any) -> None:
    """Resume, let some be delivered with live jobs among them, and pause again."""
    before = stage.delivered()
    courier_command("resume")
    for number in range(LIVE):
        running.send_live(f"live-{size}-{number}@load.example", ONE)
        control(keys=["benchmark:hash", "benchmark:sorted"])
    if not until(lambda: stage.delivered() >= before + DELIVERIES, BOUND_S, look_every_s=0.01):
        raise RuntimeError(f"{DELIVERIES} jobs were not delivered within {BOUND_S} s")
    courier_command("pause")


def measure_sizes(sizes: Sequence[int]) -> list[Size]:
    """Load more and more emails, and look at each size."""
    found: list[Size] = []
    with ExitStack() as stack:
        # So that the smallest size is about what it says, answers are not at once.
        stage = stack.enter_context(staged(unlimited(latency_s=0.02)))
        running = stack.enter_context(WAY.running(stage))
        client: Any = stack.enter_context(redis.Redis.from_url(stage.server.url))
        client.config_set("appendonly", "no")  # a million emails need not be on a disk, too
        scripts, control = Scripts(client), client.register_script(CONTROL)
        if len(cpus := sorted(os.sched_getaffinity(0))) > 1:  # Redis has a core for itself
            pin([stage.server.pid], {cpus[0]})
            pin([stage.stand_in.pid, os.getpid(), *sessions(running.pids())], set(cpus[1:]))
            stack.callback(pin, [os.getpid()], set(cpus))
        courier_command("pause")
        loaded = DELIVERIES
        load(running, 0, loaded)
        lives = LIVE
        deliver(running, stage, 0, control)  # connections are opened, and scripts are loaded
        for size in sizes:
            click.echo(f"{size:,} emails …", err=True)
            # Live jobs came on top, and went first.
            more = size + DELIVERIES // 2 - (loaded + lives - stage.delivered())
            loaded_s = load(running, loaded, more)
            loaded += more
            lives += LIVE
            scripts.watch()
            deliver(running, stage, size, control)
            took_us = scripts.seen()
            found.append(Size(waiting=size, loaded_s=loaded_s, took_us=took_us))
    return found


def common(sizes: Sequence[Size]) -> list[str]:
    """Scripts that were called often enough at each size, most often called first."""
    calls = sizes[0].took_us
    names = sorted(calls, key=lambda name: -len(calls[name]))
    return [
        name
        for name in names
        if all(len(size.took_us.get(name, ())) >= ENOUGH_CALLS for size in sizes)
    ]


def growth(sizes: Sequence[Size], name: str) -> float:
    """How many times longer than at the first size a script's median call takes, at the worst."""
    medians = [median(size.took_us[name]) for size in sizes]
    return max(ratio(each, medians[0]) for each in medians)


def table(sizes: Sequence[Size]) -> list[list[str]]:
    """Medians of each script, in microseconds; at the end the mean of all calls."""
    lines = [["script, median", "calls", *(f"{size.waiting:,}" for size in sizes), "worst / first"]]
    for name in common(sizes):
        calls = sum(len(size.took_us[name]) for size in sizes)
        medians = [f"{median(size.took_us[name]):,.0f} µs" for size in sizes]
        lines.append([name, f"{calls:,}", *medians, f"{growth(sizes, name):.2f}"])
    means = [mean(size.all_us) for size in sizes]
    calls = sum(len(size.all_us) for size in sizes)
    worst = f"{max(each / means[0] for each in means):.2f}"
    lines.append(["all, mean", f"{calls:,}", *(f"{each:,.0f} µs" for each in means), worst])
    slowest = [f"{max(size.all_us):,} µs" for size in sizes]
    return [*lines, ["all, slowest call", "", *slowest, ""]]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.growth
  python -m benchmarks.growth --size 1000 --size 20000
"""
)
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(min=DELIVERIES),
    multiple=True,
    default=SIZES,
    show_default=True,
    help="Emails that wait. May be repeated, from the least to the most.",
)
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(sizes: tuple[int, ...], path: Path | None) -> None:
    """Let more and more emails wait, and see what Redis's scripts take at each size, by Redis's own
    clock, while jobs are handed over, accepted, delivered and settled.

    A million emails take some 600 MB and some minutes. All of it runs on this machine, in a
    temporary directory. Nothing is asserted.
    """
    with tidily():
        found = measure_sizes(sorted(sizes))
    names = [name for name in common(found) if name != "control"]
    tell(
        table(found),
        notes=[
            f"loaded in {', '.join(f'{each.loaded_s:.0f} s' for each in found)}; at each size "
            f"{DELIVERIES} deliveries, {LIVE} of them live jobs"
        ],
        targets=[
            Target(
                what=f"median of a script, {found[-1].waiting:,} emails / {found[0].waiting:,}",
                sense="at most",
                aim=1.5,
                found=max((growth(found, name) for name in names), default=float("inf")),
            )
        ],
        path=path,
        sizes=[
            {**asdict(each), "took_us": {name: sorted(us) for name, us in each.took_us.items()}}
            for each in found
        ],
    )


if __name__ == "__main__":
    main()
