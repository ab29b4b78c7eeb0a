"""The ground: settings, the Celery application, Redis connections, logging."""

from .celery import CourierCelery, make_celery
from .errors import SettingsError
from .secret import Secret
from .settings import Settings, load_settings

__all__ = [
    "CourierCelery",
    "Secret",
    "Settings",
    "SettingsError",
    "load_settings",
    "make_celery",
]
