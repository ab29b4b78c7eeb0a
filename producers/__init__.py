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
from .producer import (
    Producer,
    Receipt,
    add_attributes,
    add_attributes_async,
    default_producer,
)

__all__ = [
    "Attribute",
    "AttributeType",
    "CourierError",
    "Customer",
    "FieldError",
    "InvalidJob",
    "NotDelivered",
    "NotEnqueued",
    "NotReachable",
    "Outcome",
    "Producer",
    "Receipt",
    "add_attributes",
    "add_attributes_async",
    "default_producer",
]
