"""The ground: settings, the Celery application, Redis connections, logging."""

from .chosen import configure
from .errors import NotConfigured, SettingsError
from .secret import Secret
from .settings import Settings, load_settings

__all__ = [
    "NotConfigured",
    "Secret",
    "Settings",
    "SettingsError",
    "configure",
    "load_settings",
]
