"""Hooks: what became of each job is told, whatever happens to workers, Redis and the receiver."""

from __future__ import annotations

import base64
import json
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import count

import pytest
from celery import Celery

from attribute_courier.producers import Receipt
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault
from attribute_courier.state.hooks import Hooks

from ..conftest import Courier
from ..hook_receiver import SECRET, HookReceiver, Told
from ..waiting import wait_until

CHAOS_S = float(os.environ.get("HOOK_CHAOS_S", "4"))
"""How long the receiver fails and workers are killed; `HOOK_CHAOS_S=60` for longer."""
ADA = "ada@example.com"


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


def enqueue(courier: Courier, emails: int, numbers: Iterator[int]) -> list[Receipt]:
    return [
        courier.producer.add_attributes(f"{n % emails}@load.example", {"n": n})
        for n in (next(numbers) for _ in range(emails))
    ]


def test_every_settled_job_reaches_a_receiver_that_fails_while_workers_are_killed(
    courier: Courier, receiver: HookReceiver
) -> None:
    draw, numbers = random.Random(7), count()
    receiver.fail_at_random(0.5)
    receipts: list[Receipt] = []
    workers = [courier.start_worker(**receiver.environ) for _ in range(2)]
    ends_s = time.monotonic() + CHAOS_S
    while time.monotonic() < ends_s or len(receipts) < 150:
        receipts += enqueue(courier, 30, numbers)
        time.sleep(draw.uniform(0.2, 0.6))
        if time.monotonic() < ends_s:
            workers.pop(draw.randrange(len(workers))).kill()
            workers.append(courier.start_worker(**receiver.environ))
    courier.wait(*receipts, timeout_s=60)
    receiver.answer = lambda told: 200
    expected = {receipt.job_id for receipt in receipts}
    wait_until(lambda: told_ids(receiver) >= expected, timeout_s=90, what="all are told")
    refused = [told for told in receiver.asked if told.answered != 200]
    assert len(refused) > 10, "the receiver failed now and then"
    assert receiver.bad_signatures == 0
    assert in_order(courier, receiver) == []
    assert {told.job_id: told.data["status"] for told in receiver.taken()} == dict(stream(courier))


def in_order(courier: Courier, receiver: HookReceiver) -> list[str]:
    """What was told out of order, by the order of the stream of each email's settled jobs."""
    email_of = {
        outcome.job_id: outcome.email
        for outcome in courier.outcomes.many([job for job, _ in stream(courier)])
        if outcome
    }
    settled, told = defaultdict(list), defaultdict(list)
    for job, _ in stream(courier):
        settled[email_of[job]].append(job)
    for each in receiver.taken():
        told[email_of[each.job_id]].append(each.job_id)
    return [
        f"{email}: {told[email]} for {jobs}"
        for email, jobs in settled.items()
        if told[email] != jobs
    ]
