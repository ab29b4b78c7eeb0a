"""What a broker that is away would have brought: the worker runs it in threads of its own.

So a broker is needed for speed and for Flower, and not for deliveries: the ticker, which finds what
is to be done, needs Redis alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from celery.exceptions import Retry

log = logging.getLogger(__name__)


class OwnThreads:
    """Runs tasks in this process, a bounded number at a time.

    Args:
        app: whose tasks.
        count: of threads; what comes beyond it is left out, since the ticker asks again.
    """

    def __init__(self, app: Any, count: int) -> None:
        self._app = app
        self._free = threading.BoundedSemaphore(count)
        self._running: set[threading.Thread] = set()
        self._pid = os.getpid()

    def run(self, task: str, account: str) -> None:
        """Run a task for an account, unless all threads are busy or this is a process of a pool."""
        if os.getpid() != self._pid or not self._free.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._work, args=[task, account], name=task, daemon=True)
        self._running.add(thread)
        thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait for what is in flight, after the worker was told to stop."""
        ends_s = time.monotonic() + timeout_s
        for thread in list(self._running):
            thread.join(max(0.0, ends_s - time.monotonic()))

    def _work(self, task: str, account: str) -> None:
        try:
            self._app.tasks[task](account)
        except Retry:
            pass  # it did no good, and says so to Flower alone
        except Exception:
            log.exception("%s met an unexpected error", task)
        finally:
            self._running.discard(threading.current_thread())
            self._free.release()
