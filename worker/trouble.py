"""Trouble with Redis or the broker, said once, however many threads and processes meet it."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

from ..config import Settings
from ..config.broker_errors import describe_broker_error
from ..config.redis_errors import describe_redis_error

log = logging.getLogger(__name__)

SAID_FOR_S = 60.0
"""What a process of this worker said or met so lately, no other one says again."""


class RedisTrouble:
    """What is wrong with Redis now, as the parts of a worker meet it.

    Processes of the prefork pool, which are forked after it was made, share what was said.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._whose = f"Redis at {settings.redis_address}"
        self._shared = _Shared()
        self.forked()

    def forked(self) -> None:
        """In a process that was forked just now: no part of it has met anything yet.

        The parent's parts are not here to say that it is over, and its lock may be held.
        """
        self._lock = threading.Lock()
        self._troubled: set[str] = set()
        self._said: set[str] = set()

    @property
    def present(self) -> bool:
        """Whether any part is in trouble now."""
        return bool(self._troubled)

    def met(self, part: str, error: Exception) -> None:
        """A part of the worker met an error; it is logged unless it was since all was well."""
        text = self._describe(error)
        fault = _without_reason(text)
        with self._lock:
            self._troubled.add(part)
            new = self._shared.is_new(fault) and fault not in self._said
            self._said.add(fault)
        if new:
            log.error("%s", text)

    def _describe(self, error: Exception) -> str:
        return describe_redis_error(self._settings, error)

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
                well = self._shared.clear()
        if well:
            log.warning("%s is well again; going on", self._whose)


class BrokerTrouble(RedisTrouble):
    """The same of the broker, where it is not the Redis that holds the state."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._whose = f"The broker at {settings.broker_address}"

    def _describe(self, error: Exception) -> str:
        return describe_broker_error(self._settings, error)


def _without_reason(text: str) -> str:
    """What is one fault: of a Redis that is away, each connection may meet another reason."""
    before, away, _ = text.partition(" does not answer")
    return before + away


class _Shared:
    """When each text was said or met last, in memory that forked processes share.

    Only Linux has what keeps them apart. Elsewhere a race of two costs a line that is said twice.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("trouble")
            weakref.finalize(self, os.close, self._file)
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._nothing = bytes(mmap.PAGESIZE)

    def is_new(self, text: str) -> bool:
        """Note that a text is met. Returns whether none of the processes met it lately."""
        at = 8 * (crc32(text.encode()) % (mmap.PAGESIZE // 8))
        with self._alone():
            [before_s] = struct.unpack_from("d", self._memory, at)
            now_s = time.monotonic()
            struct.pack_into("d", self._memory, at, now_s)
        return not before_s or now_s > before_s + SAID_FOR_S

    def clear(self) -> bool:
        """Forget all. Returns whether there was anything: else another process has done so."""
        with self._alone():
            found = self._memory[:] != self._nothing
            self._memory[:] = self._nothing
        return found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process is in such a block. A lock of a file ends with its process."""
        if self._file is None:
            yield
            return
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
