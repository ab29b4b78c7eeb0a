"""`courier replay`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import click

from ..config import load_settings
from ..jobs.emails import normalized_email
from ..jobs.outcome import REPLAYABLE, Outcome, Status
from ..operate.picture import health_of
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from .account import accounts_of, check_enabled, reaching_redis
from .main import EXIT_NOT_DELIVERED
from .output import Age, Format, format_option, show_outcomes


@click.command(
    "replay",
    epilog="""\b
Examples:
  courier replay --status failed --since 2d --dry-run
  courier replay --status unmatched --email ada@example.com
  courier replay --job 019abcde-0000-7000-8000-000000000000
""",
)
@click.option(
    "--status",
    "statuses",
    type=click.Choice(REPLAYABLE),
    multiple=True,
    help="Jobs that ended so; repeat for several.",
)
@click.option("--email", help="Only this email's jobs.")
@click.option("--job", "job_ids", metavar="ID", multiple=True, help="This job; repeat for several.")
@click.option("--since", type=Age(), metavar="AGE", help="Only those that ended in the last 2d, …")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--dry-run", is_flag=True, help="Tell which, and do nothing.")
@click.option("--account", help="Name of the ChartMogul account, if there are several.")
@format_option
def command(
    statuses: tuple[Status, ...],
    email: str | None,
    job_ids: tuple[str, ...],
    since: timedelta | None,
    limit: int,
    dry_run: bool,
    account: str | None,
    format_: Format | None,
) -> None:
    """Send jobs again that ended failed, unmatched, unconfirmed or refused.

    A replayed job keeps its id and when it occurred, so it overwrites no newer value. Its outcome
    starts anew.
    """
    if not (statuses or email or job_ids):
        raise click.UsageError("say which: --status, --email or --job")
    settings = load_settings()
    if not dry_run:
        check_enabled(settings)
    name = accounts_of(settings, account or settings.default_account)[0]
    with reaching_redis(settings) as client:
        outcomes = Outcomes(client, Keys(name))
        if job_ids:
            if email is not None:
                raise click.UsageError("give --job or --email, not both")
            found: Iterable[Outcome | None] = map(outcomes.get, job_ids)
        elif email is not None:
            found = outcomes.of_email(normalized_email(email))
        else:
            found = outcomes.recent(statuses=statuses, since=since, limit=limit)
        oldest = outcomes.now() - since if since is not None else None
        chosen = list(_chosen(found, statuses or REPLAYABLE, oldest))[:limit]
        if not dry_run:
            health = health_of(client, settings, name)
            chosen = [outcome for outcome in chosen if health.replay(outcome.job_id)]
    show_outcomes(chosen, format_)
    done = "would be replayed" if dry_run else "replayed"
    click.echo(f"{len(chosen)} {'job' if len(chosen) == 1 else 'jobs'} {done}", err=True)
    if not chosen:
        raise SystemExit(EXIT_NOT_DELIVERED)


def _chosen(
    found: Iterable[Outcome | None], statuses: tuple[Status, ...], oldest: datetime | None
) -> Iterator[Outcome]:
    seen = set()
    for outcome in found:
        if outcome is None or outcome.status not in statuses or outcome.job_id in seen:
            continue
        if oldest is None or (outcome.settled_at and outcome.settled_at >= oldest):
            seen.add(outcome.job_id)
            yield outcome
