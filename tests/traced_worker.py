"""A worker under OpenTelemetry: its SDK and its instrumentations for all that the worker uses.

`python -m tests.traced_worker FILE` writes each span to FILE, as a line of JSON.
"""

from __future__ import annotations

import sys
from pathlib import Path

from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def main() -> None:
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(
        out=Path(sys.argv[1]).open("a", buffering=1),  # noqa: SIM115  (for as long as it runs)
        formatter=lambda span: f"{span.to_json(indent=None)}\n",
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    for instrumentor in (
        CeleryInstrumentor(),
        RedisInstrumentor(),
        RequestsInstrumentor(),
        URLLib3Instrumentor(),
    ):
        instrumentor.instrument()

    from attribute_courier.cli import main as courier

    courier(["worker"])


if __name__ == "__main__":
    main()
