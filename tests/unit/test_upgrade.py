"""What earlier versions have written is read and delivered by this one.

`fixtures/` holds it, frozen: documents (`wire-v*.json`) and all that an account had in Redis
(`state-*.json`; 0 is of release 0.1.0), each with what must come of it. Fixtures are never changed.
When what is written changes, add one, with a name that sorts after those that are there:

    python -m tests.unit.test_upgrade state-2

and for documents copy the last `wire-v*.json` and write into it what is new. While a fixture stands
here, what it holds can be upgraded from; the CHANGELOG says so when one is taken away.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

from attribute_courier.config.scripts import load_script
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.job import EPOCH, AttributeJob, Lane
from attribute_courier.jobs.keys import Keys
from attribute_courier.jobs.outcome import Outcomes
from attribute_courier.jobs.schema import WIRE_VERSION, dump_wire, load_wire
from attribute_courier.worker.mailboxes import Claim, JobResult, Mailboxes, Settlement
from attribute_courier.worker.replay import Replay
from attribute_courier.worker.upgrade import upgrade

from .test_model import on_test_time

FIXTURES = Path(__file__).parent / "fixtures"
STATES = sorted(path.stem for path in FIXTURES.glob("state-*.json"))
DOCUMENTS = [
    (f"{path.stem}-{name}", each)
    for path in sorted(FIXTURES.glob("wire-v*.json"))
    for name, each in json.loads(path.read_text("utf-8")).items()
]
KEYS = Keys("default")
ADA, BOB, EVE, GRACE = (f"{name}@example.com" for name in ("ada", "bob", "eve", "grace"))
MADE_US = 1_772_357_400_000_000


class Account:
    """An account at a time of the test's own."""

    def __init__(self, client: redis.Redis, now_us: int) -> None:
        self.client: Any = client
        client.set("clock", now_us)
        upgrade(client, KEYS)
        self.enqueue = load_script(client, "attribute_courier.producers", "enqueue.lua")
        self.boxes = Mailboxes(client, KEYS, lease_s=25, retention_s=1000, rate_limit=10_000)
        self.outcomes = Outcomes(client, KEYS)
        self.replay = Replay(client, KEYS)

    def accept(self) -> None:
        taken = self.boxes.take(limit=100, within_s=5)
        self.boxes.stage([load_wire(*each) for each in taken])

    def claims(self) -> list[Claim]:
        leases, _ = self.boxes.release(max_parallel=20)
        found = [self.boxes.claim(lease.mailbox_id, lease.token) for lease in leases]
        return [claim for claim in found if claim]

    def settle(self, claim: Claim, status: Any, **fields: str | int) -> bool:
        results = [JobResult(job_id=job.job_id, status=status, fields=fields) for job in claim.jobs]
        seen = {value.attribute.key for value in claim.values} if status == "delivered" else set()
        retry_s = 60 if status == "pending" else 0
        settlement = Settlement(
            jobs=tuple(results),
            seen=frozenset(seen),
            retry_s=retry_s,
            rest_s=retry_s,
            failures=1 if retry_s else 0,
        )
        return self.boxes.settle_call(claim, settlement)() is not None


@pytest.mark.parametrize(
    ("wire", "read"), [(x["wire"], x["read"]) for _, x in DOCUMENTS], ids=[n for n, _ in DOCUMENTS]
)
def test_a_document_of_an_earlier_version_is_the_same_job(wire: str, read: dict[str, Any]) -> None:
    job = load_wire(read["job_id"], wire)
    assert {
        "job_id": job.job_id,
        "email": job.email,
        "attributes": [attribute.as_dict() for attribute in job.attributes],
        "occurred_at": job.occurred_at.isoformat(),
        "lane": job.lane,
        "only_changed": job.only_changed,
        "idempotency_key": job.idempotency_key,
    } == read


def test_each_version_has_its_fixtures() -> None:
    assert {path.stem for path in FIXTURES.glob("wire-v*.json")} == {
        f"wire-v{n}" for n in range(1, WIRE_VERSION + 1)
    }
    assert STATES


