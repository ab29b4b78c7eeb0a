"""A span for each request, in the trace of the job that it carries, or linked to all of them."""

from __future__ import annotations

from contextlib import suppress

from ..config.tracing import otel
from ..state.claims import Claim
from .chartmogul import Answer, NoAnswer


class RequestTrace:
    """Notes the requests of one account, where OpenTelemetry is installed.

    A span is made when its request is over: before, each moment counts, and a request that does
    not leave is none.
    """

    def __init__(self, account: str, api_url: str) -> None:
        self._account = account
        self._url = f"{api_url}/customers/attributes/custom"

    def note(self, claim: Claim, answer: Answer | NoAnswer) -> str | None:
        """Note a request that was answered just now, or was not. Returns its trace's id, if any."""
        module = otel()
        if module is None:
            return None
        if isinstance(answer, NoAnswer):
            status, error = None, "no_answer" if answer.sent else "not_connected"
        else:
            status, error = answer.status, "" if answer.status < 400 else str(answer.status)
        trace_id: str | None = None
        with suppress(Exception):  # of a processor of spans: it must not keep the answer from us
            trace_id = module.request_span(
                self._account,
                self._url,
                {job.job_id: job.fields.get("traceparent") for job in claim.jobs},
                status=status,
                error=error,
                elapsed_s=answer.elapsed_s,
            )
        return trace_id
