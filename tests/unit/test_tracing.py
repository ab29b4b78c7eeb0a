"""Traces from `add_attributes()` to the request, by OpenTelemetry's own SDK."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from attribute_courier.config import Secret, load_settings
from attribute_courier.config.tracing import apart
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.schema import load_wire
from attribute_courier.jobs.wire import MAX_WIRE_BYTES, dump_wire
from attribute_courier.producers import NotEnqueued, Producer, add_attributes_async
from attribute_courier.producers import producer as producer_module
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.worker.chartmogul import Answer, NoAnswer, NotSent

from .desk import ADA, BOB, KEYS, Desk

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
REQUEST = "POST /customers/attributes/custom"
REFUSED = Answer(status=422, body=b'{"errors": {"custom": "is bad"}}')


class Traces:
    """What an SDK in this process exports."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._exporter = InMemorySpanExporter()
        self.sample(ParentBased(ALWAYS_ON))

    def sample(self, sampler: Sampler) -> None:
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.all() if span.name == name]

    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def application(self) -> Any:
        """A span of the application around what it asks for."""
        return trace.get_tracer("application").start_as_current_span("sign-up")


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    return Traces(monkeypatch)


@pytest.fixture
def producer(server: EmbeddedRedis) -> Iterator[Producer]:
    found = Producer(replace(load_settings(), redis_url=Secret(server.url)))
    yield found
    found.close()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as found:
        yield found


@pytest.fixture
def desk(client: redis.Redis) -> Desk:
    return Desk(client)


def ids(span: Any) -> tuple[int, int]:
    return span.context.trace_id, span.context.span_id


def parent_of(span: Any) -> tuple[int, int] | None:
    return span.parent and (span.parent.trace_id, span.parent.span_id)


def traceparent_of(span: Any) -> str:
    trace_id, span_id = ids(span)
    return f"00-{trace_id:032x}-{span_id:016x}-{span.context.trace_flags:02x}"


