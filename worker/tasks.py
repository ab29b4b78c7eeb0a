"""The two Celery tasks: decode, call, obey.

For Celery's `include`, `imports` and `autodiscover_tasks` this is not enough, and it says so: an
application calls `attribute_courier.worker.install(app)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from celery.exceptions import Retry

from ..config.errors import SettingsError
from ..config.messages import ACCEPT_TASK, DELIVER_TASK
from ..config.redis_errors import RedisError, describe_redis_error
from .attached import any_app_has_one, attached_service

if TYPE_CHECKING:
    from .service import WorkerService

if not any_app_has_one():
    raise SettingsError(
        "attribute_courier.worker.tasks: to include the tasks is not enough for deliveries: call "
        "attribute_courier.worker.install(app) where the Celery app is made, and leave them out of "
        "include, imports and autodiscover_tasks"
    )


def register(app: Any, **options: Any) -> None:
    """Let an app have the two tasks.

    Args:
        options: of Celery's tasks.
    """
    # Neither shared nor lazy: these would be tasks of all Celery apps of this process, lazy ones
    # where Celery finds that a pool of another application started it.
    options |= {"shared": False, "lazy": False, "bind": True}
    options["Request"] = "attribute_courier.worker.shown:Shown"
    app.task(name=ACCEPT_TASK, **options)(accept)
    app.task(name=DELIVER_TASK, **options)(deliver)


def accept(self: Any, account: str) -> str:
    """Accept what is in an account's inbox, and deliver what can be delivered."""
    return _done(self, account, "accept")


def deliver(self: Any, account: str) -> str:
    """Deliver what is due for an account, for some seconds."""
    return _done(self, account, "deliver")


def _done(task: Any, account: str, work: Literal["accept", "deliver"]) -> str:
    """What came of the work. Redis's trouble is said once; the ticker asks for the work again.

    Raises:
        Retry: it did no good. To Celery that is a state and no more: it sends no message.
    """
    if task.request.is_eager:
        return "nothing: a worker delivers, not the process that asks for it"
    service: WorkerService = attached_service(task.app)
    try:
        done = service.work(account, work)
    except RedisError as error:
        service.trouble.met("deliveries", error)
        # Celery logs the message, for each task that was under way; Flower shows the whole.
        whole = RuntimeError(describe_redis_error(service.settings, error))
        raise Retry(f"Redis failed ({type(error).__name__})", exc=whole) from None
    service.trouble.over("deliveries")
    if done.in_vain:
        raise Retry(done.text)
    return done.text
