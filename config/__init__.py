"""The ground: settings, the Celery application, Redis connections, logging."""

from .errors import SettingsError
from .secret import Secret
from .settings import Settings, load_settings

__all__ = [
    "Secret",
    "Settings",
    "SettingsError",
    "load_settings",
]
