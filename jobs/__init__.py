"""What both sides share: the job, its schema and wire format, and its outcome."""

from .attributes import Attribute, AttributeType
from .errors import (
    CourierError,
    IdempotencyConflict,
    InvalidJob,
    NotDelivered,
    NotEnqueued,
    NotReachable,
)
from .job import AttributeJob
from .outcome import Customer, Outcome

__all__ = [
    "Attribute",
    "AttributeJob",
    "AttributeType",
    "CourierError",
    "Customer",
    "IdempotencyConflict",
    "InvalidJob",
    "NotDelivered",
    "NotEnqueued",
    "NotReachable",
    "Outcome",
]
