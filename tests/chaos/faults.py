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
from urllib.parse import urlsplit

import redis

from attribute_courier.sandbox import Fault, LeashedProcess, SandboxProcess

from ..clocks import SteppedRedis
from ..proxy import Proxy
from ..rabbitmq import RabbitMQ
from ..waiting import wait_until
from .asks import CULPRITS, DAMAGED, PICKY

EVERYDAY = (
    *(Fault(kind="status", status=422, probability=0.3, email=email) for email in PICKY),
    *(
        Fault(kind="status", status=502 if n else 500, email=email)
        for n, email in enumerate(CULPRITS)
    ),
    Fault(kind="status", status=500, probability=0.05, endpoint="attributes"),
    Fault(kind="drop_before", probability=0.03, endpoint="attributes"),
    Fault(kind="drop_after", probability=0.03, endpoint="attributes"),
    # Past the timeout of 1 s, and over before twice of it: for so long the courier lets an email
    # rest whose request was lost.
    Fault(kind="latency", probability=0.04, seconds=1.5, endpoint="attributes"),
)
"""Strikes all the time, besides what the tracks do."""


class DurableRedis(SteppedRedis):
    """Every write is in the file before it is answered, so a kill loses nothing that was promised.

    With `everysec`, as the embedded server runs otherwise, a write may be held back for two seconds
    while the file is synced.
    """

    def _options(self, port: int) -> list[str]:
        return [*super()._options(port), "--appendfsync", "always"]


class Pair:
    """The primary behind one address, and whoever takes its place."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._count = 0
        self.primary = self._one()
        self._proxy = Proxy(self.primary.url)
        self._proxy.__enter__()

    @property
    def url(self) -> str:
        return self._proxy.url

    def fail_over(self) -> None:
        """A replica takes over, with all that was written, and the old primary becomes a replica.

        Open connections stay with the old one, as they do when a name or an address is moved.
        """
        old, new = self.primary, self._one(self.primary.password)
        with redis.Redis.from_url(old.url) as before, redis.Redis.from_url(new.url) as after:
            for client in (before, after):
                client.config_set("primaryauth", old.password)
            host, port = _address(old.url)
            after.replicaof(host, port)
            wait_until(lambda: after.info("replication")["master_link_status"] == "up")  # type: ignore[index]
            before.execute_command("FAILOVER", "TO", *_address(new.url))
            wait_until(lambda: after.info("replication")["role"] == "master")  # type: ignore[index]
        self.primary = new
        self._proxy.lead_to(new.url)
        self._retired.append(old)
        for each in self._retired[:-1]:
            each.stop()

    def stop(self) -> None:
        self._proxy.__exit__(None, None, None)
        for each in (*self._retired, self.primary):
            each.stop()

    def _one(self, password: str | None = None) -> DurableRedis:
        if not self._count:
            self._retired: list[DurableRedis] = []
        self._count += 1
        server = DurableRedis(self._home / f"redis-{self._count}", password=password)
        server.start()
        return server


def _address(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return str(parts.hostname), str(parts.port)


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
        self,
        crew: Crew,
        pair: Pair,
        stand_in: SandboxProcess,
        damage: Callable[[str, random.Random], None],
        *,
        seed: int,
        node: RabbitMQ | None = None,
    ) -> None:
        self.injected: Counter[str] = Counter()
        self._crew, self._pair, self._stand_in, self._seed = crew, pair, stand_in, seed
        self._damage = damage
        self._node = node

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
        servers: list[Fate] = [
            ("Redis killed (SIGKILL), and started again", self._kill_redis),
            ("Redis paused (SIGSTOP) for 1 to 4 s", self._pause_redis),
            ("failover to a replica", lambda draw: self._pair.fail_over()),
        ]
        if self._pair.primary.can_step:
            servers.append(("Redis's clock stepped by up to 45 s, and back", self._step_clock))
        damages: list[Fate] = [("a key of an email damaged", self._damage_a_key)]
        account: list[Fate] = [
            ("burst of 429", self._many_429),
            ("key revoked, or plan expired, or forbidden", self._fault_of_account),
            ("hidden lower limit", self._hidden_limit),
        ]
        tracks = [(5, workers), (6, servers), (8, account), (10, freezes), (4, damages)]
        if self._node is not None:
            broker: list[Fate] = [("RabbitMQ killed (SIGKILL), and started again", self._kill_node)]
            tracks.append((5, broker))
        with ThreadPoolExecutor(len(tracks)) as threads:
            running = [
                # In a short run with short breaks, so that it meets something of each.
                threads.submit(self._follow, number, min(break_s, seconds / 3), fates)
                for number, (break_s, fates) in enumerate(tracks)
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
        self._pair.primary.kill()
        time.sleep(draw.uniform(0, 2))
        self._pair.primary.start()

    def _kill_node(self, draw: random.Random) -> None:
        assert self._node is not None
        self._node.kill()
        time.sleep(draw.uniform(0, 4))
        self._node.start()

    def _pause_redis(self, draw: random.Random) -> None:
        self._pair.primary.pause()
        time.sleep(draw.uniform(1, 4))
        self._pair.primary.resume()

    def _step_clock(self, draw: random.Random) -> None:
        self._pair.primary.step_to(draw.uniform(-45, 45))
        time.sleep(draw.uniform(0.5, 4))
        self._pair.primary.step_to(0)

    def _damage_a_key(self, draw: random.Random) -> None:
        self._damage(draw.choice(DAMAGED), draw)

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
