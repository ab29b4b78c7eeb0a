"""`courier import`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import click

from ...config import Settings, load_settings
from ...jobs.attributes import AttributeType, attribute_key, attribute_type, text
from ...jobs.errors import InvalidJob, NotEnqueued, NotReachable
from ...jobs.job import Lane
from ...jobs.outcome import SUCCESSES, Status
from ...producers import Batch, Producer, default_producer
from ..account import accounts_of, health_of, reaching_redis
from ..main import (
    EXIT_NOT_DELIVERED,
    EXIT_STILL_PENDING,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    Failure,
)
from ..output import Format, format_option
from ..progress import progress
from .columns import Choice, Layout
from .passes import Import, Tally
from .rejects import Rejects
from .report import Report
from .table import Row, Table, TableError
from .tracker import JobTracker

_GO_ON = "The same command again goes on with the rest; it enqueues no row twice."
_ASK_AGAIN = "The same command again waits on; it enqueues no row twice."


def _pairs(said: str, of: str) -> tuple[str, str]:
    name, equals, value = said.rpartition("=")
    if not equals:
        raise click.BadParameter(f"{said!r} is not {of}")
    return name, value


def _types(
    _ctx: click.Context, _param: click.Parameter, said: Sequence[str]
) -> dict[str, AttributeType]:
    found = {}
    for each in said:
        name, type_ = _pairs(each, "COLUMN=TYPE, such as age=Integer")
        try:
            found[name] = attribute_type(type_)
        except InvalidJob:
            raise click.BadParameter(f"{each!r}: a TYPE is {', '.join(AttributeType)}") from None
    return found


def _names(_ctx: click.Context, _param: click.Parameter, said: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in said:
        name, key = _pairs(each, "COLUMN=KEY, such as 'First name=first_name'")
        try:
            found[name] = attribute_key(key)
        except InvalidJob as invalid:
            raise click.BadParameter(f"{each!r}: {invalid.errors[0].message}") from None
    return found


def _delimiter(_ctx: click.Context, _param: click.Parameter, said: str | None) -> str | None:
    said = {"tab": "\t", "\\t": "\t"}.get(said or "", said)
    if said is not None and (len(said) != 1 or said.isalnum() or said in '"\r\n'):
        raise click.BadParameter("one character, or tab")
    return said


@click.command(
    "import",
    epilog="""\b
Examples:
  courier import customers.csv --dry-run
  courier import customers.csv --rejects rejects.csv --wait
  courier import users.jsonl.gz --only plan --only seats --type seats=Integer
  courier import export.csv --rename 'First name=first_name' --exclude Notes
  psql --csv --command 'select email, plan from users' | courier import -
