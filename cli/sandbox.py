"""`courier sandbox`."""

from __future__ import annotations

import click

from ..sandbox import DEFAULT_API_KEY, SandboxConfig, SandboxConfigError
from .extras import needing


@click.command(
    "sandbox",
    epilog=f"""\b
Examples:
  courier sandbox --port 8181
  courier sandbox --latency 0.25 --auto-customers '*@load.example'

\b
Then, for the worker:
  CHARTMOGUL_API_URL=http://127.0.0.1:8181/v1 CHARTMOGUL_API_KEY={DEFAULT_API_KEY} courier worker
""",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8181,
    show_default=True,
    help="Port to listen on; 0 chooses a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all that is random.")
@click.option(
    "--latency",
    "latency_s",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Median time of a request, in seconds.",
)
@click.option(
    "--rate-limit",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Requests in any second; more are answered 429.",
)
@click.option(
    "--max-parallel",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Requests at once; more are answered 503.",
)
@click.option(
    "--auto-customers", metavar="PATTERN", help="Emails that have a customer at first use."
)
def command(
    port: int,
    host: str,
    seed: int,
    latency_s: float,
    rate_limit: int,
    max_parallel: int,
    auto_customers: str | None,
) -> None:
    """Run a stand-in for ChartMogul, with its strict limits, until Ctrl-C.

    It has a ping, attributes by email and by customer, and the search for customers. It knows
    ada@example.com, two@example.com (two customers) and quiet@example.com (a customer that is
    never changed). Where the reference is silent, the real ChartMogul may answer differently.
    """
    with needing("sandbox"):
        from ..sandbox import serve
    try:
        config = SandboxConfig(
            seed=seed,
            latency_s=latency_s,
            rate_limit=rate_limit,
            max_parallel=max_parallel,
            auto_customers=auto_customers,
        )
        serve(
            config,
            port,
            host,
            ready=lambda url: click.echo(f"ChartMogul stand-in at {url}, key {DEFAULT_API_KEY}"),
        )
    except SandboxConfigError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None
