"""Trouble with Redis, said in words and once, however many threads meet it."""

from __future__ import annotations

import logging
import threading

from ..config import Settings
from ..config.redis_errors import describe_redis_error

log = logging.getLogger(__name__)


class RedisTrouble:
    """What is wrong with Redis now, as the parts of a worker process meet it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._troubled: set[str] = set()
        self._said: set[str] = set()

    @property
    def present(self) -> bool:
        """Whether any part is in trouble now."""
        return bool(self._troubled)

    def met(self, part: str, error: Exception) -> None:
        """A part of the worker met an error; it is logged unless it was since all was well."""
        text = describe_redis_error(self._settings, error)
        with self._lock:
            self._troubled.add(part)
            new = text not in self._said
            self._said.add(text)
        if new:
            log.error("%s", text)

    def over(self, part: str) -> None:
        """A part of the worker goes on. It is logged once all parts do."""
        if not self._troubled:  # nearly always
            return
        with self._lock:
            before = bool(self._troubled)
            self._troubled.discard(part)
            well = before and not self._troubled
            if well:
                self._said.clear()
        if well:
            log.warning("Redis at %s is well again; going on", self._settings.redis_address)
