"""A backlog with many updates of each email: how many requests it takes, and how long.

`python -m benchmarks.backlog` from the checkout; README.md explains the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from .measure import ratio
from .report import Target, tell
from .stage import email, staged, strict, tidily, until
from .ways import OFFICIAL, CourierWay, title

PLAIN_UPDATES = 1_500
PLAIN_BOUND_S = 40
AIM_SHARE = 1.1
"""Requests for each email: the updates that come in after its request went out need a second."""
AIM_S = 30


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What became of a backlog."""

    way: str
    updates: int
    """Those that were handed over and came to their end."""
    requests: int
    """All that the stand-in got, refused ones too."""
    seconds: float
    """From the first handing over to the last answer of 200."""
    newest: int
    """Emails whose last request that was answered 200 held the newest value."""
    emails: int
    computed: bool = False

    def at_this_pace(self, updates: int) -> Drained:
        """What more updates would take, one after the other as these."""
        more = ratio(updates, self.updates)
        return Drained(
            way=f"{self.way}, computed",
            updates=updates,
            requests=round(self.requests * more),
            seconds=self.seconds * more,
            newest=0,
            emails=self.emails,
            computed=True,
        )


def updates_of(emails: int, updates: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Each email's turn comes again and again, with a higher number each time."""
    for number in range(updates):
        score = {"type": "Integer", "key": "score", "value": number // emails}
        yield email(number % emails), [score]


def drained(
    way: str,
    log: Sequence[dict[str, Any]],
    *,
    started_s: float,
    handed_over: int,
    ended: int,
    emails: int,
) -> Drained:
    """Read it from the stand-in's log; `started_s` is on its clock."""
    posts = [each for each in log if each["method"] == "POST"]
    taken = sorted(
        (each for each in posts if each["status"] == 200), key=lambda each: float(each["ended_s"])
    )
    last = {each["email"]: each["custom"][0]["value"] for each in taken}
    newest = dict.fromkeys(last, 0)
    for address, [attribute] in updates_of(emails, handed_over):
        newest[address] = attribute["value"]
    return Drained(
        way=way,
        updates=ended,
        requests=len(posts),
        seconds=taken[-1]["ended_s"] - started_s if taken else 0.0,
        newest=sum(newest[address] == value for address, value in last.items()),
        emails=emails,
    )


def courier(emails: int, updates: int, bound_s: float, seed: int) -> Drained:
    """All updates in one call of `add_many()`, to one worker."""
    way = CourierWay(workers=1)
    with staged(strict(seed=seed)) as stage, way.running(stage) as running:
        ids: list[str] = []
        started_s = time.monotonic()
        running.producer.add_many(
            updates_of(emails, updates), on_batch=lambda batch: ids.extend(map(str, batch.job_ids))
        )
        until(lambda: stage.delivered() >= emails, bound_s, look_every_s=0.25)
        left_s = max(1.0, started_s + bound_s - time.monotonic())
        until(lambda: running.settled(ids), left_s, look_every_s=0.25)
        return drained(
            "courier",
            stage.stand_in.requests(),
            started_s=started_s,
            handed_over=updates,
            ended=updates - len(ids),
            emails=emails,
        )


def plain(emails: int, updates: int, bound_s: float, seed: int) -> Drained:
    """A task for each update, as far as the time allows."""
    with staged(strict(seed=seed)) as stage, OFFICIAL.running(stage) as running:
        started_s = time.monotonic()
        for update in updates_of(emails, updates):
            running.send(*update)
        left_s = started_s + bound_s - time.monotonic()
        until(lambda: stage.delivered() >= updates, left_s, look_every_s=0.25)
        return drained(
            title(OFFICIAL),
            stage.stand_in.requests(),
            started_s=started_s,
            handed_over=updates,
            ended=stage.delivered(),
            emails=emails,
        )


def table(results: Sequence[Drained]) -> list[list[str]]:
    """The results; the last one is what the courier is compared with."""
    whole = results[-1]
    lines = [
        ["way", "updates", "requests", "seconds", "newest at the end", "fewer requests", "sooner"]
    ]
    for each in results:
        same = each.updates == whole.updates and each is not whole
        lines.append(
            [
                each.way,
                f"{each.updates:,}",
                f"{each.requests:,}",
                f"{each.seconds:.1f}",
                "" if each.computed else f"{each.newest:,} of {each.emails:,}",
                f"{ratio(whole.requests, each.requests):.1f} times" if same else "",
                f"{ratio(whole.seconds, each.seconds):.1f} times" if same else "",
            ]
        )
    return lines


@click.command(
    epilog="""\b
Examples:
  python -m benchmarks.backlog
  python -m benchmarks.backlog --emails 200 --updates 2000
"""
)
@click.option("--emails", type=click.IntRange(min=1), default=1_000, show_default=True)
@click.option(
    "--updates",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Of all emails together, in turns.",
)
@click.option(
    "--plain-updates",
    type=click.IntRange(min=1),
    default=PLAIN_UPDATES,
    show_default=True,
    help="So many of them for the plain way; what all would take is computed from that.",
)
@click.option(
    "--bound",
    "bound_s",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help=f"Seconds after which the courier's run is cut off; the plain one's after "
    f"{PLAIN_BOUND_S} or so many.",
)
@click.option("--seed", default=0, show_default=True, help="Of the stand-in's latencies.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write everything here.")
def main(
    emails: int, updates: int, plain_updates: int, bound_s: float, seed: int, path: Path | None
) -> None:
    """Deliver many updates of fewer emails to a strict stand-in for ChartMogul (40 requests in any
    second, 20 at once, 250 ms): with the courier, and with a plain Celery task for each update.

    All of it runs on this machine, in a temporary directory. Nothing is asserted.
    """
    with tidily():
        click.echo("courier …", err=True)
        ours = courier(emails, updates, bound_s, seed)
        click.echo(f"{title(OFFICIAL)} …", err=True)
        theirs = plain(emails, min(plain_updates, updates), min(bound_s, PLAIN_BOUND_S), seed)
    results = [ours, theirs]
    if theirs.updates < updates:
        results.append(theirs.at_this_pace(updates))
    of = f"of {updates:,} updates of {emails:,} emails"
    tell(
        table(results),
        targets=[
            Target(
                what=f"requests {of}",
                sense="at most",
                aim=AIM_SHARE * emails,
                found=ours.requests,
            ),
            Target(
                what=f"seconds {of}",
                sense="at most",
                aim=AIM_S * emails / 1_000,
                found=ours.seconds,
            ),
            Target(what="of them settled", sense="at least", aim=updates, found=ours.updates),
        ],
        path=path,
        results=[asdict(each) for each in results],
    )


if __name__ == "__main__":
    main()
