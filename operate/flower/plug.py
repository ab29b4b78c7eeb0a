"""How the pages come into Flower: handlers before its own, and a loader that knows two folders.

Nothing of Flower is copied, and two things are changed: how long it waits for a broker that is
away, and how it reads the lengths of queues, since it cannot go all the ways to Redis that we can.
What is relied on is `flower.urls`, the options, and one line of its navigation; so versions are
named that this was tested with.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flower
import flower.events as flower_events
import flower.views as flower_views
from flower.urls import handlers, settings
from tornado.options import options
from tornado.template import BaseLoader, Template
from tornado.web import StaticFileHandler, url

from ...config import Settings
from ...config.messages import ACCEPT_TASK, DELIVER_TASK
from .handlers import (
    AccountsApi,
    AccountsPage,
    CancelApi,
    CancelPage,
    JobApi,
    JobPage,
    MetricsPage,
    OutcomesApi,
    OutcomesPage,
    ReplayApi,
    ReplayPage,
    SearchApi,
    SearchPage,
)
from .reading import Reader
from .searches import Searches

log = logging.getLogger(__name__)

LONGEST_PAUSE_S = 5.0
"""Between two tries of Flower's to listen to events."""
TESTED = ("2.2",)
"""Versions of Flower, by their first two numbers, that the pages are tested with."""
COLUMNS = "state,args,result,received,runtime,name,worker,uuid"
"""Of Flower's list of tasks: whose it is and what came of it stand first."""
_HERE = Path(__file__).parent
_NAVIGATION = '<ul class="app-nav navbar-nav">'
_ENTRY = """
        <li class="nav-item">
          <a class="nav-link{{% if active_tab == '{name}' %}} active{{% end %}}"
            href="{{{{ reverse_url('courier-{name}') }}}}"
            {{% if active_tab == '{name}' %}}aria-current="page"{{% end %}}>{label}</a>
        </li>"""


def _impatient() -> SimpleNamespace:
    """The module `time` for the thread that listens to events.

    After an outage of the broker it waits for longer and longer, without bound.
    """
    return SimpleNamespace(
        **vars(time) | {"sleep": lambda seconds: time.sleep(min(seconds, LONGEST_PAUSE_S))}
    )


def add_pages(courier: Settings, *, metrics: Callable[[], bytes] | None = None) -> None:
    """Add the pages to Flower in this process, before it starts.

    Where Flower is of a version that they are not tested with, it says so and leaves them out.

    Args:
        courier: the settings.
        metrics: gives what stands in /metrics behind Flower's own, in Prometheus's text format; it
            is called in a thread.
    """
    flower_events.time = _impatient()
    reader = Reader(courier)
    if courier.broker is not None:  # else Flower's own reader asks RabbitMQ
        flower_views.Broker = lambda *_args, **_options: reader
    handlers.insert(0, url(r"/metrics", MetricsPage, {"reader": reader, "more": metrics}))
    options.tasks_columns = COLUMNS
    options.format_task = shown_task
    version = ".".join(flower.__version__.split(".")[:2])
    templates = Path(settings["template_path"])
    if version not in TESTED or _NAVIGATION not in (templates / "navbar.html").read_text("utf-8"):
        log.warning(
            "the pages Accounts and Outcomes are left out: Flower has version %s, and they are "
            "tested with %s",
            flower.__version__,
            " and ".join(TESTED),
        )
        return
    settings["template_loader"] = Loader(templates)
    shared = {"reader": reader, "searches": Searches()}
    handlers[-1:-1] = [
        url(r"/accounts", AccountsPage, shared, name="courier-accounts"),
        url(r"/outcomes", OutcomesPage, shared, name="courier-outcomes"),
        url(r"/outcomes/search", SearchPage, shared, name="courier-search"),
        url(r"/outcome/([^/]+)", JobPage, shared, name="courier-job"),
        url(r"/outcome/([^/]+)/replay", ReplayPage, shared, name="courier-replay"),
        url(r"/outcome/([^/]+)/cancel", CancelPage, shared, name="courier-cancel"),
        url(
            r"/courier/(.+)",
            StaticFileHandler,
            {"path": str(_HERE / "static")},
            name="courier-static",
        ),
        url(r"/api/accounts", AccountsApi, shared),
        url(r"/api/outcomes", OutcomesApi, shared),
        url(r"/api/outcomes/search", SearchApi, shared),
        url(r"/api/outcome/([^/]+)", JobApi, shared),
        url(r"/api/outcome/([^/]+)/replay", ReplayApi, shared),
        url(r"/api/outcome/([^/]+)/cancel", CancelApi, shared),
    ]


def shown_task(task: Any) -> Any:
    """A task for Flower's list: where it has no result, its reason stands in that column."""
    shown = copy(task)
    if not shown.result and shown.exception:
        shown.result = shown.exception
    elif shown.result and shown.name in (ACCEPT_TASK, DELIVER_TASK):
        shown.result = shown.result.strip("'")  # Celery sends what a task returned as Python's text
    return shown


class Loader(BaseLoader):
    """Loads our templates, and Flower's; its navigation gets two entries more."""

    def __init__(self, flowers: Path) -> None:
        super().__init__()
        self._folders = (_HERE / "templates", flowers)

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        return name

    def _create_template(self, name: str) -> Template:
        path = next(folder / name for folder in self._folders if (folder / name).is_file())
        text = path.read_text("utf-8")
        if name == "navbar.html":
            entries = [("accounts", "Accounts"), ("outcomes", "Outcomes")]
            ours = "".join(_ENTRY.format(name=name, label=label) for name, label in entries)
            text = text.replace(_NAVIGATION, _NAVIGATION + ours, 1)
        return Template(text, name=name, loader=self)
