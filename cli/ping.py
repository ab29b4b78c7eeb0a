"""`courier ping`."""

from __future__ import annotations

import sys

import click
import redis

from ..config import Settings, load_settings
from ..config.connections import connect_briefly
from .main import EXIT_NOT_DELIVERED, EXIT_UNREACHABLE
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
    """Check the way to Redis and to ChartMogul, and each account's API key.

    Costs each account one of its requests (GET /v1/ping).
    """
    settings = load_settings()
    checks = [_redis(settings), *(_chartmogul(settings, name) for name in settings.accounts)]
    rows = [
        {"what": what, "ok": "yes" if ok else "NO", "answer": said} for what, ok, said in checks
    ]
    show(rows, ("what", "ok", "answer"), format_)
    if not checks[0][1]:
        sys.exit(EXIT_UNREACHABLE)
    sys.exit(0 if all(ok for _, ok, _ in checks) else EXIT_NOT_DELIVERED)


def _redis(settings: Settings) -> tuple[str, bool, str]:
    what = f"Redis {settings.redis_address}"
    try:
        info = connect_briefly(settings).info("server")
    except redis.RedisError as error:
        return what, False, f"does not answer ({type(error).__name__}); check COURIER_REDIS_URL"
    return what, True, f"version {info.get('valkey_version') or info.get('redis_version')}"


def _chartmogul(settings: Settings, account: str) -> tuple[str, bool, str]:
    from ..worker.chartmogul import Answer, ChartMogul
    from ..worker.verdicts import judge

    what = f"ChartMogul account {account}"
    chartmogul = ChartMogul(
        settings.api_url, settings.api_key(account), timeout_s=settings.timeout_s
    )
    answer = chartmogul.ping()
    if isinstance(answer, Answer) and answer.status == 200:
        return what, True, f"the API key is valid at {settings.api_url}"
    verdict = judge(answer)
    return what, False, f"{verdict.message} (HTTP {verdict.http_status or 'none'})"
