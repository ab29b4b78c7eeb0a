"""`courier import`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ...config import Settings, load_settings
from ...jobs.errors import NotEnqueued, NotReachable
from ...jobs.outcome import SUCCESSES, Status
from ...operate.picture import health_of
from ...producers import Batch, Producer, default_producer
from ...state.clock import redis_time
from ...state.keys import Keys
from ..account import accounts_of, check_enabled, reaching_redis
from ..main import (
    EXIT_NOT_DELIVERED,
    EXIT_STILL_PENDING,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    Failure,
)
from ..output import format_option
from ..progress import progress
from .columns import Layout
from .options import (
    Options,
    parse_date_formats,
    parse_decimal_marks,
    parse_delimiter,
    parse_encoding,
    parse_keys,
    parse_types,
    parse_words,
)
from .passes import Import, Tally
from .rejects import Rejects
from .report import Report
from .table import Row, Table, TableError
from .tracker import JobTracker

_GO_ON = "The same command again goes on with the rest; it enqueues no row twice."
_ASK_AGAIN = "The same command again waits on; it enqueues no row twice."


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
    callback=parse_types,
    metavar="COLUMN=TYPE",
    help="String, Integer, Decimal, Timestamp or Boolean; repeat for several.",
)
@click.option("--only", multiple=True, metavar="COLUMN", help="Import only this column; repeat.")
@click.option("--exclude", multiple=True, metavar="COLUMN", help="Leave this column out; repeat.")
@click.option(
    "--rename",
    multiple=True,
    callback=parse_keys,
    metavar="COLUMN=KEY",
    help="The attribute's key, if it is not the column's name; repeat.",
)
@click.option(
    "--make-keys",
    is_flag=True,
    help="Make keys of all names that are none: First name becomes first_name.",
)
@click.option(
    "--null",
    "no_value",
    multiple=True,
    metavar="WORD",
    help="A cell with this word has no value, such as NULL; repeat.",
)
@click.option(
    "--true",
    "true_words",
    multiple=True,
    callback=parse_words,
    metavar="WORD",
    help="A word for true, such as yes; repeat.",
)
@click.option(
    "--false",
    "false_words",
    multiple=True,
    callback=parse_words,
    metavar="WORD",
    help="A word for false, such as no; repeat.",
)
@click.option(
    "--date-format",
    "date_formats",
    multiple=True,
    callback=parse_date_formats,
    metavar="COLUMN=FORMAT",
    help="The column has times so: since=%d/%m/%Y (UTC if it names no zone); repeat.",
)
@click.option(
    "--decimal-mark",
    "decimal_marks",
    multiple=True,
    callback=parse_decimal_marks,
    metavar="COLUMN=MARK",
    help="The column has amounts with this mark before the decimals, perhaps with a currency, "
    "which is dropped: price=, reads € 1.234,50; repeat.",
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
    help="Rows are known again by this and their lines, not by the file's content.",
)
@click.option(
    "--delimiter",
    callback=parse_delimiter,
    metavar="CHAR",
    help="Between cells, if it is not found.",
)
@click.option(
    "--encoding",
    callback=parse_encoding,
    metavar="NAME",
    help="Of the text, if it is not UTF-8: cp1252, utf-16, …",
)
@click.option("--sheet", metavar="NAME", help="The worksheet of a workbook that has several.")
@click.option("--account", help="Name of the ChartMogul account, if there are several.")
@format_option
def command(**said: Any) -> None:
    """Queue the attributes of each row of FILE for the customers of the row's email.

    A FILE is CSV, TSV or JSON Lines, also gzipped, or an Excel workbook (.xlsx); - is the standard
    input. Each column is an attribute. Its type stands in the header (age:Integer), is said with
    --type, or is found in all its values. Empty cells are left alone.

    COLUMN is the column's name in the file; column:3 is the third column, whatever its name; in
    JSON Lines, customer.email is a field of an object inside the row.

    A row that makes no job is rejected, and the others are imported. Run again with the same file
    and options, the command enqueues no row twice.

    Exit code: 0 all rows are enqueued, and delivered if waited for; 1 some are not; 2 nothing was
    enqueued: a wrong option or file; 4 stopped while waiting.
    """
    options = Options(**said)
    options.check()
    settings = load_settings()
    if not options.dry_run:
        check_enabled(settings)
    account = accounts_of(settings, options.account or settings.default_account)[0]
    started = datetime.now(UTC)
    with ExitStack() as opened:
        try:
            tables = [
                opened.enter_context(closing(_table(each, options))) for each in options.files
            ]
            work = Import(
                tables,
                options.choice,
                source=options.source,
                only_changed=options.only_changed,
                started=started,
                run_id=options.run_id,
            )
            rejects = None
            if options.rejects_path is not None:
                rejects = opened.enter_context(closing(Rejects(options.rejects_path, work.layouts)))
            if not options.dry_run:  # before a long reading: Redis may be away
                with reaching_redis(settings) as client:
                    # A job that arrives meanwhile is newer by Redis's clock; one that is ahead of
                    # this machine's would make the rows lie in the future.
                    work.started = min(started, redis_time(client, Keys(account)))
            with progress("reading", sum(table.size for table in tables), "bytes") as advance:
                work.survey(advance)
            report = Report(work, options.format_, samples=options.dry_run)
            if options.dry_run:
                code = _plan(settings, account, work, report, rejects)
            elif options.strict and work.tally.rejected:
                report.columns(_types_used(settings, account, work))
                report.rejected(work.tally.reasons)
                click.echo("Nothing was enqueued, as --strict asks.", err=True)
                code = EXIT_USAGE
            else:
                report.columns(_types_used(settings, account, work))
                run = _Run(default_producer(), account, work, report, rejects)
                code = run.enqueue(options)
        except TableError as error:
            raise Failure(str(error), EXIT_USAGE) from None
    report.finish()
    sys.exit(code)


def _table(file: str, options: Options) -> Table:
    return Table(file, options.delimiter, encoding=options.encoding, sheet=options.sheet)


def _types_used(settings: Settings, account: str, work: Import) -> dict[str, str]:
    with reaching_redis(settings) as client:
        return health_of(client, settings, account).types(list(work.keys))


def _plan(
    settings: Settings, account: str, work: Import, report: Report, rejects: Rejects | None
) -> int:
    """What `--dry-run` prints."""
    try:
        report.columns(_types_used(settings, account, work))
    except NotReachable as error:
        report.columns(None)
        click.echo(f"{error}. Without Redis it is not known which keys are new.", err=True)
    report.rejected(work.tally.reasons)
    report.plan(settings.rate_limit)
    if rejects is not None:
        for layout, row, reason in work.rejected():
            rejects.add(layout, row, reason)
    _tell_of(rejects, work)
    click.echo("A dry run: nothing was enqueued.", err=True)
    return EXIT_NOT_DELIVERED if work.tally.rejected else 0


def _tell_of(rejects: Rejects | None, work: Import, rejected: int | None = None) -> None:
    """Say where the rejected rows are, or how to get them."""
    rejected = work.tally.rejected if rejected is None else rejected
    if not rejected:
        return
    if rejects is None:
        name = _free_name("rejects", "csv" if work.layouts[0].table.names else "jsonl")
        click.echo(f"With --rejects {name}, rejected rows are written there.", err=True)
        return
    rows = "1 rejected row is" if rejected == 1 else f"{rejected:,} rejected rows are"
    click.echo(f"{rows} in {rejects.path}: correct and import that file.", err=True)


def _free_name(stem: str, suffix: str) -> str:
    """The name of a file that does not exist, for a suggestion that can be pasted."""
    name, number = f"{stem}.{suffix}", 1
    while Path(name).exists():
        number += 1
        name = f"{stem}-{number}.{suffix}"
    return shlex.quote(name)


class _Run:
    """The second pass, which enqueues the rows, and what comes after it."""

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
        self._tracker = JobTracker()
        self._enqueued = self._duplicates = 0

    def enqueue(self, options: Options) -> int:
        """Enqueue all rows, and wait for their outcomes if asked to. Returns the exit code."""
        try:
            with progress("enqueued", self._work.tally.valid, "rows") as advance:

                def on_batch(batch: Batch) -> None:
                    self._work.answered(batch, self._reject)
                    self._enqueued += batch.enqueued
                    self._duplicates += batch.duplicates
                    if options.wait:
                        self._tracker.add(batch.job_ids)
                    advance(self._enqueued + self._duplicates)

                self._producer.add_many(
                    self._work.items(self._reject),
                    lane=options.lane,
                    only_changed=options.only_changed,
                    account=self._account,
                    on_batch=on_batch,
                )
        except KeyboardInterrupt:
            raise Failure(f"{self._stopped()} {_GO_ON}", EXIT_NOT_DELIVERED) from None
        except TableError as error:
            raise Failure(f"{error}. {self._stopped()}", EXIT_NOT_DELIVERED) from None
        except NotEnqueued as error:
            raise Failure(f"{error}. {_GO_ON}", EXIT_UNREACHABLE) from None
        tracker, jobs, interrupted = self._tracker, len(self._tracker), False
        try:
            self._report.rejected(self._tally.reasons)
            self._report.enqueued(self._enqueued, self._duplicates, self._tally.rejected)
            _tell_of(self._rejects, self._work, self._tally.rejected)
            if options.wait:
                with progress("settled", jobs, "jobs") as advance:
                    tracker.wait(self._ask, advance)
        except KeyboardInterrupt:
            interrupted = True
        except NotReachable as error:
            raise Failure(f"{error}. The jobs go on. {_ASK_AGAIN}", EXIT_UNREACHABLE) from None
        pending = jobs - tracker.settled.total()
        if options.wait:
            self._report.settled(tracker.settled, pending)
        if interrupted:
            return self._interrupted(pending)
        successful = tracker.settled.keys() <= SUCCESSES and not self._tally.rejected
        return 0 if successful else EXIT_NOT_DELIVERED

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
