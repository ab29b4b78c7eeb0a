"""Our own Celery app: `celery -A attribute_courier.worker worker`, or `courier worker`.

Takes the settings that hold when it is imported: those of `configure()`, else Django's, where
Django is set up, before the environment's.
"""

from __future__ import annotations

from typing import Any

from billiard import pool as prefork
from celery import signals
from celery.apps import worker as worker_program

from ..config.celery import make_celery
from ..config.chosen import choose
from ..config.logs import say_as_json
from ..config.tracing import apart
from .attached import attach
from .service import WorkerService
from .steps import Checks, Living, Reports, Ticking, Watch

PREFORK_WAITS = 20
"""So many tenths of a second a process of the prefork pool waits at its end, in place of 300."""

app = make_celery(choose().load(strict=True))


def _send(task: str, account: str, shown: str) -> None:
    with apart():  # else each stint would be a part of the one before
        app.send_task(task, [account], argsrepr=shown, kwargsrepr="", **app.patience)


service = WorkerService(app.settings, send=_send)
attach(app, lambda: service)

from .tasks import register  # noqa: E402  (an app has it now)

register(app)
app.conf.worker_consumer = "attribute_courier.worker.consumer:Intake"
app.steps["worker"].update({Checks, Living, Ticking})
app.steps["consumer"].update({Reports, Watch})


@signals.celeryd_init.connect
def _write_json_from_the_start(instance: Any = None, options: Any = None, **_: Any) -> None:
    """Where the log is JSON, so is what Celery says before it sets its log up, and beside it."""
    if instance.app is app and app.settings.log_format == "json":
        instance.quiet = True  # no banner
        options = options or {}
        app.log.setup(options.get("loglevel"), options.get("logfile"), hostname=instance.hostname)
        vars(worker_program)["safe_say"] = say_as_json


@signals.celeryd_init.connect
def _stop_soon(instance: Any = None, **_: Any) -> None:
    """Let prefork's processes end although Celery does not read the results of all their tasks.

    It forgets tasks that had just come when the worker was told to stop, and their processes would
    wait half a minute until somebody says that their results were read.
    """
    if instance.app is app:
        vars(prefork)["GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT"] = PREFORK_WAITS
