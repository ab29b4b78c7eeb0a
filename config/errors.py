"""Errors of the ground.

SettingsError
"""

from __future__ import annotations


class SettingsError(Exception):
    """Raised when the environment does not make valid settings; the text names the variable."""
