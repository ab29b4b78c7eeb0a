"""Pictures for the documentation, of invented data: `python -m tests.screenshots`.

A real Redis, worker, stand-in and Flower run for it, and a real Chromium takes the pictures.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from pathlib import Path

import redis

from attribute_courier.cli.stage import start_worker
from attribute_courier.config import load_settings
from attribute_courier.producers import Producer
from attribute_courier.sandbox import (
    DEFAULT_API_KEY,
    EmbeddedRedis,
    Fault,
    SandboxConfig,
    SandboxProcess,
)
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.keys import Keys

from .browser import browser, is_there
from .flower import USER, running_flower
from .waiting import wait_until

IMAGES = Path(__file__).parent.parent / "docs" / "images"
KEYS = Keys("default")
PASSWORD = "for-the-pictures"
PHONE, DESK = 390, 1100


def invent_an_hour(client: redis.Redis) -> None:
    """Copies of the counts for each minute of the last hour, as workers would have made them."""
    now = client.hgetall(KEYS.of("counts"))
    counts = {name: int(count) for name, count in now.items()}
    minute = int(time.time()) // 60
    per_minute = {minute - ago: _per_s(ago) * 60 for ago in range(1, 60)}
    total = sum(per_minute.values())
    for name, more in {
        "jobs:live:delivered:": total,
        "jobs:bulk:delivered:": 0,
        "attempts:2xx": total,
        "jobs:live:superseded:": 311,
        "jobs:live:unmatched:no_customer": 24,
        "jobs:live:refused:content": 3,
        "attempts:429": 12,
        "attempts:5xx": 9,
    }.items():
        counts[name] = counts.get(name, 0) + more
    client.hset(KEYS.of("counts"), mapping=counts)
    sofar = 0
    for number in range(minute - 59, minute + 1):
        client.hset(
            KEYS.of("counts", str(number)),
            mapping={"jobs:live:delivered:": sofar, "attempts:2xx": sofar + sofar // 40},
        )
        sofar += per_minute.get(number, 0)


def _per_s(ago_min: int) -> int:
    return round(14 + 9 * math.sin(ago_min / 7) + (22 if 31 < ago_min < 40 else 0))


def main() -> None:
    if not is_there():
        sys.exit("chromium and chromedriver are needed (Debian: chromium, chromium-driver)")
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedRedis(Path(name) / "redis") as server,
        SandboxProcess(
            SandboxConfig(auto_customers="*@load.example"), log=Path(name) / "sandbox.log"
        ) as stand_in,
    ):
        folder = Path(name)
        environ = {
            "COURIER_REDIS_URL": server.url,
            "CHARTMOGUL_API_URL": stand_in.url,
            "CHARTMOGUL_API_KEY": DEFAULT_API_KEY,
            "COURIER_UNMATCHED_DELAYS": "100ms,100ms",
            "COURIER_RATE_LIMIT": "39.2",
        }
        os.environ.update(environ)
        client = redis.Redis.from_url(server.url, decode_responses=True)
        producer = Producer(load_settings())
        stand_in.configure(
            faults=[
                Fault(
                    kind="status",
                    status=422,
                    email="grace@load.example",
                    content='{"errors": {"custom": "key is too long"}}',
                )
            ]
        )
        worker = start_worker(environ, folder / "worker.log")
        people = ("ada", "grace", "hedy", "katherine", "mary", "radia", "sophie", "joan", "edith")
        receipts = [
            producer.add_attributes(f"{name}@load.example", {"channel": "Newsletter", "age": 8})
            for name in people
        ]
        receipts.append(producer.add_attributes("nobody@example.com", {"channel": "Newsletter"}))
        older = producer.add_attributes("ada@load.example", {"channel": "Podcast"})
        for receipt in [*receipts, older]:
            receipt.wait(30)
        invent_an_hour(client)
        with (
            running_flower(environ, folder, password=PASSWORD) as flower,
            browser(folder) as window,
        ):
            window.log_in(USER, PASSWORD)

            def take(name: str, path: str, *, width: int, dark: bool = False, height: int) -> None:
                window.look_like(width=width, dark=dark)
                window.open(flower.url + path)
                if path == "/accounts":
                    wait_until(
                        lambda: "As of" in window.text("#courier-refreshed"), what="it refreshes"
                    )
                window.picture(IMAGES / f"{name}.png", height=height)

            health = AccountHealth(client, KEYS, rate_limit=39.2)
            take("flower-accounts", "/accounts", width=DESK, height=1120)
            take("flower-outcomes", "/outcomes", width=DESK, height=660)
            take("flower-job", f"/outcome/{receipts[1].job_id}", width=DESK, height=760)
            stand_in.configure(faults=[Fault(kind="revoked")])
            for n in range(213):
                producer.add_attributes(f"{n}@load.example", {"plan": "pro"})
            wait_until(lambda: health.status().live.due >= 213, what="they wait")
            take("flower-accounts-paused-dark", "/accounts", width=DESK, dark=True, height=700)
            take("flower-accounts-phone", "/accounts", width=PHONE, height=1100)
        worker.stop(20)


if __name__ == "__main__":
    main()
