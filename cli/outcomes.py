"""`courier outcomes`."""

from __future__ import annotations

import sys
from datetime import timedelta

import click

from ..jobs.emails import normalized_email
from ..jobs.outcome import STATUSES, Status
from ..producers import default_producer
from ..state.outcomes import Outcomes
from .main import EXIT_NOT_DELIVERED
from .output import Age, Format, format_option, show_outcomes


@click.command(
    "outcomes",
    epilog="""\b
Examples:
  courier outcomes ada@example.com
  courier outcomes --job 019abcde-0000-7000-8000-000000000000 --format json
  courier outcomes --status refused --status failed --since 24h
  courier outcomes --follow --format jsonl
""",
)
@click.argument("email", required=False)
@click.option("--job", "job_id", metavar="ID", help="One job.")
@click.option(
    "--status", "statuses", type=click.Choice(STATUSES), multiple=True, help="Only these; repeat."
)
@click.option("--since", type=Age(), metavar="AGE", help="Only the last 15m, 2h, 7d, …")
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
    since: timedelta | None,
    follow: bool,
    limit: int,
    account: str | None,
    format_: Format | None,
) -> None:
    """Tell what became of an EMAIL's jobs, of one job, or of the latest that came to an end.

    An email's jobs are listed newest first, the pending ones among them.
    """
    if sum((email is not None, job_id is not None, follow)) > 1:
        raise click.UsageError("give one of EMAIL, --job and --follow")
    producer = default_producer()
    with producer.reading(account) as outcomes:
        if follow:
            _follow(outcomes, statuses, format_)
            return
        if job_id is not None:
            outcome = outcomes.get(job_id)
            found = [outcome] if outcome else []
        elif email is not None:
            found = outcomes.of_email(normalized_email(email))
            if since is not None:
                oldest = outcomes.now() - since
                found = [each for each in found if (each.accepted_at or oldest) >= oldest]
            found = [each for each in found if not statuses or each.status in statuses][:limit]
        else:
            found = outcomes.recent(statuses=statuses, since=since, limit=limit)
        waiting = outcomes.waiting() if not found else 0
    show_outcomes(found, format_)
    if not found:
        hint = f"; {waiting} jobs wait to be accepted, is a worker running?" if waiting else ""
        click.echo(f"Nothing found{hint}", err=True)
        sys.exit(EXIT_NOT_DELIVERED)


def _follow(outcomes: Outcomes, statuses: tuple[Status, ...], format_: Format | None) -> None:
    # An array has no end here: one line each.
    each_line: Format = "jsonl" if format_ == "json" else format_ or "plain"
    header = True
    try:
        for outcome in outcomes.follow(statuses=statuses):
            show_outcomes([outcome], each_line, header=header)
            header = False
    except KeyboardInterrupt:
        pass
