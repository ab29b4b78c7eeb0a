"""`courier top`."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..config import Settings, load_settings
from ..config.connections import Client, connect_briefly
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs.emails import redacted_email
from ..jobs.errors import NotReachable
from ..jobs.outcome import Outcome
from ..jobs.text import printable
from ..operate.picture import Picture, look
from ..state.account import AccountStatus, Lane
from ..state.counts import Counters, Counts
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from .account import accounts_of
from .output import Age
from .problems import grid
from .status import state_text

HISTORY_S = 10.0
"""How often what was counted minute by minute is read again."""
MINUTES = 30
OUTCOMES = 40
"""The latest ones that are read; as many are shown as there is room for."""
_BARS = "▁▂▃▄▅▆▇█"


@click.command(
    "top",
    epilog="""\b
Examples:
  courier top
  courier top --account eu --interval 5s
  courier top > picture.txt
""",
)
@click.option("--account", help="Only this account.")
@click.option(
    "--interval",
    type=Age(),
    default="1s",
    show_default=True,
    metavar="TIME",
    help="Refresh so often.",
)
def command(account: str | None, interval: timedelta) -> None:
    """Watch the accounts live: problems, deliveries, backlog, workers and the latest outcomes.

    The line of bars shows deliveries minute by minute, over the last half hour. Emails are masked.
    `q` or Ctrl-C ends it. Where the output is no terminal, it shows one picture and ends.
    """
    settings = load_settings()
    view = _View(settings, accounts_of(settings, account))
    console = Console()
    try:
        if not console.is_terminal:
            console.print(view.picture(console, height=None), highlight=False)
            return
        with _keys() as key_pressed, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                try:
                    shown = view.picture(console, height=console.height)
                except NotReachable as error:
                    shown = Group(
                        Text(str(error), "bold red"), Text("Trying again. q ends it.", "dim")
                    )
                live.update(shown, refresh=True)
                if key_pressed(max(0.2, interval.total_seconds())):
                    return
    except KeyboardInterrupt:
        pass
    finally:
        view.close()


class _View:
    """What is shown, read from Redis again and again."""

    def __init__(self, settings: Settings, accounts: Sequence[str]) -> None:
        self._settings = settings
        self._accounts = accounts
        self._client: Client = connect_briefly(settings)
        self._histories: dict[str, list[Counts]] = {}
        self._read_at_s = -HISTORY_S

    def picture(self, console: Console, *, height: int | None) -> RenderableType:
        """How everything stands, in so many lines at most.

        Raises:
            NotReachable: Redis does not answer.
        """
        try:
            picture = look(self._client, self._settings, accounts=self._accounts)
            if time.monotonic() >= self._read_at_s + HISTORY_S:
                self._read_at_s = time.monotonic()
                self._histories = {
                    name: Counters(self._client, Keys(name)).last_hour() for name in self._accounts
                }
            outcomes = [
                outcome
                for name in self._accounts
                for outcome in Outcomes(self._client, Keys(name)).recent(limit=OUTCOMES)
            ]
        except RedisError as error:
            raise NotReachable(describe_redis_error(self._settings, error)) from error
        return _fitted(console, _Shown(picture, self._histories, outcomes), height)

    def close(self) -> None:
        self._client.close()


class _Shown:
    """The parts of the picture."""

    def __init__(
        self, picture: Picture, histories: Mapping[str, list[Counts]], outcomes: list[Outcome]
    ) -> None:
        self._picture = picture
        self._histories = histories
        self._outcomes = sorted(
            outcomes,
            key=lambda each: each.settled_at.timestamp() if each.settled_at else 0.0,
            reverse=True,
        )

    def head(self) -> list[RenderableType]:
        redis = self._picture.redis
        words = ["courier top"]
        if redis.version:
            words.append(f"Redis {redis.version}")
        if redis.used_bytes is not None:
            free = f", {redis.head_room:.0%} free" if redis.head_room is not None else ""
            words.append(f"{redis.used_bytes / 1024**2:,.0f} MiB{free}")
        words.append(f"{self._picture.accounts[0].at:%H:%M:%S} UTC")
        well = [] if self._picture.problems else [("  ·  ", "dim"), ("nothing is wrong", "green")]
        return [_line((" · ".join(words), "bold"), *well)]

    def problems(self) -> list[RenderableType]:
        return [grid([problem]) for problem in self._picture.problems]

    def account(self, status: AccountStatus, *, full: bool) -> list[RenderableType]:
        found: list[RenderableType] = [
            _line(
                (printable(status.account), "bold"),
                ("  ", ""),
                state_text(status, self._picture),
                (f" · {status.delivered_per_s:.1f} delivered/s", ""),
                (f" · {status.requests_per_s:.0f} requests/s of {status.rate:.3g}", ""),
                (f" · {status.in_flight} in flight", ""),
            )
        ]
        for name, inbox, due in (
            ("live", status.inbox_live, status.live),
            ("bulk", status.inbox_bulk, status.bulk),
        ):
            found.append(_named(name, f"inbox {_waits(inbox)} · due {_waits(due)}"))
        if not full:
            return found
        peak, bars = _bars(self._histories.get(status.account, []))
        hour = ", ".join(f"{count:,} {name}" for name, count in status.last_hour.items())
        limited = status.hour.attempts.get("429", 0)
        workers = ", ".join(
            f"{printable(worker.name)} ({worker.version}, {worker.concurrency})"
            for worker in status.workers
        )
        found += [
            _named("again", f"failing {_waits(status.failing)} · later {status.later:,}"),
            _named("minutes", f"{bars}  at most {peak:.1f}/s"),
            _named(
                "hour",
                (hour or "no job was settled") + (f" · {limited:,} × 429" if limited else ""),
            ),
            _named("workers", workers or "none"),
        ]
        return found

    def outcomes(self) -> list[RenderableType]:
        found: list[RenderableType] = []
        for each in self._outcomes:
            at = f"{each.settled_at:%H:%M:%S}" if each.settled_at else "        "
            email = redacted_email(each.email) if each.email else "?"
            style = "green" if each.successful else "red"
            found.append(
                _line(
                    (f"  {at}  ", "dim"),
                    (f"{printable(email):<24.24}  ", ""),
                    (printable(each.summary()), style),
                )
            )
        return found

    @property
    def accounts(self) -> Sequence[AccountStatus]:
        return self._picture.accounts


def _fitted(console: Console, shown: _Shown, height: int | None) -> RenderableType:
    """The parts in so many lines: the accounts in short where there are many of them, and as many
    problems and outcomes as there is room for."""
    width = console.options.update(width=console.width)

    def lines(parts: Sequence[RenderableType]) -> int:
        return sum(len(console.render_lines(part, width)) for part in parts)

    full = [part for each in shown.accounts for part in shown.account(each, full=True)]
    short = [part for each in shown.accounts for part in shown.account(each, full=False)]
    room = (height or 1000) - 1
    accounts = full if lines(full) <= room * 0.6 else short
    problems = shown.problems()
    while problems and lines(problems) + lines(accounts) > room - 2:
        if len(problems) == 1 and accounts:
            del accounts[-1]
        else:
            del problems[-1]
    parts = [*shown.head(), *problems, *accounts]
    left = room + 1 - lines(parts) - 1
    outcomes = shown.outcomes()[: min(left, OUTCOMES if height else 10)]
    if outcomes and left > 0:
        parts += [_line(("latest outcomes", "bold")), *outcomes[:left]]
    return Group(*parts)


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _named(name: str, text: str) -> Text:
    return _line((f"  {name:<8} ", "dim"), (text, ""))


def _waits(lane: Lane) -> str:
    return f"{lane.due:,}" + (f", the first for {lane.oldest_s:,.0f} s" if lane.due else "")


def _bars(history: Sequence[Counts]) -> tuple[float, str]:
    """Deliveries a second, minute by minute: the most, and a bar for each."""
    rates = []
    for before, now in pairwise(history):
        passed_s = (now.at - before.at).total_seconds()
        rates.append(now.since(before).delivered / passed_s if passed_s >= 1 else 0.0)
    rates = rates[-MINUTES:]
    peak = max(rates, default=0.0)
    if not peak:
        return 0.0, _BARS[0] * len(rates)
    return peak, "".join(_BARS[min(7, round(rate / peak * 7))] for rate in rates)


@contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Reads single keys, where the input is a terminal; answers a function that waits for `q`."""
    if not sys.stdin.isatty():

        def wait(within_s: float) -> bool:
            time.sleep(within_s)
            return False

        yield wait
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(within_s: float) -> bool:
        until_s = time.monotonic() + within_s
        while (left_s := until_s - time.monotonic()) > 0:
            ready, _, _ = select.select([descriptor], [], [], left_s)
            typed = os.read(descriptor, 64) if ready else None
            if typed == b"" or (typed and typed.lower().count(b"q")):
                return True
        return False

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
