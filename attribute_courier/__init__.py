"""Deliver custom attributes to ChartMogul customers, by email.

>>> from attribute_courier import add_attributes
>>> receipt = add_attributes("ada@example.com", {"channel": "Facebook", "age": 8})
>>> receipt.wait(timeout=30).summary()
'delivered · 1 customer'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import SettingsError as SettingsError
    from .producers import Attribute as Attribute
    from .producers import Attributes as Attributes
    from .producers import AttributeType as AttributeType
    from .producers import Batch as Batch
    from .producers import Bulk as Bulk
    from .producers import Cancellation as Cancellation
    from .producers import CourierError as CourierError
    from .producers import Customer as Customer
    from .producers import FieldError as FieldError
    from .producers import Forgotten as Forgotten
    from .producers import IdempotencyConflict as IdempotencyConflict
    from .producers import InvalidJob as InvalidJob
    from .producers import Item as Item
    from .producers import Lane as Lane
    from .producers import NotDelivered as NotDelivered
    from .producers import NotEnqueued as NotEnqueued
    from .producers import NotReachable as NotReachable
    from .producers import Outcome as Outcome
    from .producers import Producer as Producer
    from .producers import Receipt as Receipt
    from .producers import Rejected as Rejected
    from .producers import Value as Value
    from .producers import add_attributes as add_attributes
    from .producers import add_attributes_async as add_attributes_async
    from .producers import add_many as add_many
    from .producers import cancel as cancel
    from .producers import default_producer as default_producer
    from .producers import forget as forget

    __version__: str

__all__ = [  # found by __getattr__
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
    "SettingsError",
    "Value",
    "__version__",
    "add_attributes",
    "add_attributes_async",
    "add_many",
    "cancel",
    "default_producer",
    "forget",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing a room imports this package, too."""
    if name == "__version__":
        from importlib.metadata import version

        return version("attribute-courier")
    if name in __all__:
        room = "config" if name == "SettingsError" else "producers"
        return getattr(import_module(f".{room}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
