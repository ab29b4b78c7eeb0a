"""`make chaos`: tries to break the promises, and tells which were."""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from ..rabbitmq import is_here
from .checker import Checker, Finding
from .run import Result, run

SHOWN = 5
"""Broken promises are shown with so many examples."""


def report(result: Result, findings: list[Finding]) -> str:
    """What was asked for and what went wrong, and what became of the promises."""
    asks, outcomes = result.evidence.asks, result.evidence.outcomes
    unknown = sum(ask.answer == "unknown" for ask in asks)
    statuses = Counter(each.status for each in outcomes.values()).most_common()
    lines = [
        f"{len(asks)} jobs asked for; of {unknown} the producer does not know if they arrived",
        f"{len(outcomes)} outcomes: " + ", ".join(f"{count} {name}" for name, count in statuses),
        f"{result.settled_s:.1f} s from the last fault to the last outcome, or to giving up",
        "\nfaults",
        *(f"  {count:5}  {name}" for name, count in sorted(result.faults.items())),
        "\npromises",
    ]
    for each in findings:
        verdict = f"BROKEN, {len(each.broken)} times" if each.broken else "kept"
        lines.append(f"  {each.promise:32} {verdict:18} {each.checked}")
        lines += [f"      {example}" for example in each.broken[:SHOWN]]
    return "\n".join(lines)


@click.command(
    epilog="""\b
Examples:
  make chaos
  make chaos ARGS="--seconds 600 --seed 7"
  make chaos ARGS=--plain
  make chaos ARGS="--broker rabbitmq"
"""
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=5),
    default=60.0,
    show_default=True,
    help="How long producers write and things go wrong.",
)
@click.option("--seed", type=int, help="Of all that is drawn; without it a new one, which is told.")
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(min=0),
    default=180.0,
    show_default=True,
    help="Seconds after which a job that has no outcome counts as lost.",
)
@click.option("--plain", is_flag=True, help="A plain Celery task instead: the promises break.")
@click.option(
    "--broker",
    type=click.Choice(["redis", "rabbitmq"]),
    default="redis",
    show_default=True,
    help="What carries messages. RabbitMQ, which must be installed, is killed and started, too.",
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave all logs in this folder.",
)
def main(
    seconds: float, seed: int | None, settle_s: float, plain: bool, broker: str, keep: Path | None
) -> None:
    """Kill workers and Redis, let the stand-in for ChartMogul fail in all its ways, and check that
    no promise was broken. All of it runs on this machine. Ends with 1 if a promise was broken.

    The seed decides what is drawn: jobs, faults and their times. How processes interleave it cannot
    decide, so a run that failed may have to be repeated to fail again.
    """
    if broker == "rabbitmq" and (plain or not is_here()):
        raise click.UsageError("--broker rabbitmq is for the courier, and needs rabbitmq-server")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is cleared away
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    began_s = time.monotonic()
    what = "a plain Celery task" if plain else "the courier"
    click.echo(f"seed {seed}: {seconds:g} s of faults for {what} …")
    with tempfile.TemporaryDirectory(prefix="courier-chaos-") as folder:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            folder = tempfile.mkdtemp(prefix=f"seed-{seed}-", dir=keep)
        way_name = "plain" if plain else "courier"
        result = run(
            Path(folder),
            seed=seed,
            seconds=seconds,
            settle_s=settle_s,
            way_name=way_name,
            by_rabbitmq=broker == "rabbitmq",
        )
    findings = Checker(result.evidence).findings()
    click.echo(report(result, findings))
    click.echo(f"\nseed {seed}, {time.monotonic() - began_s:.0f} s in all")
    sys.exit(any(each.broken for each in findings) and not plain)


if __name__ == "__main__":
    main()
