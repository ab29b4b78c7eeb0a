"""`courier ping`."""

from __future__ import annotations

import sys

import click

from ..config import load_settings
from ..config.connections import connect_briefly
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
    """Check Redis, the broker, ChartMogul, each account's API key, and the proxy and
    certificates in between.

    The quick check before a worker starts; `courier doctor` looks at everything. Costs each
    account one of its requests (GET /v1/ping).
    """
    from ..operate.findings import Finding
    from ..operate.reach import broker, chartmogul, network, redis_fitness, worst

    settings = load_settings()
    client = connect_briefly(settings)
    found, version = redis_fitness(client, settings)
    client.close()
    if not any(each.level == "error" for each in found):
        found.append(Finding(part="Redis", what="answer", level="ok", text=f"version {version}"))
    if settings.own_broker:
        found.append(broker(settings))
    found += [*network(), *(chartmogul(settings, name) for name in settings.accounts)]
    names = {
        "Redis": f"Redis {settings.redis_address}",
        "Broker": f"Broker {settings.broker_address}",
        "Network": "Proxy and certificates",
    }
    rows = [
        {
            "what": names.get(each.part, f"{each.part} {each.what}"),
            "ok": "NO" if each.level == "error" else "yes",
            "answer": "; ".join(filter(None, (each.text, each.hint))),
        }
        for each in found
    ]
    show(rows, ("what", "ok", "answer"), format_)
    sys.exit(worst(found))
