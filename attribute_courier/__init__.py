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
    from .producers import AttributeType as AttributeType
    from .producers import CourierError as CourierError
    from .producers import InvalidJob as InvalidJob
    from .producers import NotDelivered as NotDelivered
    from .producers import NotEnqueued as NotEnqueued
    from .producers import NotReachable as NotReachable
    from .producers import Outcome as Outcome
    from .producers import Producer as Producer
    from .producers import Receipt as Receipt
    from .producers import add_attributes as add_attributes
    from .producers import add_attributes_async as add_attributes_async
    from .producers import add_many as add_many

    __version__: str

__all__ = [  # found by __getattr__
    "Attribute",
    "AttributeType",
    "CourierError",
    "InvalidJob",
    "NotDelivered",
    "NotEnqueued",
    "NotReachable",
    "Outcome",
    "Producer",
    "Receipt",
    "SettingsError",
    "__version__",
    "add_attributes",
    "add_attributes_async",
    "add_many",
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
