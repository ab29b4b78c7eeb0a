"""Spans of OpenTelemetry. `tracing` imports this module where its API is installed.

No email, value, key or answer's text is in a span. Names and attributes follow OpenTelemetry's
semantic conventions for messaging and HTTP, as far as these go.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry import context, trace
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

_NAME = "attribute_courier"
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NOTHING = context.Context()


@lru_cache(maxsize=1)
def _tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer(_NAME)  # making one costs more than a span


class Traced:
    """A job that is being handed over, with its span."""

    traceparent: str | None = None

    def __init__(self, span: Span) -> None:
        self._span = span
        found = span.get_span_context()
        if found.is_valid:
            self.traceparent = (
                f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"
            )

    def taken(self, job_id: str) -> None:
        """As `tracing.Sending.taken`."""
        self._span.set_attribute("messaging.message.id", job_id)


@contextmanager
def sending(account: str) -> Iterator[Traced]:
    """As `tracing.sending`: a child of the span that is current in the application."""
    with _tracer(trace.get_tracer_provider()).start_as_current_span(
        f"add_attributes {account}",
        kind=SpanKind.PRODUCER,
        attributes=_messaging(account, "send"),
        record_exception=False,  # its text is not ours to show
        set_status_on_exception=False,
    ) as span:
        try:
            yield Traced(span)
        except Exception as error:
            _fail(span, type(error).__name__)
            raise


@contextmanager
def apart() -> Iterator[None]:
    """As `tracing.apart`."""
    token = context.attach(_NOTHING)
    try:
        yield
    finally:
        context.detach(token)


def request_span(
    account: str,
    url: str,
    jobs: Mapping[str, str | None],
    *,
    status: int | None,
    error: str,
    elapsed_s: float,
) -> str | None:
    """Note a request that was answered just now, or was not. Returns its trace's id, if sampled.

    The request of exactly one job is a part of its trace: a child of the producer's span. One of
    several jobs belongs to none of them: it begins a trace of its own, with a link to each.

    Args:
        jobs: job id → its traceparent.
        status: of the answer; None without one.
        error: a word for what went wrong; "" if nothing did.
        elapsed_s: seconds from the write to the end of the answer.
    """
    ended_ns = time.time_ns()
    contexts = {job_id: found for job_id in jobs if (found := _context(jobs[job_id]))}
    sampled = [found.trace_flags.sampled for found in contexts.values()]
    if len(jobs) > 1 and sampled and not any(sampled):
        return None  # whoever decided about these jobs wants no trace of them
    parent, links = _NOTHING, None
    attributes = _messaging(account, "process") | _http(url)
    if len(jobs) == 1:
        [job_id] = jobs
        attributes["messaging.message.id"] = job_id
        if job_id in contexts:
            parent = trace.set_span_in_context(NonRecordingSpan(contexts[job_id]), _NOTHING)
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
        links = [
            Link(found, {"messaging.message.id": job_id}) for job_id, found in contexts.items()
        ]
    span = _tracer(trace.get_tracer_provider()).start_span(
        "POST /customers/attributes/custom",
        context=parent,
        kind=SpanKind.CLIENT,
        attributes=attributes,
        links=links,
        start_time=ended_ns - round(elapsed_s * 1e9),
    )
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    if error:
        _fail(span, error)
    span.end(ended_ns)
    found = span.get_span_context()
    return f"{found.trace_id:032x}" if found.trace_flags.sampled else None


def _context(traceparent: str | None) -> SpanContext | None:
    found = _TRACEPARENT.fullmatch(traceparent or "")
    if not found:
        return None
    trace_id, span_id, flags = (int(each, 16) for each in found.groups())
    parsed = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return parsed if parsed.is_valid else None


def _messaging(account: str, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": _NAME,
        "messaging.operation.type": operation,
        "messaging.operation.name": "add_attributes",
        "messaging.destination.name": account,
    }


def _http(url: str) -> dict[str, str | int]:
    parts = urlsplit(url)
    return {
        "http.request.method": "POST",
        "url.full": url,
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }


def _fail(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)
