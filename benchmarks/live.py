"""How long a live job waits for its request while a bulk backlog drains at the account's limit.

`python -m benchmarks.live` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import click

from .measure import percentile, ratio
from .report import Target, tell
from .stage import email, staged, strict, tidily, until
from .ways import CELERY, CUSTOM, DRAMATIQ, CourierWay, RivalWay, RunningCourier, Way, title

EVERY_S = (0.2, 0.6)
"""Between two live jobs, at random: about six of a hundred requests are live ones."""
RIVAL_SECONDS = 20
ACCEPT_BOUND_S = 300
"""For the backlog to be handed over and accepted."""
LAST_BOUND_S = 60
"""For the last live job to be delivered."""
SLOT_S = 1 / 39.2

RIVALS = (replace(CELERY, live_worker=True), DRAMATIQ)


@dataclass(frozen=True, kw_only=True)
class Waits:
    """What live jobs waited."""

    way: str
    backlog: int
    """Emails with a bulk job, each."""
    waited_s: tuple[float, ...]
    """Of each live job, from before it was handed over until its request arrived."""
    asked: int
    """Live jobs that were handed over, delivered or not."""
    per_second: float
    """Deliveries a second meanwhile, bulk and live."""


def live(number: int) -> str:
    """An email with a live job, which no bulk job has."""
    return f"live-{number}@load.example"


def arrivals(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Email → when the request for it arrived that was answered 200, by the stand-in's clock."""
    found: dict[str, float] = {}
    for each in log:
        if each["method"] == "POST" and each["status"] == 200:
            found.setdefault(each["email"], each["arrived_s"])
    return found


def pace(delivered: Mapping[str, float], since_s: float, until_s: float) -> float:
    """Requests a second between two moments."""
    count = sum(since_s <= each <= until_s for each in delivered.values())
    return ratio(count, until_s - since_s)


class Asking:
    """Hands over live jobs, one after the other, with pauses between."""

    def __init__(self, send_live: Callable[[str, Any], object], seed: int) -> None:
        self.asked_s: list[float] = []
        self._send_live = send_live
        self._draw = Random(seed)

    def until(self, done: Callable[[], bool]) -> None:
        """Go on until it is done."""
        while not done():
            self.asked_s.append(time.monotonic())
            self._send_live(live(len(self.asked_s) - 1), CUSTOM)
            time.sleep(self._draw.uniform(*EVERY_S))

    def waited_s(self, arrived: Mapping[str, float]) -> list[float | None]:
        """Of each; None where no request has arrived."""
        return [
            arrived[live(number)] - asked_s if live(number) in arrived else None
            for number, asked_s in enumerate(self.asked_s)
        ]


def run(way: Way, backlog: int, seconds: float, seed: int) -> list[Waits]:
    """Live jobs while a backlog drains, for so long; the courier's while it comes in, too."""
    with staged(strict(seed=seed)) as stage, way.running(stage) as running:
        asking = Asking(running.send_live, seed)
        start_s = time.monotonic()
        if isinstance(running, RunningCourier):
            _bring_in(running, backlog, asking)
        else:
            for number in range(backlog):
                running.send(email(number), CUSTOM)
        coming_in, drain_s = len(asking.asked_s), time.monotonic()
        asking.until(lambda: time.monotonic() > drain_s + seconds)
        end_s = time.monotonic()

        def arrived() -> dict[str, float]:
            return arrivals(stage.stand_in.requests())

        until(lambda: None not in asking.waited_s(arrived()), LAST_BOUND_S, look_every_s=0.5)
        requests = arrived()
    found = asking.waited_s(requests)

    def waits(name: str, part: list[float | None], since_s: float, until_s: float) -> Waits:
        return Waits(
            way=name,
            backlog=backlog,
            waited_s=tuple(each for each in part if each is not None),
            asked=len(part),
            per_second=pace(requests, since_s, until_s),
        )

    draining = waits(f"{_name(way)}, while it drains", found[coming_in:], drain_s, end_s)
    if not coming_in:
        return [draining]
    name = f"{_name(way)}, while it comes in"
    return [draining, waits(name, found[:coming_in], start_s, drain_s)]


