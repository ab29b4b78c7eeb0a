"""What goes wrong in a run: tracks side by side, each drawn from the seed."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attribute_courier.sandbox import EmbeddedRedis, Fault, LeashedProcess, SandboxProcess

from .asks import PICKY

EVERYDAY = (
    *(Fault(kind="status", status=422, probability=0.3, email=email) for email in PICKY),
    Fault(kind="status", status=500, probability=0.05, endpoint="attributes"),
    Fault(kind="drop_before", probability=0.03, endpoint="attributes"),
    Fault(kind="drop_after", probability=0.03, endpoint="attributes"),
    # Past the timeout of 1 s, and over before twice of it: for so long the courier lets an email
    # rest whose request was lost.
    Fault(kind="latency", probability=0.04, seconds=1.5, endpoint="attributes"),
)
"""Strikes all the time, besides what the tracks do."""


class DurableRedis(EmbeddedRedis):
    """Every write is in the file before it is answered, so a kill loses nothing that was promised.

    With `everysec`, as the embedded server runs otherwise, a write may be held back for two seconds
    while the file is synced.
    """

    def _options(self, port: int) -> list[str]:
        return [*super()._options(port), "--appendfsync", "always"]


class Crew:
    """Worker processes, each with a log of its own. One that ends by itself is replaced."""

    def __init__(self, start_one: Callable[[Path, int], LeashedProcess], logs: Path) -> None:
        self.ended: Counter[str] = Counter()
        self._start_one, self._logs = start_one, logs
        self._at_work: list[LeashedProcess] = []
        self._all: list[LeashedProcess] = []
        self._lock = threading.Lock()

    def start(self, count: int) -> None:
        for _ in range(count):
            number = len(self._all) + 1
            worker = self._start_one(self._logs / f"worker-{number}.log", number)
            self._at_work.append(worker)
            self._all.append(worker)

    def replace(self, draw: random.Random, number: signal.Signals) -> None:
        """Send one of the workers a signal that ends it, and start another."""
        with self._lock:
            self._at_work.pop(draw.randrange(len(self._at_work))).send(number)
            self.start(1)

    def freeze(self, draw: random.Random, seconds: float) -> None:
        """Stop one of the workers in the middle of whatever it does, and let it go on."""
        with self._lock:
            worker = draw.choice(self._at_work)
        worker.send(signal.SIGSTOP)
        time.sleep(seconds)
        worker.send(signal.SIGCONT)

    def mend(self) -> None:
        """Replace workers that ended though nobody asked them to."""
        with self._lock:
            for worker in [each for each in self._at_work if not each.running]:
                self.ended["worker ended by itself: none of the faults, but a defect"] += 1
                self._at_work.remove(worker)
                self.start(1)

    def kill(self) -> None:
        """Leave no process behind."""
        for worker in self._all:
            if worker.running:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.kill()

    def log(self) -> str:
        """All that the workers have said."""
        return "".join(path.read_text("utf-8") for path in self._logs.glob("worker-*.log"))


Fate = tuple[str, Callable[[random.Random], None]]
"""A fault's name, and what makes it happen."""


class Chaos:
    """Lets things go wrong for some seconds; afterwards everything works again."""

    def __init__(
        self, crew: Crew, server: EmbeddedRedis, stand_in: SandboxProcess, *, seed: int
    ) -> None:
        self.injected: Counter[str] = Counter()
        self._crew, self._server, self._stand_in, self._seed = crew, server, stand_in, seed

    def run(self, seconds: float) -> None:
        self._end_s = time.monotonic() + seconds
        workers: list[Fate] = [
            ("worker killed (SIGKILL)", lambda draw: self._crew.replace(draw, signal.SIGKILL)),
            ("worker stopped (SIGTERM)", lambda draw: self._crew.replace(draw, signal.SIGTERM)),
        ]
        freezes: list[Fate] = [
            # Longer, too, than a lease of 7 s.
            (
                "worker frozen (SIGSTOP) for 1 to 10 s",
                lambda draw: self._crew.freeze(draw, draw.uniform(1, 10)),
            ),
        ]
        redis: list[Fate] = [
            ("Redis killed (SIGKILL), and started again", self._kill_redis),
            ("Redis paused (SIGSTOP) for 1 to 4 s", self._pause_redis),
        ]
        account: list[Fate] = [
            ("burst of 429", self._many_429),
            ("key revoked, or plan expired, or forbidden", self._fault_of_account),
            ("hidden lower limit", self._hidden_limit),
        ]
        with ThreadPoolExecutor(4) as threads:
            running = [
                # In a short run with short breaks, so that it meets something of each.
                threads.submit(self._follow, number, min(break_s, seconds / 3), fates)
                for number, (break_s, fates) in enumerate(
                    [(5, workers), (12, redis), (8, account), (10, freezes)]
                )
            ]
            while not all(each.done() for each in running):
                self._crew.mend()
                time.sleep(0.2)
            for each in running:
                each.result()

    def _follow(self, number: int, break_s: float, fates: Sequence[Fate]) -> None:
        """With breaks of up to `break_s` seconds; each once before one comes again."""
        draw = random.Random(f"{self._seed}/faults/{number}")
        while True:
            for name, happen in draw.sample(fates, len(fates)):
                pause_s = draw.uniform(1, break_s)
                time.sleep(max(0.0, min(pause_s, self._end_s - time.monotonic())))
                if time.monotonic() >= self._end_s:
                    return
                happen(draw)
                self.injected[name] += 1

    def _kill_redis(self, draw: random.Random) -> None:
        self._server.kill()
        time.sleep(draw.uniform(0, 2))
        self._server.start()

    def _pause_redis(self, draw: random.Random) -> None:
        self._server.pause()
        time.sleep(draw.uniform(1, 4))
        self._server.resume()

    def _many_429(self, draw: random.Random) -> None:
        burst = Fault(kind="status", status=429, count=draw.randint(3, 15))
        self._meanwhile(draw, burst, retry_after=draw.choice([None, "seconds"]))

    def _fault_of_account(self, draw: random.Random) -> None:
        self._meanwhile(draw, Fault(kind=draw.choice(["revoked", "expired", "forbidden"])))

    def _hidden_limit(self, draw: random.Random) -> None:
        self._meanwhile(draw, hidden_rate_limit=draw.randint(4, 12))

    def _meanwhile(self, draw: random.Random, *faults: Fault, **settings: object) -> None:
        """For some seconds, besides what strikes every day."""
        seed = draw.randrange(2**32)  # all faults draw anew from it when they are set
        self._stand_in.configure(faults=[*faults, *EVERYDAY], seed=seed, **settings)
        time.sleep(draw.uniform(1, 4))
        usual: dict[str, object] = {"retry_after": None, "hidden_rate_limit": None}
        self._stand_in.configure(faults=EVERYDAY, seed=seed + 1, **usual)
