"""What application code imports."""

from ..jobs.attributes import Attribute, AttributeType
from ..jobs.errors import (
    CourierError,
    FieldError,
    InvalidJob,
    NotDelivered,
    NotEnqueued,
    NotReachable,
)
from ..jobs.outcome import Customer, Outcome
from .bulk import Batch, Bulk, Item, Rejected
from .producer import (
    Producer,
    Receipt,
    add_attributes,
    add_attributes_async,
    add_many,
    default_producer,
)

__all__ = [
    "Attribute",
    "AttributeType",
    "Batch",
    "Bulk",
    "CourierError",
    "Customer",
    "FieldError",
    "InvalidJob",
    "Item",
    "NotDelivered",
    "NotEnqueued",
    "NotReachable",
    "Outcome",
    "Producer",
    "Receipt",
    "Rejected",
    "add_attributes",
    "add_attributes_async",
    "add_many",
    "default_producer",
]
