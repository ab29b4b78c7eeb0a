"""`courier cancel`."""

from __future__ import annotations

import sys

import click

from ..jobs.removal import Cancellation
from ..producers import default_producer
from .account import account_words
from .main import EXIT_NOT_DELIVERED
from .output import Format, format_option, show

COLUMNS = ("job", "result")


@click.command(
    "cancel",
    epilog="""\b
Examples:
  courier cancel 019abcde-0000-7000-8000-000000000000
  courier cancel --account us 019abcde-0000-7000-8000-000000000000
""",
)
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@click.option("--account", metavar="NAME", help="The ChartMogul account, if there are several.")
@format_option
def command(job_ids: tuple[str, ...], account: str | None, format_: Format | None) -> None:
    """Take back jobs that were not sent yet, by their ids. Their outcome is then `canceled`.

    Other jobs of the same email are untouched, and what a job replaced does not come back. A job
    that was sent, or is being sent, goes on. Exits with 1 where a job is not canceled.
    """
    producer = default_producer()
    found = [producer.cancel(job_id, account=account) for job_id in job_ids]
    if format_ in ("json", "jsonl"):
        show([_document(each) for each in found], (), format_)
    else:
        rows = [{"job": each.job_id, "result": each.summary()} for each in found]
        show(rows, COLUMNS, format_)
    accounts = producer.settings.accounts
    if account is None and len(accounts) > 1 and any(each.result == "unknown" for each in found):
        click.echo(
            f"This was the account {accounts[0]}; for another one, give --account: "
            f"{', '.join(accounts[1:])}",
            err=True,
        )
    if not all(each.canceled for each in found):
        late = next((each for each in found if each.result in ("sending", "attempted")), None)
        if late is not None:
            click.echo(
                "What becomes of it, tells: "
                f"courier outcomes{account_words(account)} --job {late.job_id}",
                err=True,
            )
        sys.exit(EXIT_NOT_DELIVERED)


def _document(found: Cancellation) -> dict[str, object]:
    outcome = found.outcome.to_dict() if found.outcome is not None else None
    return {"job_id": found.job_id, "result": found.result, "outcome": outcome}
