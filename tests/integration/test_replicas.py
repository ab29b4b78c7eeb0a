"""COURIER_WAIT_REPLICAS: a job counts as taken when replicas have it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from attribute_courier.config import Settings
from attribute_courier.config.redis_errors import NotReplicatedError
from attribute_courier.jobs.errors import NotEnqueued
from attribute_courier.producers import Producer
from attribute_courier.state.inbox import Entry, Inbox
from attribute_courier.state.keys import Keys
from attribute_courier.state.scripts import Replicas

from ..sentinels import Watched


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A primary and a replica, without Sentinels."""
    with Watched(tmp_path_factory.mktemp("replicated"), replicas=1, sentinels=0) as found:
        yield found


@pytest.fixture
def settings(replicated: Watched) -> Settings:
    primary = replicated.servers[0]
    replicated.client(primary).flushall()
    return Settings(redis_url=primary.url, wait_replicas=1, enqueue_timeout_s=20)


def test_what_was_taken_is_on_the_replica(replicated: Watched, settings: Settings) -> None:
    producer = Producer(settings)
    receipt = producer.add_attributes("ada@example.com", {"n": 1})
    copy = replicated.client(replicated.servers[1])
    assert copy.hexists(Keys("default").inbox, receipt.job_id)
    bulk = producer.add_many([(f"{n}@example.com", {"n": n}) for n in range(3)])
    assert (bulk.enqueued, copy.hlen(Keys("default").inbox)) == (3, 4)
    producer.close()


def test_without_its_word_the_caller_is_told_and_asks_again_until_it_has_it(
    replicated: Watched, settings: Settings
) -> None:
    hurried = replace(settings, enqueue_timeout_s=2)
    primary, replica = replicated.servers
    client = replicated.client(primary)
    replica.pause()
    try:
        for _ in range(2):  # the second time nothing is written, and yet no replica has it
            producer = Producer(hurried)
            with pytest.raises(NotEnqueued, match="0 of 1 replicas") as caught:
                producer.add_attributes("ada@example.com", {"n": 1}, idempotency_key="a")
            producer.close()
        assert "COURIER_WAIT_REPLICAS" in str(caught.value)
        assert client.hlen(Keys("default").inbox) == 1, "it is there, and there once"
    finally:
        replica.resume()
    producer = Producer(settings)
    receipt = producer.add_attributes("ada@example.com", {"n": 1}, idempotency_key="a")
    assert receipt.duplicate
    assert replicated.client(replica).hexists(Keys("default").inbox, receipt.job_id)
    producer.close()


def test_an_inbox_says_it_to_the_relay_of_the_outbox(replicated: Watched) -> None:
    client = replicated.client(replicated.servers[0])
    replicas = Replicas(count=2, within_ms=50)
    inbox = Inbox(client, Keys("other"), retention_s=100, replicas=replicas)
    with pytest.raises(NotReplicatedError, match="of 2 replicas acknowledged it in time"):
        inbox.put("live", [Entry(job_id="a", wire="{}")])
    assert inbox.waiting() == 1
