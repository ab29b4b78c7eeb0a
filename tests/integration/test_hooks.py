"""Hooks: what became of each job is told, whatever happens to workers, Redis and the receiver."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count

import pytest

from attribute_courier.config import load_settings
from attribute_courier.operate.picture import look
from attribute_courier.producers import Receipt
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault
from attribute_courier.state.hooks import Hooks

from ..conftest import Courier
from ..hook_receiver import Answer, HookReceiver, Told
from ..waiting import wait_until

CHAOS_S = float(os.environ.get("HOOK_CHAOS_S", "4"))
"""How long the receiver fails and workers are killed; `HOOK_CHAOS_S=60` for longer."""
ADA = "ada@example.com"
EMAILS = 30


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with HookReceiver() as found:
        yield found


def told_ids(receiver: HookReceiver) -> set[str]:
    return {told.job_id for told in receiver.taken()}


def stream(courier: Courier) -> list[tuple[str, str]]:
    """Each settled job with its status, in order."""
    entries = courier.client.xrange(courier.keys.outcomes)
    return [(fields["job"], fields["status"]) for _, fields in entries]  # type: ignore[union-attr]


def enqueue(courier: Courier, numbers: Iterator[int], jobs: int = EMAILS) -> list[Receipt]:
    return [
        courier.producer.add_attributes(f"{n % EMAILS}@load.example", {"n": n})
        for n in (next(numbers) for _ in range(jobs))
    ]


def out_of_order(courier: Courier, receiver: HookReceiver) -> list[str]:
    """Emails of which something was told in another order than it was settled."""
    entries = stream(courier)
    outcomes = courier.outcomes.many([job for job, _ in entries])
    email_of = {outcome.job_id: str(outcome.email) for outcome in outcomes if outcome}
    settled: dict[str, list[str]] = defaultdict(list)
    told: dict[str, list[str]] = defaultdict(list)
    for job, _ in entries:
        settled[email_of[job]].append(job)
    for each in receiver.taken():
        told[email_of[each.job_id]].append(each.job_id)
    return [email for email, jobs in settled.items() if told[email] != jobs]


@pytest.mark.long
def test_every_settled_job_reaches_a_receiver_that_fails_while_workers_are_killed(
    courier: Courier, receiver: HookReceiver
) -> None:
    """And in order for each email."""
    draw, numbers = random.Random(7), count()
    receiver.fail_at_random(0.5)
    receipts: list[Receipt] = []
    workers = [courier.start_worker(**receiver.environ) for _ in range(2)]
    ends_s = time.monotonic() + CHAOS_S
    while time.monotonic() < ends_s or len(receipts) < 5 * EMAILS:
        receipts += enqueue(courier, numbers)
        time.sleep(draw.uniform(0.2, 0.6))
        if time.monotonic() < ends_s:
            workers.pop(draw.randrange(len(workers))).kill()
            workers.append(courier.start_worker(**receiver.environ))
    courier.wait(*receipts, timeout_s=60)
    receiver.answer = lambda told: 200
    expected = {receipt.job_id for receipt in receipts}
    wait_until(lambda: told_ids(receiver) >= expected, timeout_s=90, what="all are told")
    assert len([told for told in receiver.asked if told.answered != 200]) > 10, "it failed at times"
    assert receiver.bad_signatures == 0
    assert out_of_order(courier, receiver) == []
    assert {told.job_id: told.data["status"] for told in receiver.taken()} == dict(stream(courier))


def test_workers_killed_between_settling_and_telling_and_while_they_tell(
    courier: Courier, receiver: HookReceiver
) -> None:
    Hooks(courier.client, courier.keys).begin()  # as a worker does that has hooks
    settles = courier.start_worker()
    first = courier.producer.add_attributes(ADA, {"n": 1})
    courier.wait(first)
    settles.kill()  # it told nobody

    hangs = threading.Event()
    receiver.answer = lambda told: 200 if hangs.wait(30) else 500
    tells = courier.start_worker(**receiver.environ)
    second = courier.producer.add_attributes(ADA, {"n": 2})
    courier.wait(second)
    wait_until(lambda: receiver.under_way, what="it is being told")
    tells.kill()
    receiver.answer = lambda told: 200
    courier.start_worker(**receiver.environ)
    wait_until(lambda: told_ids(receiver) == {first.job_id, second.job_id})
    hangs.set()
    assert [told.job_id for told in receiver.taken()] == [first.job_id, second.job_id]


def test_redis_killed_and_restarted_meanwhile(courier: Courier, receiver: HookReceiver) -> None:
    receiver.fail_at_random(0.2)
    courier.start_worker(**receiver.environ)
    numbers = count()
    receipts = enqueue(courier, numbers)
    wait_until(lambda: len(told_ids(receiver)) >= 5, what="it is under way")
    wait_until(lambda: courier.client.info("persistence")["aof_pending_bio_fsync"] == 0)  # type: ignore[index]
    courier.server.kill()
    courier.server.start()
    receipts += enqueue(courier, numbers)
    courier.wait(*receipts, timeout_s=60)
    receiver.answer = lambda told: 200
    settled = {job for job, _ in stream(courier)}
    wait_until(lambda: told_ids(receiver) >= settled, timeout_s=60, what="all are told")
    assert "Traceback" not in courier.log()


@pytest.mark.long
def test_an_operator_sees_a_receiver_that_is_down(courier: Courier, receiver: HookReceiver) -> None:
    def found() -> list[str]:
        problems = look(courier.client, load_settings()).problems
        return [problem.text for problem in problems if problem.code == "hook_failing"]

    receiver.answer = lambda told: 503
    courier.start_worker(**receiver.environ)
    courier.wait(*enqueue(courier, count()))
    [text] = wait_until(found, timeout_s=15)
    assert "503" in text


VALUE = "Facebook-ads-7"
DOMAIN = "@corp.example"
REFUSAL = {"errors": {"custom": f"re.fused{DOMAIN}: '{VALUE}' is no good with {DEFAULT_API_KEY}"}}


@pytest.mark.parametrize("chosen", [False, True])
def test_no_hook_shows_what_is_private(
    courier: Courier, receiver: HookReceiver, *, chosen: bool
) -> None:
    """But the email where that was chosen."""
    names = ("deli.vered", "re.fused", "re.voked", "un.matched")
    courier.stand_in.configure(
        customers=[f"{name}{DOMAIN}" for name in names[:3]],
        faults=[
            Fault(
                kind="status", status=422, email=f"{names[1]}{DOMAIN}", content=json.dumps(REFUSAL)
            ),
            Fault(kind="status", status=401, email=f"{names[2]}{DOMAIN}", count=1),
        ],
    )
    password = "hush-never-shown"
    url = receiver.url.replace("://", f"://ada:{password}@")
    environ = {**receiver.environ, "COURIER_HOOK_URL": url, "COURIER_HOOK_EMAIL": str(chosen)}
    flaky = count()

    def answer(told: Told) -> Answer:
        assert told.headers["authorization"].startswith("Basic ")
        return None if next(flaky) % 3 == 0 else 200

    receiver.answer = answer
    courier.start_worker(**environ)
    receipts = [
        courier.producer.add_attributes(f"{name}{DOMAIN}", {"channel": VALUE}) for name in names
    ]
    outcomes = courier.wait(*receipts)
    assert {outcome.status for outcome in outcomes} == {"delivered", "refused", "unmatched"}
    wait_until(lambda: len(receiver.taken()) == len(names))
    wait_until(lambda: receiver.taken("account.resumed"))
    assert receiver.taken("account.paused")
    shown = " ".join(told.raw.decode() for told in receiver.asked).lower()
    for text in (VALUE, DEFAULT_API_KEY, password):
        assert text.lower() not in shown + courier.log().lower()
    for name in names:
        assert (name in shown) == chosen
        assert name not in courier.log()
    kept = {
        key: courier.client.dump(key) for key in courier.client.scan_iter(courier.keys.of("hooks*"))
    }
    assert kept
    assert not [key for key, content in kept.items() if b"corp" in content]
