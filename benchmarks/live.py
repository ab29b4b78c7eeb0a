"""How long a live job waits while a bulk backlog drains.

`python -m benchmarks.latency` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from attribute_courier.producers import Receipt
from attribute_courier.sandbox import SandboxError

from .measure import percentile, ratio
from .report import Target, tell
from .stage import email, staged, strict
from .ways import CUSTOM, FITTED_PLAIN_WAY, CourierWay, PlainWay

EVERY_S = 0.5
PLAIN_SECONDS = 20
ACCEPT_BOUND_S = 300
"""For the backlog to be handed over and accepted."""
LAST_BOUND_S = 30
"""For the last live job to be delivered."""
PLAIN_BOUND_S = 180
AIM_P99_S = 2

ONE_QUEUE = replace(FITTED_PLAIN_WAY, name="plain, one queue")
TWO_QUEUES = replace(FITTED_PLAIN_WAY, name="plain, a queue for live", live_queue=True)


@dataclass(frozen=True, kw_only=True)
class Waits:
    """What live jobs waited."""

    way: str
    backlog: int
    """Emails with a bulk job, each."""
    waited_s: tuple[float, ...]
    """Of each live job, from before it was handed over until it was delivered."""
    asked: int
    """Live jobs that were handed over, delivered or not."""
    per_second: float
    """Deliveries a second meanwhile, bulk and live."""
    computed: bool = False

    def share_s(self, share: float) -> float:
        """Seconds that so large a share of the live jobs did not exceed."""
        return percentile(self.waited_s, share)

    def behind(self, backlog: int) -> Waits:
        """What a live job would wait if it came after so many others, at this pace."""
        return replace(
            self,
            way=f"{self.way}, computed",
            backlog=backlog,
            waited_s=(ratio(backlog, self.per_second),),
            computed=True,
        )


def live(number: int) -> str:
    """An email with a live job, which no bulk job has."""
    return f"live-{number}@load.example"


def delivered_s(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Email → when a request for it was first answered 200, by the stand-in's clock."""
    found: dict[str, float] = {}
    for each in log:
        if each["method"] == "POST" and each["status"] == 200:
            ended_s = found.get(each["email"], each["ended_s"])
            found[each["email"]] = min(ended_s, each["ended_s"])
    return found


def pace(delivered: Mapping[str, float], since_s: float, until_s: float) -> float:
    """Deliveries a second between two moments."""
    count = sum(since_s <= each <= until_s for each in delivered.values())
    return ratio(count, until_s - since_s)


def every(seconds: float, call: Callable[[int], object], done: Callable[[], bool]) -> None:
    """Call again and again, `seconds` apart, until it is done."""
    number, at_s = 0, time.monotonic()
    while not done():
        call(number)
        number += 1
        at_s = max(at_s + seconds, time.monotonic() - seconds)
        time.sleep(max(0.0, at_s - time.monotonic()))


def courier(backlog: int, workers: int, seconds: float, seed: int) -> list[Waits]:
    """Live jobs while the backlog comes in, and then for so many seconds while it drains."""
    way = CourierWay(workers=workers)
    with staged(strict(seed=seed)) as stage, way.running(stage) as running:
        bulk = ((email(number), CUSTOM) for number in range(backlog))
        load = threading.Thread(target=running.producer.add_many, args=(bulk,), daemon=True)
        asked: list[tuple[float, Receipt]] = []

        def ask(number: int) -> None:
            at_s = time.time()
            asked.append((at_s, running.producer.add_attributes(live(number), CUSTOM)))

        def accepted() -> bool:
            with running.producer.reading() as outcomes:
                return not load.is_alive() and outcomes.waiting() == 0

        start_s = time.monotonic()
        load.start()
        every(EVERY_S, ask, lambda: accepted() or time.monotonic() > start_s + ACCEPT_BOUND_S)
        if not accepted():
            raise RuntimeError(f"the backlog was not accepted within {ACCEPT_BOUND_S} s")
        coming_in, drain_s = len(asked), time.monotonic()
        every(EVERY_S, ask, lambda: time.monotonic() > drain_s + seconds)
        end_s = time.monotonic()
        delivered = delivered_s(stage.stand_in.requests())

        def settled(receipt: Receipt) -> datetime | None:
            outcome = receipt.outcome()
            return outcome.settled_at if outcome and outcome.status == "delivered" else None

        while (
            any(settled(receipt) is None for _, receipt in asked)
            and time.monotonic() < end_s + LAST_BOUND_S
        ):
            time.sleep(0.25)
        waited = [
            None if (at := settled(receipt)) is None else at.timestamp() - asked_s
            for asked_s, receipt in asked
        ]

        def waits(phase: str, part: list[float | None], since_s: float, until_s: float) -> Waits:
            return Waits(
                way=f"courier, while it {phase}",
                backlog=backlog,
                waited_s=tuple(each for each in part if each is not None),
                asked=len(part),
                per_second=pace(delivered, since_s, until_s),
            )

        return [
            waits("drains", waited[coming_in:], drain_s, end_s),
            waits("comes in", waited[:coming_in], start_s, drain_s),
        ]


