"""Which settings hold: those of `configure()`, else Django's before the environment's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import SettingsError
from .settings import Settings, load_settings

DJANGO_NAME = "ATTRIBUTE_COURIER"
"""The name of our mapping in Django's settings."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Where settings come from. Where this is another one than before, they are to be read anew."""

    number: int
    """How often `configure` and `read_anew` were called."""
    configured: Settings | None
    django: Mapping[str, object]

    def load(self, *, strict: bool) -> Settings:
        """The settings; `strict` as in `load_settings`.

        Raises:
            SettingsError: they are not valid.
        """
        if self.configured is not None:
            return self.configured
        return load_settings(strict=strict, framework=self.django, framework_name=DJANGO_NAME)


_lock = threading.Lock()
_configured: tuple[int, Settings | None] = (0, None)


def configure(settings: Settings | None) -> None:
    """Say which settings the package's functions and its worker use in this process.

    They hold from the next call on, in all threads, also where others were used before: a receipt
    goes on to ask the Redis that has its job. A `Producer` of your own keeps its settings. A worker
    takes those that hold when its Celery app is made, or with `install` when it starts.

    Args:
        settings: all of them: nothing is read from Django or the environment then. None goes back
            to these two, and reads them anew.

    Raises:
        TypeError: it is neither `Settings` nor None.
    """
    global _configured
    if settings is not None and not isinstance(settings, Settings):
        raise TypeError(f"configure() takes Settings or None, not {type(settings).__name__}")
    with _lock:
        _configured = (_configured[0] + 1, settings)


def read_anew() -> None:
    """Let settings that Django and the environment hold be read again at their next use."""
    global _configured
    with _lock:
        _configured = (_configured[0] + 1, _configured[1])


def choose() -> Choice:
    """Where settings come from now.

    Raises:
        SettingsError: Django has another thing than a mapping under our name.
    """
    number, configured = _configured
    return Choice(
        number=number, configured=configured, django={} if configured is not None else _django()
    )


def _django() -> Mapping[str, object]:
    """What Django's settings hold for us; nothing where the application has not set Django up."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not settings.configured:
        return {}
    found = getattr(settings, DJANGO_NAME, None)
    if not isinstance(found, Mapping | None):
        raise SettingsError(f'{DJANGO_NAME}: must be a dict, such as {{"REDIS_URL": "redis://…"}}')
    return dict(found or {})
