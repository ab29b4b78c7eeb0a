"""`courier outcomes`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

import click

from ..jobs.emails import normalized_email
from ..jobs.outcome import REASONS, STATUSES, Outcome, Reason, Status
from ..jobs.text import counted
from ..producers import default_producer
from ..state.outcomes import Outcomes
from .main import EXIT_NOT_DELIVERED
from .output import Age, Format, format_option, show, show_outcomes

COUNT_COLUMNS = ("outcome", "reason", "jobs")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which jobs are asked for."""

    statuses: Collection[Status] = ()
    """None given: all; without an email, all that are settled."""
    reasons: Collection[Reason] = ()
    since: timedelta | None = None

    def fits(self, outcome: Outcome) -> bool:
        """Whether status and reason are asked for."""
        return (not self.statuses or outcome.status in self.statuses) and (
            not self.reasons or outcome.reason in self.reasons
        )

    def of_account(self, outcomes: Outcomes, limit: int) -> Iterator[Outcome]:
        """If they are asked for, those that wait, the longest first; then the latest settled."""
        if "pending" in self.statuses:
            if self.reasons:  # all of them have to be looked at
                yield from filter(self.fits, self.aged(outcomes.all_pending(), outcomes))
            else:
                yield from outcomes.pending(since=self.since, limit=limit)
        settled = [status for status in self.statuses if status != "pending"]
        if settled or not self.statuses:
            yield from filter(self.fits, outcomes.all_settled(statuses=settled, since=self.since))

    def of_account_in_no_order(self, outcomes: Outcomes) -> Iterator[Outcome]:
        """All of them, those that wait as well unless other statuses are asked for."""
        waiting = self.aged(outcomes.all_pending(), outcomes)
        settled = outcomes.all_settled(statuses=self.statuses, since=self.since)
        if not self.statuses or "pending" in self.statuses:
            yield from filter(self.fits, waiting)
        if set(self.statuses) != {"pending"}:
            yield from filter(self.fits, settled)

    def aged(self, found: Iterable[Outcome], outcomes: Outcomes) -> Iterator[Outcome]:
        """Those that were accepted since then, or are not accepted yet."""
        oldest: datetime | None = outcomes.now() - self.since if self.since is not None else None
        for outcome in found:
            if oldest is None or outcome.accepted_at is None or outcome.accepted_at >= oldest:
                yield outcome


@click.command(
    "outcomes",
    epilog="""\b
Examples:
  courier outcomes ada@example.com
  courier outcomes --job 019abcde-0000-7000-8000-000000000000 --format json
  courier outcomes --status refused --status failed --since 24h
  courier outcomes --status pending
  courier outcomes --since 24h --count
  courier outcomes --follow --format jsonl
""",
)
@click.argument("email", required=False)
@click.option("--job", "job_id", metavar="ID", help="One job.")
@click.option(
    "--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; repeat."
)
@click.option(
    "--reason",
    "reasons",
    type=click.Choice([reason for reason in REASONS if reason]),
    multiple=True,
    help="Only those that ended, or wait, for this reason; repeat.",
)
@click.option("--since", type=Age(), metavar="AGE", help="Only the last 15m, 2h, 7d, …")
@click.option("--count", is_flag=True, help="Count them by outcome and reason.")
@click.option(
    "--follow", is_flag=True, help="Print outcomes as they come (plain, not as a table, if unsaid)."
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--account", help="Name of the ChartMogul account, if there are several.")
@format_option
def command(
    email: str | None,
    job_id: str | None,
    statuses: tuple[Status, ...],
    reasons: tuple[Reason, ...],
    since: timedelta | None,
    count: bool,
    follow: bool,
    limit: int,
    account: str | None,
    format_: Format | None,
) -> None:
    """Tell what became of an EMAIL's jobs, of one job, or of the latest that came to an end.

    An email's jobs are listed newest first, the pending ones among them. With --status pending, the
    jobs of all emails that wait: those first that have waited longest, as far as they are next in
    line. --count looks at all of them, the pending ones too, however many there are.
    """
    if sum((email is not None, job_id is not None, follow)) > 1:
        raise click.UsageError("give one of EMAIL, --job and --follow")
    if follow and (count or "pending" in statuses):
        raise click.UsageError(
            "--follow prints each job when it is settled: no --count, no pending"
        )
    wanted = Wanted(statuses=statuses, reasons=reasons, since=since)
    producer = default_producer()
    with producer.reading(account) as outcomes:
        if follow:
            _follow(outcomes, wanted, format_)
            return
        if job_id is not None:
            outcome = outcomes.get(job_id)
            found: Iterable[Outcome] = [outcome] if outcome else []
        elif email is not None:
            jobs = outcomes.of_email(normalized_email(email), limit=sys.maxsize)
            found = filter(wanted.fits, wanted.aged(jobs, outcomes))
        elif count:
            found = wanted.of_account_in_no_order(outcomes)
        else:
            found = wanted.of_account(outcomes, limit)
        if count:
            anything = _count(found, format_)
        else:
            shown = list(islice(found, limit))
            show_outcomes(shown, format_)
            anything = bool(shown)
        waiting = outcomes.waiting() if not anything else 0
    if not anything:
        hint = (
            f"; {counted(waiting, 'job')} not accepted yet, is a worker running?" if waiting else ""
        )
        click.echo(f"Nothing found{hint}", err=True)
        sys.exit(EXIT_NOT_DELIVERED)


def _count(found: Iterable[Outcome], format_: Format | None) -> bool:
    """Print how many there are of each outcome and reason. False when there are none."""
    counts = Counter((outcome.status, outcome.reason) for outcome in found)
    order = sorted(counts, key=lambda each: (STATUSES.index(each[0]), -counts[each], each[1]))
    if format_ in ("json", "jsonl"):
        rows: list[dict[str, object]] = [
            {"status": status, "reason": reason, "jobs": counts[status, reason]}
            for status, reason in order
        ]
        show(rows, (), format_)
    else:
        rows = [
            {"outcome": status, "reason": reason, "jobs": str(counts[status, reason])}
            for status, reason in order
        ]
        show(rows, COUNT_COLUMNS, format_)
    return bool(counts)


def _follow(outcomes: Outcomes, wanted: Wanted, format_: Format | None) -> None:
    # An array has no end here: one line each.
    each_line: Format = "jsonl" if format_ == "json" else format_ or "plain"
    header = True
    try:
        for outcome in filter(wanted.fits, outcomes.follow(statuses=wanted.statuses)):
            show_outcomes([outcome], each_line, header=header)
            header = False
    except KeyboardInterrupt:
        pass
