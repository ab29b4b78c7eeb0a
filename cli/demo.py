"""`courier demo`: the main job on real parts, in a directory that is gone afterwards."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ..config import load_settings
from ..config.connections import connect_briefly
from ..jobs.ids import new_job_id
from ..jobs.outcome import Outcome
from ..producers import Producer
from ..sandbox import DEFAULT_API_KEY, EmbeddedRedis, SandboxError, SandboxProcess
from ..state.inbox import Entry, Inbox
from ..state.keys import Keys
from .extras import needing
from .main import EXIT_NOT_DELIVERED
from .output import Format, format_option, show
from .stage import start_worker

TIMEOUT_S = 25
WORKER_STOP_S = 15

# The example of ChartMogul's reference, "Add Custom Attributes to Customers by Email".
_REFERENCE: list[dict[str, Any]] = [
    {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"},
    {"type": "Integer", "key": "age", "value": 8},
]


@dataclass(frozen=True)
class _Job:
    job_id: str
    email: str
    attributes: str
    expected: str


@click.command(
    "demo",
    epilog="""\b
Example:
  courier demo
""",
)
@format_option
def command(format_: Format | None) -> None:
    """Show the whole way of a job on real parts: an embedded Redis, a stand-in for ChartMogul and
    a worker, in a directory of their own. Nothing stays behind.
    """
    with needing("sandbox"):
        import tornado  # noqa: F401  # the stand-in runs on it
    try:
        with _stage() as (producer, stand_in):
            jobs = list(_enqueue(producer))
            click.echo(f"{len(jobs)} jobs are in the inbox; the worker takes them from here.")
            outcomes = _follow(producer, jobs)
            asked = stand_in.requests()
    except SandboxError as error:
        raise click.ClickException(str(error)) from None
    click.echo()
    show([_row(job, outcomes.get(job.job_id)) for job in jobs], _COLUMNS, format_)
    click.echo("\nThe reference's example, as ChartMogul received it:")
    _show_request(next(each for each in asked if each["email"] == "ada@example.com"))
    unexpected = [
        job
        for job in jobs
        if job.job_id not in outcomes or outcomes[job.job_id].status != job.expected
    ]
    if unexpected:
        click.echo("\nNot as expected: " + ", ".join(job.email for job in unexpected), err=True)
        sys.exit(EXIT_NOT_DELIVERED)


_COLUMNS = ("email", "attributes", "outcome", "attempts", "customers", "why")


@contextmanager
def _stage() -> Iterator[tuple[Producer, SandboxProcess]]:
    with ExitStack() as running:
        home = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="courier-demo-")))
        with _progress("Starting an embedded Redis, a stand-in for ChartMogul and a worker"):
            server = running.enter_context(EmbeddedRedis(home / "redis"))
            stand_in = running.enter_context(SandboxProcess())
            environ = _environment(server, stand_in)
            log = home / "worker.log"
            worker = start_worker(environ, log)
            running.callback(worker.stop, WORKER_STOP_S)
            producer = Producer(_settings(environ))
        try:
            yield producer, stand_in
        except TimeoutError:
            click.echo("\nThe end of the worker's log:\n" + log.read_text()[-3000:], err=True)
            raise click.ClickException(f"not all jobs settled within {TIMEOUT_S} s") from None


def _environment(server: EmbeddedRedis, stand_in: SandboxProcess) -> dict[str, str]:
    # Whatever this terminal is set up for, the demo meets none of it.
    cleared = [name for name in os.environ if name.startswith(("COURIER_", "CHARTMOGUL_"))]
    return dict.fromkeys(cleared, "") | {
        "COURIER_REDIS_URL": server.url,
        "CHARTMOGUL_API_URL": stand_in.url,
        "CHARTMOGUL_API_KEY": DEFAULT_API_KEY,
        # An unknown email is tried again for a day; the demo waits for two seconds.
        "COURIER_UNMATCHED_DELAYS": "1s,1s",
    }


def _settings(environ: dict[str, str]) -> Any:
    os.environ.update(environ)
    return replace(load_settings(), enqueue_timeout_s=5)


def _enqueue(producer: Producer) -> Iterator[_Job]:
    now = datetime.now(UTC)

    receipt = producer.add_attributes("ada@example.com", _REFERENCE)
    yield _Job(receipt.job_id, "ada@example.com", "channel=Facebook, age=8", "delivered")

    receipt = producer.add_attributes("two@example.com", {"plan_intent": "pro", "nps": 9})
    yield _Job(receipt.job_id, "two@example.com", "plan_intent=pro, nps=9", "delivered")

    yesterday = now - timedelta(days=1)
    receipt = producer.add_attributes("two@example.com", {"nps": 3}, occurred_at=yesterday)
    yield _Job(receipt.job_id, "two@example.com", "nps=3, of yesterday", "superseded")

    receipt = producer.add_attributes("nobody@example.com", {"channel": "Ads"})
    yield _Job(receipt.job_id, "nobody@example.com", "channel=Ads", "unmatched")

    # `add_attributes` refuses this one; another language's producer may not.
    job_id = new_job_id()
    document = {
        "v": 1,
        "email": "grace@example.com",
        "attributes": [{"type": "Integer", "key": "age", "value": "eight"}],
        "occurred_at": now.isoformat(),
    }
    with connect_briefly(producer.settings) as client:
        inbox = Inbox(client, Keys(producer.settings.default_account), retention_s=3600)
        inbox.put("live", [Entry(job_id=job_id, wire=json.dumps(document))])
    yield _Job(job_id, "grace@example.com", "age=eight, as Integer", "invalid")


def _follow(producer: Producer, jobs: list[_Job]) -> dict[str, Outcome]:
    settled: dict[str, Outcome] = {}
    deadline = time.monotonic() + TIMEOUT_S
    with _progress("Waiting for the outcomes") as say:
        while len(settled) < len(jobs):
            if time.monotonic() > deadline:
                raise TimeoutError
            for job in jobs:
                outcome = producer.outcome(job.job_id)
                if job.job_id not in settled and outcome is not None and outcome.settled:
                    settled[job.job_id] = outcome
                    say(f"{len(settled)} of {len(jobs)}: {job.email} · {outcome.summary()}")
            time.sleep(0.05)
    return settled


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """Say what goes on while it does: as an animation on a terminal, in lines elsewhere."""
    console = Console()
    if console.is_terminal:
        with console.status(f"{what} …"):
            yield lambda line: console.print(f"  {line}", markup=False, highlight=False)
    else:
        click.echo(f"{what} …")
        yield lambda line: click.echo(f"  {line}")


def _row(job: _Job, outcome: Outcome | None) -> dict[str, str]:
    customers = outcome.customers if outcome else ()
    return {
        "email": job.email,
        "attributes": job.attributes,
        "outcome": outcome.status if outcome else "?",
        "attempts": str(outcome.attempts) if outcome else "",
        "customers": ", ".join(each.external_id or each.uuid or "?" for each in customers),
        "why": (outcome.message or "") if outcome else "",
    }


def _show_request(request: dict[str, Any]) -> None:
    click.echo(f"{request['method']} {request['path']}  → HTTP {request['status']}")
    body = {"email": request["email"], "custom": request["custom"]}
    click.echo(json.dumps(body, indent=2))
