"""`courier add`."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from ..jobs.errors import InvalidJob
from ..jobs.job import Lane
from ..jobs.times import in_utc, instant
from ..producers import add_attributes
from .account import account_words
from .main import EXIT_NOT_DELIVERED, EXIT_STILL_PENDING
from .output import Format, format_option, show_outcomes


@click.command(
    "add",
    epilog="""\b
Examples:
  courier add ada@example.com channel=Facebook age:Integer=8
  courier add ada@example.com nps:Integer=9 --source survey --wait 30
  courier add ada@example.com plan=pro --occurred-at 2026-11-23T09:30:00Z
""",
)
@click.argument("email")
@click.argument("attributes", nargs=-1, required=True, metavar="KEY[:TYPE]=VALUE...")
@click.option(
    "--source",
    metavar="TEXT",
    help="Where the values come from; ChartMogul shows it. [default: ChartMogul's own, API]",
)
@click.option(
    "--occurred-at",
    metavar="TIME",
    help="When the values became true, in ISO 8601; UTC if it names no zone. The newest value of a "
    "key wins. [default: when Redis gets the job]",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Skip if a job with this key and the same content was already queued.",
)
@click.option(
    "--lane",
    type=click.Choice(["live", "bulk"]),
    default="live",
    show_default=True,
    help="Bulk jobs wait behind live ones.",
)
@click.option("--account", metavar="NAME", help="The ChartMogul account, if there are several.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait for the outcome and print it.",
)
@format_option
def command(
    email: str,
    attributes: tuple[str, ...],
    source: str | None,
    occurred_at: str | None,
    idempotency_key: str | None,
    lane: Lane,
    account: str | None,
    wait_s: float | None,
    format_: Format | None,
) -> None:
    """Queue attributes for every customer with this EMAIL.

    A value is a String unless a TYPE is given: String, Integer, Decimal, Timestamp or Boolean.
    Prints the job's id, or with --wait what became of the job. Upper and lower case in EMAIL make
    no difference to which job is the newest; ChartMogul gets it as you write it.
    """
    receipt = add_attributes(
        email,
        _attributes(attributes),
        source=source,
        occurred_at=_time(occurred_at),
        idempotency_key=idempotency_key,
        lane=lane,
        account=account,
    )
    if receipt.duplicate:
        click.echo("A job with this idempotency key was already queued: this is its id.", err=True)
    if wait_s is None:
        click.echo(receipt.job_id)
        return
    try:
        outcome = receipt.wait(wait_s)
    except TimeoutError:
        found = receipt.outcome()
        show_outcomes([found] if found else [], format_)
        click.echo(
            f"The job is still pending after {wait_s:g} s. Ask again with: "
            f"courier outcomes{account_words(account)} --job {receipt.job_id}",
            err=True,
        )
        sys.exit(EXIT_STILL_PENDING)
    show_outcomes([outcome], format_)
    sys.exit(0 if outcome.successful else EXIT_NOT_DELIVERED)


def _attributes(texts: tuple[str, ...]) -> list[dict[str, object]]:
    """In the form of ChartMogul's reference; whether they are right is judged with all else."""
    found: list[dict[str, object]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        key, _, type_ = name.partition(":")
        if not equals:
            raise click.UsageError(
                f"{text!r} is not KEY=VALUE or KEY:TYPE=VALUE, such as channel=Facebook or "
                "age:Integer=8"
            )
        found.append({"type": type_ or "String", "key": key, "value": value})
    return found


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return in_utc(instant(text))
    except InvalidJob as error:
        raise click.UsageError(f"--occurred-at {error.errors[0].message}") from None
