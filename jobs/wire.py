"""Writing a job's wire document. `schema` reads it; who only writes need not import marshmallow."""

from __future__ import annotations

import json

from .attributes import Scalar
from .errors import InvalidJob
from .job import AttributeJob

WIRE_VERSION = 1
MAX_WIRE_BYTES = 64 * 1024
MAX_NUMBER = 2**53 - 1
"""Greater whole numbers are text on the wire: as numbers, many languages round them."""


def dump_wire(job: AttributeJob) -> str:
    """A job as wire text, which `load_wire` reads back as an equal job.

    Raises:
        InvalidJob: the text is longer than 64 KiB.
    """
    document: dict[str, object] = {
        "v": WIRE_VERSION,
        "email": job.email,
        "attributes": [_exact(attribute.as_dict()) for attribute in job.attributes],
    }
    if job.occurred_at is not None:
        moment = job.occurred_at.replace(tzinfo=None)
        document["occurred_at"] = moment.isoformat(timespec="microseconds") + "Z"
    document["lane"] = job.lane
    if job.only_changed:
        document["only_changed"] = True
    if job.idempotency_key is not None:
        document["idempotency_key"] = job.idempotency_key
    wire = _ENCODER.encode(document)
    if job.traceparent is not None:
        traced = _ENCODER.encode(document | {"traceparent": job.traceparent})
        if len(traced.encode()) <= MAX_WIRE_BYTES:  # else the job goes without
            return traced
    check_size(wire)
    return wire


def is_rounded_elsewhere(value: object) -> bool:
    """Whether this is a whole number that a publisher in another language may have rounded."""
    return type(value) is int and not -MAX_NUMBER <= value <= MAX_NUMBER


def _exact(attribute: dict[str, Scalar]) -> dict[str, Scalar]:
    value = attribute["value"]
    return attribute | {"value": str(value)} if is_rounded_elsewhere(value) else attribute


def check_size(wire: str | bytes) -> None:
    """Whether a document is no longer than it may be.

    Raises:
        InvalidJob: it is longer than 64 KiB.
    """
    size = len(wire)
    if isinstance(wire, str) and size <= MAX_WIRE_BYTES and not wire.isascii():
        size = len(wire.encode(errors="surrogatepass"))
    if size > MAX_WIRE_BYTES:
        raise InvalidJob.of("", f"the document has more than {MAX_WIRE_BYTES} bytes")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