class TestOneJob:
    """The request that carries one job is a part of its trace."""

    def test_the_trace_goes_from_the_application_to_the_request(
        self,
        traces: Traces,
        producer: Producer,
        desk: Desk,
        client: redis.Redis,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with traces.application():
            receipt = producer.add_attributes(ADA, {"plan": "pro"})
        [sent] = traces.named("add_attributes default")
        [sign_up] = traces.named("sign-up")
        assert sent.kind is SpanKind.PRODUCER
        assert parent_of(sent) == ids(sign_up)

        document = json.loads(str(client.hget(KEYS.inbox, receipt.job_id)))
        assert document["traceparent"] == traceparent_of(sent)
        desk.acceptance.accept()
        assert client.hget(KEYS.of("job", receipt.job_id), "traceparent") == traceparent_of(sent)

        caplog.set_level("INFO")
        with trace.get_tracer("celery").start_as_current_span("run"):  # as an instrumented stint
            desk.run()
        [request] = traces.named(REQUEST)
        assert f" trace_id={ids(sent)[0]:032x} " in caplog.text
        assert request.kind is SpanKind.CLIENT
        assert parent_of(request) == ids(sent)
        assert request.links == ()

        for key in client.scan_iter():
            stored: Any = client.dump(key)
            assert f"{ids(sent)[0]:032x}".encode() not in stored, "while it waits, only"

    def test_each_attempt_is_in_it(self, traces: Traces, producer: Producer, desk: Desk) -> None:
        desk.chartmogul.answers = [REFUSED, NoAnswer(reason="no answer within 2 s", sent=True)]
        for email in (ADA, BOB):
            producer.add_attributes(email, {"plan": "pro"})
            desk.acceptance.accept()
            desk.run()
        sent = traces.named("add_attributes default")
        requests = traces.named(REQUEST)
        assert [parent_of(each) for each in requests] == [ids(each) for each in sent]
        assert [each.status.status_code for each in requests] == [StatusCode.ERROR] * 2
        assert [each.attributes["error.type"] for each in requests] == ["422", "no_answer"]
        assert requests[0].attributes["http.response.status_code"] == 422

    def test_an_async_call_is_in_the_trace_too(
        self,
        traces: Traces,
        server: EmbeddedRedis,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("COURIER_REDIS_URL", server.url)
        monkeypatch.setattr(producer_module, "_default", None)
        with traces.application():
            asyncio.run(add_attributes_async(ADA, {"plan": "pro"}))
        assert parent_of(traces.named("add_attributes default")[0]) == ids(
            traces.named("sign-up")[0]
        )
        producer_module.default_producer().close()

    def test_whoever_writes_the_document_may_name_the_trace(
        self, traces: Traces, desk: Desk
    ) -> None:
        desk.put(wire(traceparent=TRACEPARENT))
        desk.acceptance.accept()
        desk.run()
        [request] = traces.named(REQUEST)
        assert parent_of(request) == (int(TRACE, 16), int(SPAN, 16))


class TestSeveralJobs:
    """Their request belongs to none of their traces: it has its own, with a link to each."""

    def test_are_linked_and_none_joins_anothers_trace(
        self, traces: Traces, producer: Producer, desk: Desk
    ) -> None:
        receipts = [producer.add_attributes(ADA, {key: "x"}) for key in ("plan", "channel")]
        desk.produced(age=8)  # by a producer that traces nothing
        desk.acceptance.accept()
        with trace.get_tracer("celery").start_as_current_span("run"):
            desk.run()
        sent = traces.named("add_attributes default")
        [request], [run] = traces.named(REQUEST), traces.named("run")
        assert request.parent is None
        assert ids(request)[0] not in {ids(sent[0])[0], ids(sent[1])[0], ids(run)[0]}
        assert ids(sent[0])[0] != ids(sent[1])[0]
        linked = {
            (link.context.trace_id, link.context.span_id): link.attributes for link in request.links
        }
        assert linked == {
            ids(span): {"messaging.message.id": receipt.job_id}
            for span, receipt in zip(sent, receipts, strict=True)
        }
        assert request.attributes["messaging.batch.message_count"] == 3


class TestSampling:
    def test_a_trace_that_is_not_sampled_gets_no_span(
        self, traces: Traces, producer: Producer, desk: Desk, client: redis.Redis
    ) -> None:
        traces.sample(ALWAYS_OFF)
        receipt = producer.add_attributes(ADA, {"plan": "pro"})
        document = json.loads(str(client.hget(KEYS.inbox, receipt.job_id)))
        assert not int(document["traceparent"][-2:], 16) & 1
        traces.sample(ParentBased(ALWAYS_ON))
        desk.acceptance.accept()
        desk.run()
        assert traces.all() == ()

    @pytest.mark.parametrize(("flags", "spans"), [(("00", "00"), 0), (("00", "01"), 1)])
    def test_a_request_of_several_jobs_follows_them(
        self, traces: Traces, desk: Desk, flags: tuple[str, str], spans: int
    ) -> None:
        for each in flags:
            desk.put(wire(traceparent=f"{TRACEPARENT[:-2]}{each}"))
        desk.acceptance.accept()
        desk.put(wire(key="channel", traceparent=f"{TRACEPARENT[:-2]}00"))
        desk.acceptance.accept()
        desk.run()
        assert len(traces.named(REQUEST)) == spans

    def test_jobs_without_a_trace_leave_it_to_the_worker(self, traces: Traces, desk: Desk) -> None:
        desk.accepted(plan="pro")
        desk.run()
        [request] = traces.named(REQUEST)
        assert request.parent is None


class TestTheSpans:
    def test_show_nothing_private(self, traces: Traces, producer: Producer, desk: Desk) -> None:
        receipt = producer.add_attributes(ADA, {"plan": "pro-value"}, idempotency_key="secret")
        desk.acceptance.accept()
        desk.run()
        [sent], [request] = traces.named("add_attributes default"), traces.named(REQUEST)
        assert dict(sent.attributes) == {
            "messaging.system": "attribute_courier",
            "messaging.operation.type": "send",
            "messaging.operation.name": "add_attributes",
            "messaging.destination.name": "default",
            "messaging.message.id": receipt.job_id,
        }
        assert dict(request.attributes) == {
            "messaging.system": "attribute_courier",
            "messaging.operation.type": "process",
            "messaging.operation.name": "add_attributes",
            "messaging.destination.name": "default",
            "messaging.message.id": receipt.job_id,
            "http.request.method": "POST",
            "url.full": "https://api.example/v1/customers/attributes/custom",
            "server.address": "api.example",
            "server.port": 443,
            "http.response.status_code": 200,
        }

    def test_last_as_long_as_the_request(self, traces: Traces, desk: Desk) -> None:
        desk.accepted(plan="pro")
        desk.chartmogul.answers = [replace(REFUSED, elapsed_s=0.25)]
        desk.run()
        [request] = traces.named(REQUEST)
        assert request.end_time - request.start_time == 250_000_000

    def test_of_a_job_that_redis_did_not_take(
        self, traces: Traces, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURIER_REDIS_URL", "redis://127.0.0.1:1/0")
        producer = Producer(load_settings())
        with pytest.raises(NotEnqueued):
            producer.add_attributes(ADA, {"plan": "pro"})
        [sent] = traces.named("add_attributes default")
        assert (sent.status.status_code, sent.status.description) == (StatusCode.ERROR, None)
        assert sent.attributes["error.type"] == "NotEnqueued"
        assert sent.events == ()

    def test_a_request_that_did_not_leave_has_none(self, traces: Traces, desk: Desk) -> None:
        desk.accepted(plan="pro")
        desk.chartmogul.answers = [NotSent()]
        desk.run()
        assert len(traces.named(REQUEST)) == 1, "of the next try"

    def test_of_a_job_that_an_earlier_one_answers_for_name_that_one(
        self, traces: Traces, producer: Producer
    ) -> None:
        receipts = [
            producer.add_attributes(ADA, {"plan": "pro"}, idempotency_key="1") for _ in range(2)
        ]
        sent = traces.named("add_attributes default")
        assert [each.attributes["messaging.message.id"] for each in sent] == [
            receipts[0].job_id
        ] * 2


def test_what_is_sent_to_other_workers_belongs_to_no_trace(traces: Traces) -> None:
    with traces.application():
        with apart():
            assert not trace.get_current_span().get_span_context().is_valid
            leaked = trace.use_span(trace.get_tracer("x").start_span("never ended"))
            leaked.__enter__()  # as Celery's instrumentation does where sending fails
        assert trace.get_current_span().name == "sign-up"  # type: ignore[attr-defined]


# --- the document ------------------------------------------------------------------------------


def wire(key: str = "plan", **fields: object) -> str:
    attributes = [{"type": "String", "key": key, "value": "pro"}]
    return json.dumps({"v": 1, "email": ADA, "attributes": attributes, **fields})


@pytest.mark.parametrize(
    "value",
    [
        *("", "x", TRACEPARENT.upper(), f"{TRACEPARENT} ", TRACEPARENT[:-1], 7, True, [], {}),
        *(f"ff{TRACEPARENT[2:]}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
        *(f"{TRACEPARENT}\n", "\ud800", None),
    ],
)
def test_what_is_no_trace_is_left_out_and_spoils_no_job(value: object) -> None:
    assert load_wire(new_job_id(), wire(traceparent=value)).traceparent is None


def test_a_document_that_is_full_goes_without() -> None:
    """A job must not become too large since somebody traces it."""
    attribute = Attribute.of("String", "pro", key="plan")
    job = AttributeJob(job_id=new_job_id(), email=ADA, attributes=(attribute,))
    room = MAX_WIRE_BYTES - len(dump_wire(replace(job, traceparent=TRACEPARENT)))
    fits = replace(job, email="x" * room + ADA, traceparent=TRACEPARENT)
    assert TRACEPARENT in dump_wire(fits)
    full = replace(fits, email=f"x{fits.email}")
    assert dump_wire(full) == dump_wire(replace(full, traceparent=None))


# --- without OpenTelemetry ---------------------------------------------------------------------

_UNINSTALLED = """
import sys
sys.modules["opentelemetry"] = None  # importing it raises ModuleNotFoundError
from attribute_courier import add_attributes
print(add_attributes("ada@example.com", {"plan": "pro"}).job_id)
"""
_UNUSED = """
import sys
import attribute_courier.producers, attribute_courier.worker.deliveries
print("attribute_courier.config.spans" in sys.modules)  # redis-py imports OpenTelemetry, too
"""


def test_jobs_are_handed_over_where_it_is_not_installed(
    server: EmbeddedRedis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    job_id = output_of(_UNINSTALLED)
    assert "traceparent" not in json.loads(str(client.hget(KEYS.inbox, job_id)))


def test_it_is_not_imported_before_it_is_used() -> None:
    assert output_of(_UNUSED) == "False"


def output_of(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()
