"""Traces of a real worker, with OpenTelemetry's own SDK and instrumentations in its process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from attribute_courier.config import load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import DEFAULT_API_KEY, LeashedProcess

from ..conftest import Courier
from ..waiting import wait_until

REQUEST = "POST /customers/attributes/custom"
VALUE = "Facebook-ads-7"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def spans(courier: Courier, tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Start a traced worker. Returns what it has exported."""
    path, log_path = tmp_path / "spans.jsonl", courier.logs / "worker-0.log"
    with log_path.open("ab") as log:
        worker = LeashedProcess(
            [sys.executable, "-m", "tests.traced_worker", str(path)],
            env={**os.environ, **courier.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    courier.workers.append(worker)
    wait_until(lambda: " ready." in courier.log() or not worker.running, what="a worker")
    assert worker.running, courier.log()

    def found() -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in path.read_text().splitlines(keepends=True) if "\n" in line
        ]

    return found


def trace_of(span: dict[str, Any]) -> str:
    found: str = span["context"]["trace_id"]
    return found


def test_no_span_of_a_trace_belongs_to_anothers_job(
    courier: Courier,
    spans: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    producer = Producer(load_settings())
    tracer = trace.get_tracer("application")

    def asked(email: str, **values: str) -> tuple[str, str]:
        """A job's id, and the trace in which it was asked for."""
        with tracer.start_as_current_span("sign-up") as span:
            receipt = producer.add_attributes(email, values)
            return receipt.job_id, f"0x{span.get_span_context().trace_id:032x}"

    # One job alone; then, for an email whose request is under way, two that wait and are merged.
    courier.stand_in.configure(latency_s=1)
    alone = asked("alone@load.example", channel=VALUE)
    first = asked("busy@load.example", a=VALUE)
    wait_until(lambda: courier.posts("busy@load.example"), what="its request is under way")
    merged = [asked("busy@load.example", b=VALUE), asked("busy@load.example", c=VALUE)]
    wait_until(
        lambda: [span["name"] for span in spans()].count(REQUEST) == 3, what="three requests"
    )
    producer.close()

    # Each job that went alone has its request in its trace, and nothing else of the worker's.
    found = spans()
    for job_id, trace_id in (alone, first):
        [request] = [span for span in found if trace_of(span) == trace_id]
        assert request["name"] == REQUEST
        assert request["attributes"]["messaging.message.id"] == job_id
    # The two that went together have nothing in theirs: their request has its own, and links.
    assert not [span for span in found if trace_of(span) in {each for _, each in merged}]
    [together] = [span for span in found if span["name"] == REQUEST and span["links"]]
    assert together["parent_id"] is None
    assert {link["context"]["trace_id"] for link in together["links"]} == {
        trace_id for _, trace_id in merged
    }
    assert [span for span in found if trace_of(span) == trace_of(together)] == [together]

    # Celery's instrumentation is at work; each stint is a trace of its own, without a request.
    wait_until(lambda: any(span["name"].startswith("run/") for span in spans()), timeout_s=30)
    stints = [span for span in spans() if span["name"].startswith("run/")]
    assert len({trace_of(span) for span in stints}) == len(stints)
    by_trace = {trace_of(span) for span in stints}
    assert not by_trace & {trace_of(span) for span in found if span["name"] == REQUEST}
    text = json.dumps(spans())
    for private in ("busy@", "alone@", "load.example", VALUE, DEFAULT_API_KEY):
        assert private not in text
    assert courier.server.password not in text