def plain(way: PlainWay, backlog: int, seconds: float, seed: int) -> Waits:
    """Live tasks for so many seconds, behind a backlog of others."""
    with staged(strict(seed=seed)) as stage, way.running(stage) as running:
        for number in range(backlog):
            running.send(email(number), CUSTOM)
        start_s = time.monotonic()
        asked: list[float] = []

        def ask(number: int) -> None:
            asked.append(time.monotonic())
            running.send_live(live(number), CUSTOM)

        every(EVERY_S, ask, lambda: time.monotonic() > start_s + seconds)
        while True:
            delivered = delivered_s(stage.stand_in.requests())
            waited_s = [
                delivered[live(number)] - asked_s
                for number, asked_s in enumerate(asked)
                if live(number) in delivered
            ]
            if len(waited_s) == len(asked) or time.monotonic() > start_s + PLAIN_BOUND_S:
                break
            time.sleep(0.5)
        # Of the last ones, some wait for their retry: they would make the pace too low.
        most_s = percentile([*delivered.values()], 0.95) if delivered else start_s
        return Waits(
            way=way.name,
            backlog=backlog,
            waited_s=tuple(waited_s),
            asked=len(asked),
            per_second=pace(delivered, start_s, most_s),
        )


def table(results: Sequence[Waits]) -> list[list[str]]:
    """The results; the first one is what the others are compared with."""
    ours = results[0]
    lines = [
        [
            "live jobs",
            "backlog",
            "delivered",
            "p50 s",
            "p99 s",
            "slowest s",
            "per s",
            "p50 vs first",
        ]
    ]
    for each in results:
        found = each.waited_s
        lines.append(
            [
                each.way,
                f"{each.backlog:,}",
                "" if each.computed else f"{len(found):,} of {each.asked:,}",
                f"{each.share_s(0.5):,.2f}" if found else "",
                f"{each.share_s(0.99):,.2f}" if found and not each.computed else "",
                f"{max(found):,.2f}" if found and not each.computed else "",
                f"{each.per_second:.1f}",
                f"{ratio(each.share_s(0.5), ours.share_s(0.5)):,.1f}"
                if found and ours.waited_s and each is not ours
                else "",
            ]
        )
    return lines


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.latency
  python -m benchmarks.latency --backlog 5000 --seconds 15 --no-plain
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
@click.option("--plain/--no-plain", "with_plain", default=True, help="Run the plain ways.")
@click.option(
    "--plain-backlog",
    type=click.IntRange(min=1),
    default=1_500,
    show_default=True,
    help="Its tasks; the wait behind more is computed.",
)
@click.option("--seed", default=0, show_default=True, help="Of the stand-in's latencies.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(
    backlog: int,
    seconds: float,
    workers: int,
    with_plain: bool,
    plain_backlog: int,
    seed: int,
    path: Path | None,
) -> None:
    """Hand over a live job every half second while a bulk backlog goes to a strict stand-in for
    ChartMogul (40 requests in any second, 20 at once, 250 ms): with the courier, and with a plain
    Celery task.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
    try:
        click.echo("courier …", err=True)
        results = courier(backlog, workers, seconds, seed)
        for way in (ONE_QUEUE, TWO_QUEUES) if with_plain else ():
            click.echo(f"{way.name} …", err=True)
            results.append(plain(way, plain_backlog, min(seconds, PLAIN_SECONDS), seed))
            if way is ONE_QUEUE:
                results.append(results[-1].behind(backlog))
    except (SandboxError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    draining = results[0]
    undelivered = sum(each.asked - len(each.waited_s) for each in results[:2])
    tell(
        table(results),
        targets=[
            Target(
                what="p99 while it drains, seconds",
                sense="at most",
                aim=AIM_P99_S,
                found=draining.share_s(0.99) if draining.waited_s else float("inf"),
            ),
            Target(what="live jobs not delivered", sense="at most", aim=0, found=undelivered),
        ],
        path=path,
        results=[asdict(each) for each in results],
    )


if __name__ == "__main__":
    main()