def _bring_in(running: RunningCourier, backlog: int, asking: Asking) -> None:
    """Hand over the backlog with live jobs meanwhile, until a worker has accepted all of it."""
    bulk = ((email(number), CUSTOM) for number in range(backlog))
    last: list[str] = []

    def load() -> None:
        running.producer.add_many(
            bulk, on_batch=lambda batch: last.__setitem__(slice(None), [str(batch.job_ids[-1])])
        )

    loading = threading.Thread(target=load, daemon=True)
    deadline = time.monotonic() + ACCEPT_BOUND_S

    def accepted() -> bool:
        return not loading.is_alive() and running.accepted(last[0])

    loading.start()
    asking.until(lambda: accepted() or time.monotonic() > deadline)
    if not accepted():
        raise RuntimeError(f"the backlog was not accepted within {ACCEPT_BOUND_S} s")


def _name(way: Way) -> str:
    if isinstance(way, RivalWay) and way.live_worker:
        return f"{title(way)}, a worker for live"
    return f"{title(way)}, a queue for live" if way is DRAMATIQ else title(way)


def table(results: Sequence[Waits]) -> list[list[str]]:
    """Milliseconds that live jobs waited."""
    head = ["live jobs", "backlog", "delivered", "p50", "slots", "p99", "slowest", "per s"]
    lines = [head]
    for each in results:
        found = each.waited_s
        cells = [each.way, f"{each.backlog:,}", f"{len(found):,} of {each.asked:,}"]
        if found:
            p50_s, p99_s = percentile(found, 0.5), percentile(found, 0.99)
            cells += [f"{p50_s * 1e3:,.0f} ms", f"{p50_s / SLOT_S:.1f}"]
            cells += [f"{p99_s * 1e3:,.0f} ms", f"{max(found) * 1e3:,.0f} ms"]
        else:
            cells += [""] * 4
        lines.append([*cells, f"{each.per_second:.1f}"])
    return lines


def targets(results: Sequence[Waits]) -> list[Target]:
    """The courier's, while its backlog drains."""
    draining = results[0]
    found = draining.waited_s or (float("inf"),)
    undelivered = sum(each.asked - len(each.waited_s) for each in results if "courier" in each.way)
    return [
        Target(
            what=f"add_attributes() to POST behind bulk, {name}",
            sense="at most",
            aim=aim,
            found=percentile(found, share) * 1e3,
            unit="ms",
        )
        for name, share, aim in [("median (2 slots)", 0.5, 51), ("p99", 0.99, 150)]
    ] + [Target(what="live jobs not delivered", sense="at most", aim=0, found=undelivered)]


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.live
  python -m benchmarks.live --backlog 5000 --seconds 15 --no-rivals
"""
)
@click.option(
    "--backlog",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Emails with a bulk job.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="How long live jobs come while the backlog drains.",
)
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--rivals/--no-rivals", default=True, help="Run the rivals.")
@click.option(
    "--rival-backlog", type=click.IntRange(min=1), default=2_500, show_default=True, help="Theirs."
)
@click.option("--seed", default=0, show_default=True, help="Of pauses and latencies.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(
    backlog: int,
    seconds: float,
    workers: int,
    rivals: bool,
    rival_backlog: int,
    seed: int,
    path: Path | None,
) -> None:
    """Hand over live jobs, two or three a second, while a bulk backlog goes to a strict stand-in
    for ChartMogul (40 requests in any second, 20 at once, 250 ms): with the courier, with Celery
    and a worker for live jobs alone, and with dramatiq and a queue for them.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    with tidily():
        click.echo("courier …", err=True)
        results = run(CourierWay(workers=workers), backlog, seconds, seed)
        for way in RIVALS if rivals else ():
            click.echo(f"{title(way)} …", err=True)
            results += run(way, rival_backlog, min(seconds, RIVAL_SECONDS), seed)
    tell(
        table(results),
        targets=targets(results),
        path=path,
        results=[asdict(each) for each in results],
    )


if __name__ == "__main__":
    main()
