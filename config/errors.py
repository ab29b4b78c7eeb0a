"""Errors of the ground.

SettingsError
└── NotConfigured
"""

from __future__ import annotations


class SettingsError(Exception):
    """Raised when something is set that is not valid.

    The text names the environment's variable, the key of Django's `ATTRIBUTE_COURIER`, or the field
    of `Settings`, and does not show the value, which may be secret.
    """


class NotConfigured(SettingsError):  # noqa: N818
    """Raised when a test would hand a job to a Redis that nobody named.

    Capture the jobs (`attribute_courier.testing`), drop them (`COURIER_ENABLED=false`), or name a
    Redis.
    """
