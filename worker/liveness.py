"""Whether this worker process can work: what `courier health` tells a container's engine.

Only what a restart would mend counts. So a part that waits for Redis goes on: each try to connect
is a sign of life; and tasks that Redis holds up are not taken for stuck ones.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import Any, Literal

from celery.worker import state as celery_state

from ..config.connections import last_try_s
from ..config.vitals import UntrustedDirectory, Vitals, VitalsFile
from .trouble import RedisTrouble

log = logging.getLogger(__name__)

STAMP_S = 1.0
TASK_LIMIT_S = 300.0
"""Longer than a task runs, however slow Redis is, but for its requests to ChartMogul."""
REQUESTS = 4
"""Requests that one task makes after its time is up, at most: each takes `COURIER_TIMEOUT`."""

Part = Literal["consumer", "ticker"]


class Liveness:
    """Keeps the file of this worker's signs of life.

    Args:
        trouble: tells whether Redis is away.
        timeout_s: of a request to ChartMogul.
    """

    def __init__(self, trouble: RedisTrouble, *, timeout_s: float) -> None:
        self._trouble = trouble
        self._task_limit_s = TASK_LIMIT_S + REQUESTS * timeout_s
        now_s = time.monotonic()
        self._beats: dict[tuple[Part, int], float] = {}
        self._began_s: dict[str, float] = {}
        self._well_since_s = now_s
        self._stopping_s: float | None = None
        self._worker: Any = None
        self._file: VitalsFile | None = None
        self._said = False
        self._writing = threading.Lock()
        self._ended = False

    def beat(self, part: Part) -> None:
        """A part goes on. To be called in the part's own threads, at least every some seconds."""
        self._beats[part, threading.get_ident()] = time.monotonic()

    def start(self, worker: Any) -> None:
        """Begin to keep the file of Celery's `worker`."""
        self._worker = worker
        self.beat("consumer")
        self._write()
        atexit.register(self.end)
        threading.Thread(target=self._keep, name="liveness", daemon=True).start()

    def stopping(self) -> None:
        """The worker stops gracefully from now on."""
        self._stopping_s = self._stopping_s or time.monotonic()

    def end(self) -> None:
        """Remove the file: the worker has stopped."""
        with self._writing:
            self._ended = True
            if self._file is not None:
                self._file.remove()

    def vitals(self) -> Vitals:
        """What the file says now."""
        now_s = time.monotonic()
        if self._trouble.present:
            self._well_since_s = now_s
        busy = self._running(now_s)
        return Vitals(
            name=str(self._worker.hostname),
            pid=os.getpid(),
            pool=self._worker.pool_cls.__module__.rpartition(".")[2],
            stamped_s=now_s,
            consumer_s=self._last_s("consumer"),
            ticker_s=self._last_s("ticker"),
            busy=len(busy),
            slots=self._worker.concurrency,
            newest_s=max([self._well_since_s, *busy]),
            task_limit_s=self._task_limit_s,
            stopping_s=self._stopping_s,
        )

    def _last_s(self, part: Part) -> float:
        beats = list(self._beats.items())
        lasts = [max(at_s, last_try_s(thread)) for (of, thread), at_s in beats if of == part]
        # The main thread starts the tickers.
        return min(lasts) if lasts else self._last_s("consumer")

    def _running(self, now_s: float) -> list[float]:
        """When each of the running tasks was first seen here, in whichever pool."""
        try:
            ids = [request.id for request in list(celery_state.active_requests)]
        except RuntimeError:  # another thread has changed it: the next look finds them
            return list(self._began_s.values())
        self._began_s = {each: self._began_s.get(each, now_s) for each in ids}
        return list(self._began_s.values())

    def _keep(self) -> None:
        while not self._ended:
            time.sleep(STAMP_S)
            with self._writing:
                if not self._ended:
                    self._write()

    def _write(self) -> None:
        try:
            if self._file is None:
                self._file = VitalsFile(self.vitals())
            else:
                self._file.write(self.vitals())
        except (OSError, UntrustedDirectory) as error:
            if not self._said:
                log.warning("`courier health` cannot see this worker: %s", error)
            self._said = True