""",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--dry-run", is_flag=True, help="Send nothing; tell what would be sent.")
@click.option("--wait", is_flag=True, help="Wait until every job has its outcome.")
@click.option(
    "--rejects",
    "rejects_path",
    metavar="FILE",
    help="Write rejected rows there, to be corrected and imported again.",
)
@click.option("--strict", is_flag=True, help="Enqueue nothing if a row is rejected.")
@click.option("--email-column", metavar="COLUMN", help="Where the emails are, if it is not found.")
@click.option(
    "--type",
    "types",
    multiple=True,
    callback=_types,
    metavar="COLUMN=TYPE",
    help="String, Integer, Decimal, Timestamp or Boolean; repeat for several.",
)
@click.option("--only", multiple=True, metavar="COLUMN", help="Only these attributes; repeat.")
@click.option("--exclude", multiple=True, metavar="COLUMN", help="Not these; repeat.")
@click.option(
    "--rename",
    multiple=True,
    callback=_names,
    metavar="COLUMN=KEY",
    help="The attribute's key, if it is not the column's name; repeat.",
)
@click.option("--source", help="Where the attributes were made; shown in ChartMogul.")
@click.option(
    "--occurred-at-column",
    metavar="COLUMN",
    help="When a row's values became true, in ISO 8601 (UTC if it names no zone). Without it: now.",
)
@click.option(
    "--only-changed", is_flag=True, help="Send no value that ChartMogul showed the last time."
)
@click.option(
    "--lane",
    type=click.Choice(["live", "bulk"]),
    default="bulk",
    show_default=True,
    help="Bulk waits behind live.",
)
@click.option(
    "--run-id",
    metavar="TEXT",
    help="Rows are known again by this and their numbers, not by the file's content.",
)
@click.option(
    "--delimiter", callback=_delimiter, metavar="CHAR", help="Between cells, if it is not found."
)
@click.option("--account", help="Name of the ChartMogul account, if there are several.")
@format_option
def command(
    files: tuple[str, ...],
    dry_run: bool,
    wait: bool,
    rejects_path: str | None,
    strict: bool,
    email_column: str | None,
    types: dict[str, AttributeType],
    only: tuple[str, ...],
    exclude: tuple[str, ...],
    rename: dict[str, str],
    source: str | None,
    occurred_at_column: str | None,
    only_changed: bool,
    lane: Lane,
    run_id: str | None,
    delimiter: str | None,
    account: str | None,
    format_: Format | None,
) -> None:
    """Ask for the attributes of each row of FILE to be added to the customers of its email.

    A FILE is CSV, TSV or JSON Lines, also gzipped; - is the standard input. Each column is an
    attribute, whose type stands in the header (age:Integer), is said with --type, or is found out
    from all its values. Empty cells are left alone.

    A row that makes no job is rejected, and the others are imported. Run again with the same file
    and options, it enqueues no row twice.

    Exit code: 0 all rows are enqueued, and ended well if waited for; 1 some are not; 4 stopped
    while waiting.
    """
    started = datetime.now(UTC)
    settings = load_settings()
    name = accounts_of(settings, account or settings.default_account)[0]
    if files.count("-") > 1:
        raise click.UsageError("the standard input can be read once")
    if strict and rejects_path is not None:
        raise click.UsageError("--strict imports all rows or none; --rejects is for some")
    if source is not None:
        try:
            text(source)
        except InvalidJob as invalid:
            raise click.UsageError(f"--source {invalid.errors[0].message}") from None
    choice = Choice(
        email=email_column,
        occurred_at=occurred_at_column,
        types=types,
        only=frozenset(only),
        exclude=frozenset(exclude),
        rename=rename,
    )
    with ExitStack() as opened:
        try:
            tables = [opened.enter_context(closing(Table(each, delimiter))) for each in files]
            work = Import(
                tables,
                choice,
                source=source,
                only_changed=only_changed,
                started=started,
                run_id=run_id,
            )
            rejects = None
            if rejects_path is not None:
                rejects = opened.enter_context(closing(Rejects(rejects_path, work.layouts)))
            if not dry_run:
                _types_used(settings, name, work)  # no long reading for a Redis that is away
            with progress("reading", sum(table.size for table in tables), "bytes") as told:
                work.survey(told)
            report = Report(work, format_)
            if dry_run:
                code = _plan(settings, name, work, report, rejects)
            elif strict and work.tally.rejected:
                report.columns(_types_used(settings, name, work))
                report.rejected(work.tally.reasons)
                click.echo("Nothing was enqueued, as --strict asks.", err=True)
                code = EXIT_USAGE
            else:
                report.columns(_types_used(settings, name, work))
                run = _Run(default_producer(), name, work, report, rejects)
                code = run.enqueue(lane, only_changed=only_changed, wait=wait)
        except TableError as error:
            raise Failure(str(error), EXIT_USAGE) from None
    report.finish()
    sys.exit(code)


def _types_used(settings: Settings, account: str, work: Import) -> dict[str, str]:
    """Of each key that was sent from here before, the type that was used first."""
    keys = list(work.keys)
    with reaching_redis(settings) as client:
        return health_of(client, settings, account).types(keys)


def _plan(
    settings: Settings, account: str, work: Import, report: Report, rejects: Rejects | None
) -> int:
    """What `--dry-run` tells."""
    try:
        report.columns(_types_used(settings, account, work))
    except NotReachable as error:
        report.columns(None)
        click.echo(f"{error}. The rest is told without it: which keys are new is not.", err=True)
    report.rejected(work.tally.reasons)
    report.plan(settings.rate_limit)
    if rejects is not None:
        for layout, row, reason in work.rejected():
            rejects.add(layout, row, reason)
    _tell_of(rejects, work.tally.rejected)
    click.echo("A dry run: nothing was enqueued.", err=True)
    return EXIT_NOT_DELIVERED if work.tally.rejected else 0


def _tell_of(rejects: Rejects | None, rejected: int) -> None:
    if not rejected:
        return
    if rejects is None:
        click.echo("With --rejects FILE, rejected rows are written there.", err=True)
        return
    rows = "1 rejected row is" if rejected == 1 else f"{rejected:,} rejected rows are"
    click.echo(f"{rows} in {rejects.path}: correct and import that file.", err=True)


class _Run:
    """The second pass, which enqueues, and what comes after it."""

    def __init__(
        self,
        producer: Producer,
        account: str,
        work: Import,
        report: Report,
        rejects: Rejects | None,
    ) -> None:
        self._producer = producer
        self._account = account
        self._work = work
        self._report = report
        self._rejects = rejects
        self._tally = Tally()
        self._following = JobTracker()
        self._enqueued = self._duplicates = 0

    def enqueue(self, lane: Lane, *, only_changed: bool, wait: bool) -> int:
        """Enqueue all rows, and wait for their outcomes if asked to. Answers the exit code."""
        try:
            with progress("enqueued", self._work.tally.valid, "rows") as told:

                def on_batch(batch: Batch) -> None:
                    self._work.answered(batch, self._reject)
                    self._enqueued += batch.enqueued
                    self._duplicates += batch.duplicates
                    if wait:
                        self._following.add(batch.job_ids)
                    told(self._enqueued + self._duplicates)

                self._producer.add_many(
                    self._work.items(self._reject),
                    lane=lane,
                    only_changed=only_changed,
                    account=self._account,
                    on_batch=on_batch,
                )
        except KeyboardInterrupt:
            raise Failure(f"{self._stopped()} {_GO_ON}", EXIT_NOT_DELIVERED) from None
        except TableError as error:
            raise Failure(f"{error}. {self._stopped()}", EXIT_NOT_DELIVERED) from None
        except NotEnqueued as error:
            raise Failure(f"{error}. {_GO_ON}", EXIT_UNREACHABLE) from None
        following, jobs, interrupted = self._following, len(self._following), False
        try:
            self._report.rejected(self._tally.reasons)
            self._report.enqueued(self._enqueued, self._duplicates, self._tally.rejected)
            _tell_of(self._rejects, self._tally.rejected)
            if wait:
                with progress("ended", jobs, "jobs") as told:
                    following.wait(self._ask, told)
        except KeyboardInterrupt:
            interrupted = True
        except NotReachable as error:
            raise Failure(f"{error}. The jobs go on. {_ASK_AGAIN}", EXIT_UNREACHABLE) from None
        pending = jobs - following.ended.total()
        if wait:
            self._report.ended(following.ended, pending)
        if interrupted:
            return self._interrupted(pending)
        well = following.ended.keys() <= SUCCESSES and not self._tally.rejected
        return 0 if well else EXIT_NOT_DELIVERED

    def _interrupted(self, pending: int) -> int:
        what = "1 job; it goes on" if pending == 1 else f"{pending:,} jobs; they go on"
        click.echo(f"Stopped waiting for {what}. {_ASK_AGAIN}", err=True)
        return EXIT_STILL_PENDING

    def _ask(self, job_ids: Sequence[str]) -> list[Status | None]:
        with self._producer.reading(self._account) as outcomes:
            return outcomes.statuses(job_ids)

    def _reject(self, layout: Layout, row: Row, reason: str) -> None:
        self._tally.reject(reason, layout.table.place(row.line))
        if self._rejects is not None:
            self._rejects.add(layout, row, reason)

    def _stopped(self) -> str:
        rows = self._enqueued + self._duplicates
        return (
            f"Stopped after {rows:,} rows, which are enqueued." if rows else "Nothing was enqueued."
        )
