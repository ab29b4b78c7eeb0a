"""`courier forget`."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..jobs import rules
from ..jobs.errors import InvalidJob
from ..producers import default_producer
from .main import EXIT_USAGE, Failure
from .output import Format, format_option, show

COLUMNS = ("account", "jobs canceled", "outcomes emptied", "delivered values", "under way")

NOT_REACHED = """\
Not reached from here:
  - ChartMogul, which keeps what was delivered, and a request that is under way
  - Redis's own files, until it rewrites them (BGREWRITEAOF, BGSAVE), its slow log, and your backups
  - what was handed on: to a receiver of hooks, to Flower, to the printout of courier outcomes
  - files of yours, such as imported tables, rejected rows and your shell's history
  - logs, which hold job ids and a masked or hashed email, and no value
  - another email's attributes, should a value there be this email"""


@click.command(
    "forget",
    epilog="""\b
Examples:
  courier forget ada@example.com
  courier forget ada@example.com --account us --yes
""",
)
@click.argument("email")
@click.option("--account", metavar="NAME", help="Only this account. [default: all of them]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@format_option
def command(email: str, account: str | None, yes: bool, format_: Format | None) -> None:
    """Remove all that Redis holds of an EMAIL, in whatever spelling: values, outcomes, history.

    Its jobs that wait are canceled. Of settled ones their status and times are left, without the
    email. For a day, a hash of the email keeps jobs away that say they occurred before. Keep your
    application from adding new ones meanwhile.
    """
    try:
        found_email = rules.email(email)
    except InvalidJob as invalid:
        raise Failure(f"EMAIL: {invalid.errors[0].message}", EXIT_USAGE) from None
    if not yes:
        click.confirm(f"Remove all that is kept of {found_email}?", abort=True, err=True)
    found = default_producer().forget(found_email, account=account)
    if format_ in ("json", "jsonl"):
        show([asdict(each) for each in found], (), format_)
    else:
        rows = [
            {
                "account": each.account,
                "jobs canceled": str(each.canceled),
                "outcomes emptied": str(each.outcomes),
                "delivered values": str(each.values),
                "under way": "1 request" if each.under_way else "no",
            }
            for each in found
        ]
        show(rows, COLUMNS, format_)
    if not any(each.anything for each in found):
        click.echo("Nothing was kept of this email.", err=True)
    click.echo(NOT_REACHED, err=True)
