"""`courier ping`."""

from __future__ import annotations

import sys

import click

from ..config import Settings, load_settings
from ..config.connections import connect_briefly
from ..config.network import network_faults
from ..config.redis_errors import RedisError, describe_redis_error
from ..state import health
from .main import EXIT_NOT_DELIVERED, EXIT_UNREACHABLE, EXIT_USAGE
from .output import Format, format_option, show


@click.command(
    "ping",
    epilog="""\b
Example:
  CHARTMOGUL_API_KEY=… courier ping
""",
)
@format_option
def command(format_: Format | None) -> None:
    """Check Redis, ChartMogul, each account's API key, and the proxy and certificates in between.

    Costs each account one of its requests (GET /v1/ping).
    """
    settings = load_settings()
    checks = [
        *_redis(settings),
        *(("Proxy and certificates", EXIT_USAGE, fault) for fault in network_faults()),
        *(_chartmogul(settings, name) for name in settings.accounts),
    ]
    rows = [
        {"what": what, "ok": "NO" if code else "yes", "answer": said} for what, code, said in checks
    ]
    show(rows, ("what", "ok", "answer"), format_)
    sys.exit(max(code for _, code, _ in checks))


def _redis(settings: Settings) -> list[tuple[str, int, str]]:
    """What was asked, the exit code that follows, and what the answer was."""
    what = f"Redis {settings.redis_address}"
    client = connect_briefly(settings)
    try:
        found = health.faults(client, settings.accounts)
        version = health.version(client)
    except RedisError as error:
        said = describe_redis_error(settings, error).removeprefix(
            f"Redis at {settings.redis_address} "
        )
        return [(what, EXIT_UNREACHABLE, said)]
    finally:
        client.close()
    return [(what, EXIT_UNREACHABLE, fault) for fault in found] or [(what, 0, f"version {version}")]


def _chartmogul(settings: Settings, account: str) -> tuple[str, int, str]:
    from ..worker.chartmogul import Answer, ChartMogul
    from ..worker.masking import masked
    from ..worker.verdicts import Kind, is_pong, judge

    what = f"ChartMogul account {account}"
    api_key = settings.api_key(account)
    answer = ChartMogul(settings.api_url, api_key, timeout_s=settings.timeout_s).ping()
    if is_pong(answer):
        return what, 0, f"the API key is valid at {settings.api_url}"
    verdict = judge(answer)
    said = masked(verdict.message or "", email="", values=(), api_key=api_key)
    if not isinstance(answer, Answer):
        return what, EXIT_UNREACHABLE, said
    if verdict.strange or verdict.kind in (Kind.ROUTE, Kind.UNMATCHED):
        said += "; is CHARTMOGUL_API_URL right? It ends in /v1"
    return what, EXIT_NOT_DELIVERED, f"{said} (HTTP {answer.status})"
