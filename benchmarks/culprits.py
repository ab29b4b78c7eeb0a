"""Emails that always fail, and what they do to others.

`python -m benchmarks.culprits` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click

from attribute_courier.sandbox import SandboxConfig
from attribute_courier.sandbox.faults import Fault

from .measure import ratio
from .report import Target, tell
from .stage import staged, strict, tidily, until
from .ways import CELERY, CUSTOM, CourierWay, Way, title

Failing = Literal["500", "timeout"]

CULPRITS = 20
LIMIT = 40
TIMEOUT_S = 10
"""`COURIER_TIMEOUT`, and the rivals' (rivals/settings.py)."""
FIRST_S = 1.0
"""After the culprits, so that all of them have been tried, the first good live job comes."""
EVERY_S = 5.0
MINUTE_S = 60.0
LAST_BOUND_S = 60.0
AIM_S = 5.0
AIM_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Suffered:
    """What became of the good jobs, and how many requests the culprits had."""

    way: str
    failing: Failing
    good: int
    waited_s: tuple[float, ...]
    """Of each good job that was delivered, from before it was handed over until its answer."""
    first_minute: int
    """Requests of the culprits in their first minute."""
    later_per_second: float | None
    """Their requests a second after it; None when the run was no longer than that."""


def culprit(number: int) -> str:
    """An email that always fails."""
    return f"culprit-{number}@load.example"


def good(number: int) -> str:
    """An email that does not."""
    return f"good-{number}@load.example"


def stand_in(failing: Failing) -> SandboxConfig:
    """The strict one, which fails for the culprits alone."""
    emails = [culprit(number) for number in range(CULPRITS)]
    if failing == "500":
        faults = [Fault(kind="status", status=500, email=each) for each in emails]
    else:
        # Not much longer: until it answers, the stand-in counts a lost request as in progress.
        faults = [Fault(kind="latency", seconds=TIMEOUT_S + 1, email=each) for each in emails]
    return strict(faults=tuple(faults))


def suffered(
    way: str,
    failing: Failing,
    log: Sequence[Mapping[str, Any]],
    *,
    start_s: float,
    end_s: float,
    asked_s: Sequence[float],
) -> Suffered:
    """Read it from the stand-in's log, whose clock is the one of the other times."""
    posts = [each for each in log if each["method"] == "POST"]
    answered = {each["email"]: each["ended_s"] for each in reversed(posts) if each["status"] == 200}
    theirs = [each["arrived_s"] for each in posts if str(each["email"]).startswith("culprit-")]
    minute_s = start_s + MINUTE_S
    later = sum(minute_s < each <= end_s for each in theirs)
    return Suffered(
        way=way,
        failing=failing,
        good=len(asked_s),
        waited_s=tuple(
            answered[good(number)] - at_s
            for number, at_s in enumerate(asked_s)
            if good(number) in answered
        ),
        first_minute=sum(each <= minute_s for each in theirs),
        later_per_second=ratio(later, end_s - minute_s) if end_s > minute_s else None,
    )


def run(way: Way, failing: Failing, seconds: float) -> Suffered:
    """Hand over the culprits, and then a good live job every few seconds."""
    with staged(stand_in(failing)) as stage, way.running(stage) as running:
        start_s = time.monotonic()
        for number in range(CULPRITS):
            running.send(culprit(number), CUSTOM)
        asked_s: list[float] = []
        next_s = start_s + FIRST_S
        while next_s < start_s + seconds:
            time.sleep(max(0.0, next_s - time.monotonic()))
            asked_s.append(time.monotonic())
            running.send_live(good(len(asked_s) - 1), CUSTOM)
            next_s += EVERY_S
        time.sleep(max(0.0, start_s + seconds - time.monotonic()))
        end_s = time.monotonic()

        def found() -> Suffered:
            return suffered(
                title(way),
                failing,
                stage.stand_in.requests(),
                start_s=start_s,
                end_s=end_s,
                asked_s=asked_s,
            )

        until(lambda: len(found().waited_s) == len(asked_s), LAST_BOUND_S, look_every_s=0.5)
        return found()


def table(results: Sequence[Suffered]) -> list[list[str]]:
    """Waits of good jobs, and the culprits' requests."""
    head = ["way", "culprits get", "good jobs", "first waits", "slowest waits"]
    lines = [[*head, "culprits' requests, 1st minute", "then, per s", "of the pace"]]
    for each in results:
        waits = each.waited_s
        lines.append(
            [
                each.way,
                each.failing,
                f"{len(waits)} of {each.good}",
                f"{waits[0]:.2f} s" if waits else "",
                f"{max(waits):.2f} s" if waits else "",
                str(each.first_minute),
                "" if each.later_per_second is None else f"{each.later_per_second:.2f}",
                "" if each.later_per_second is None else f"{each.later_per_second / LIMIT:.1%}",
            ]
        )
    return lines


def targets(results: Sequence[Suffered]) -> list[Target]:
    """The courier's."""
    found = []
    for each in results:
        if not each.way.startswith("courier"):
            continue
        all_came = len(each.waited_s) == each.good
        found.append(
            Target(
                what=f"a good live job beside {CULPRITS} culprits ({each.failing}), slowest",
                sense="at most",
                # The first wave holds all places until it times out.
                aim=AIM_S + (TIMEOUT_S if each.failing == "timeout" else 0),
                found=max(each.waited_s) if all_came and each.waited_s else float("inf"),
                unit="s",
            )
        )
        if each.later_per_second is not None:
            found.append(
                Target(
                    what=f"culprits' share of the pace after a minute ({each.failing})",
                    sense="at most",
                    aim=AIM_SHARE * 100,
                    found=each.later_per_second / LIMIT * 100,
                    unit="%",
                )
            )
    return found


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.culprits
  python -m benchmarks.culprits --seconds 20 --failing 500 --no-rivals
"""
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=5),
    default=90.0,
    show_default=True,
    help="How long good jobs come. What comes after a minute is seen only if it is longer.",
)
@click.option(
    "--failing",
    type=click.Choice(["500", "timeout"]),
    multiple=True,
    default=("500", "timeout"),
    show_default=True,
    help="What the culprits get. May be repeated: each is a run.",
)
@click.option("--rivals/--no-rivals", default=True, help="Run Celery, too.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(seconds: float, failing: tuple[Failing, ...], rivals: bool, path: Path | None) -> None:
    """Hand over jobs for 20 emails that always fail, and good live jobs every five seconds, to a
    strict stand-in for ChartMogul: with the courier, and with Celery's retries.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    results = []
    with tidily():
        for way in (CourierWay(), CELERY) if rivals else (CourierWay(),):
            for each in failing:
                click.echo(f"{title(way)}, {each} …", err=True)
                results.append(run(way, each, seconds))
    tell(
        table(results),
        targets=targets(results),
        path=path,
        results=[asdict(each) for each in results],
    )


if __name__ == "__main__":
    main()