@pytest.mark.parametrize("name", STATES)
def test_what_an_earlier_version_left_in_redis_is_delivered(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fixture = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    load(client, fixture["redis"])
    on_test_time(client, monkeypatch)
    account = Account(client, fixture["made_us"] + 3600 * 1_000_000)
    for job_id in fixture["replayed"]:
        assert account.replay.job(job_id)
    account.accept()
    sent: dict[str, dict[str, Any]] = {}
    while claims := account.claims():
        for claim in claims:
            assert claim.email not in sent, "one request for each email"
            sent[claim.email] = {v.attribute.key: v.attribute.value for v in claim.values}
            assert account.settle(claim, "delivered")
    assert sent == fixture["sent"]
    job_ids = list(fixture["outcomes"])
    assert account.outcomes.statuses(job_ids) == list(fixture["outcomes"].values())
    listed = [found.job_id for email in sent for found in account.outcomes.of_email(email)]
    assert sorted(listed) == sorted(job_ids)


@pytest.mark.parametrize("name", STATES[-1:])
def test_the_latest_fixture_has_the_keys_that_are_written_now(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Else it is time for a new one: see above."""
    fixture = json.loads((FIXTURES / f"{name}.json").read_text("utf-8"))
    kept, written = fixture["redis"], made(monkeypatch)["redis"]
    assert {key: form(each) for key, each in kept.items()} == {
        key: form(each) for key, each in written.items()
    }


def form(kept: dict[str, Any]) -> Any:
    """A key's type and the names of its fields; what they hold differs from time to time."""
    return kept["type"], sorted(kept["holds"]) if kept["type"] == "hash" else len(kept["holds"])


def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an account may have in Redis, as today's code leaves it, and what must come of it."""
    client = fakeredis.FakeRedis(decode_responses=True)
    on_test_time(client, monkeypatch)
    account = Account(client, MADE_US)
    jobs: list[AttributeJob] = []

    def produce(email: str, *, ago_s: int, lane: Lane = "live", **values: Any) -> str:
        job = AttributeJob(
            job_id=f"01a2082a-52c7-7d95-a474-{len(jobs):012}",
            email=email,
            attributes=tuple(
                Attribute.of("Integer" if isinstance(value, int) else "String", value, key=key)
                for key, value in values.items()
            ),
            occurred_at=EPOCH + timedelta(microseconds=MADE_US) - timedelta(seconds=ago_s),
            lane=lane,
        )
        jobs.append(job)
        args = [lane, 1000, job.job_id, dump_wire(job), KEYS.idempotency(job.job_id)]
        account.enqueue(keys=[KEYS.prefix], args=args)
        return job.job_id

    delivered = produce(ADA, ago_s=90, plan="free", city="Ulm")
    account.accept()
    (claim,) = account.claims()
    account.settle(claim, "delivered", http_status="200", customers='[["cus_1","ada"]]')

    refused = produce(EVE, ago_s=80, tier="gold")
    account.accept()
    (claim,) = account.claims()
    account.settle(claim, "refused", document=dump_wire(jobs[-1]), message="is bad")

    retried = produce(EVE, ago_s=70, age=8)
    account.accept()
    (claim,) = account.claims()
    account.settle(claim, "pending", failing_since=claim.now_us, attempts=1)

    in_flight = produce(BOB, ago_s=60, lane="bulk", plan="pro")
    account.accept()
    account.claims()  # and the worker is no more
    waiting = [
        produce(ADA, ago_s=50, plan="pro", seats=3),
        produce(ADA, ago_s=40, lane="bulk", seats=4),
    ]
    account.accept()
    older = produce(ADA, ago_s=95, city="Bonn")
    produced = produce(GRACE, ago_s=30, lane="bulk", plan="Größe 😀")

    good = [delivered, refused, retried, in_flight, *waiting, produced]
    return {
        "made_us": MADE_US,
        "redis": dump(client),
        "replayed": [refused],
        "sent": {
            ADA: {"plan": "pro", "seats": 4},
            BOB: {"plan": "pro"},
            EVE: {"age": 8, "tier": "gold"},
            GRACE: {"plan": "Größe 😀"},
        },
        "outcomes": dict.fromkeys(good, "delivered") | {older: "superseded"},
    }


def dump(client: Any) -> dict[str, Any]:
    read = {
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "list": lambda key: client.lrange(key, 0, -1),
        "stream": client.xrange,
        "string": client.get,
    }
    return {
        key: {
            "type": client.type(key),
            "ends": client.ttl(key) > 0,
            "holds": read[client.type(key)](key),
        }
        for key in sorted(client.keys(KEYS.prefix + "*"))
    }


def load(client: Any, kept: dict[str, Any]) -> None:
    write = {
        "hash": lambda key, holds: client.hset(key, mapping=holds),
        "zset": lambda key, holds: client.zadd(key, dict(holds)),
        "list": lambda key, holds: client.rpush(key, *holds),
        "stream": lambda key, holds: [client.xadd(key, fields, id=id_) for id_, fields in holds],
        "string": client.set,
    }
    for key, each in kept.items():
        write[each["type"]](key, each["holds"])
        if each["ends"]:
            client.expire(key, 1000)


if __name__ == "__main__":
    target = FIXTURES / f"{sys.argv[1]}.json"
    with pytest.MonkeyPatch.context() as patch, target.open("x", encoding="utf-8") as file:
        json.dump(made(patch), file, ensure_ascii=False, indent=1)
        file.write("\n")
