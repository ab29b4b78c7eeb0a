"""What application code imports."""

from ..jobs.attributes import Attribute, Attributes, AttributeType, Value
from ..jobs.errors import (
    CourierError,
    FieldError,
    IdempotencyConflict,
    InvalidJob,
    NotDelivered,
    NotEnqueued,
    NotReachable,
)
from ..jobs.job import Lane
from ..jobs.outcome import Customer, Outcome
from ..jobs.removal import Cancellation, Forgotten
from .bulk import Batch, Bulk, Item, Rejected
from .producer import (
    Producer,
    add_attributes,
    add_attributes_async,
    add_many,
    cancel,
    default_producer,
    forget,
)
from .receipt import Receipt

__all__ = [
    "Attribute",
    "AttributeType",
    "Attributes",
    "Batch",
    "Bulk",
    "Cancellation",
    "CourierError",
    "Customer",
    "FieldError",
    "Forgotten",
    "IdempotencyConflict",
    "InvalidJob",
    "Item",
    "Lane",
    "NotDelivered",
    "NotEnqueued",
    "NotReachable",
    "Outcome",
    "Producer",
    "Receipt",
    "Rejected",
    "Value",
    "add_attributes",
    "add_attributes_async",
    "add_many",
    "cancel",
    "default_producer",
    "forget",
]
