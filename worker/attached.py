"""Which Celery app has which courier: our own app, and an application's.

It imports nothing that a web process would have to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NAME = "attribute_courier"
_any = False


def attach(app: Any, service: Callable[[], Any], host: Any = None) -> None:
    """Let a Celery app have a courier.

    Args:
        service: gives its `WorkerService`, to whatever runs in a worker.
        host: the `Host`, where it is an application's app.
    """
    global _any
    setattr(app, _NAME, (service, host))
    _any = True


def attached_service(app: Any) -> Any:
    """The `WorkerService` of a Celery app that has a courier."""
    service, _ = getattr(app, _NAME)
    return service()


def attached_host(app: Any) -> Any:
    """The `Host` that an application's Celery app is."""
    _, host = getattr(app, _NAME)
    return host


def has_one(app: Any) -> bool:
    """Whether a Celery app has a courier."""
    return _NAME in vars(app)


def any_app_has_one() -> bool:
    """Whether any Celery app of this process has a courier."""
    return _any
