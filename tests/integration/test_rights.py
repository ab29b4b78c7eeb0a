"""ACL users with the rights that docs/redis.md lists: they are enough, and each is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from attribute_courier.config.redis_url import parse_redis_url
from attribute_courier.config.settings import Settings
from attribute_courier.jobs.errors import NotEnqueued
from attribute_courier.producers import Producer
from attribute_courier.sandbox import EmbeddedRedis
from attribute_courier.state.keys import Keys
from attribute_courier.state.rights import missing_rights
from attribute_courier.state.scripts import source

from ..conftest import Courier
from ..waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "redis.md").read_text("utf-8")


def listed(who: str) -> list[str]:
    [found] = re.findall(rf"^```text {who}\n(.*?)^```$", PAGE, re.M | re.S)
    return str(found).split()


UrlOf = Callable[[str, list[str]], str]


@pytest.fixture
def url_of(server: EmbeddedRedis) -> Iterator[UrlOf]:
    """Makes a user with such rights, and gives its URL."""
    users = set()
    with redis.Redis.from_url(server.url) as admin:
        admin.acl_log_reset()

        def url(user: str, rights: list[str]) -> str:
            admin.execute_command("ACL", "SETUSER", user, "reset", "on", ">s3cr3t", *rights)  # type: ignore[no-untyped-call]
            users.add(user)
            return server.url.replace(f":{server.password}@", f"{user}:s3cr3t@")

        yield url
        admin.acl_deluser(*users)


def courier_command(courier: Courier, url: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "attribute_courier", *args],
        env={**courier.environ, "COURIER_REDIS_URL": url, "COURIER_ACCOUNT": "default"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_listed_rights_are_enough(courier: Courier, url_of: UrlOf) -> None:
    courier.start_worker(COURIER_REDIS_URL=url_of("worker", listed("worker")))
    producer = Producer(Settings(redis_url=url_of("producer", listed("producer"))))
    receipt = producer.add_attributes("0@load.example", {"n": 1}, idempotency_key="x")
    assert receipt.wait(20).status == "delivered"
    assert producer.outcomes("0@load.example")
    assert producer.add_many([("1@load.example", {"n": 1})]).enqueued == 1
    late = producer.add_attributes("nobody@absent.example", {"n": 1}, lane="bulk")
    producer.cancel(late.job_id)
    producer.forget("1@load.example")
    late.wait(20)
    producer.close()
    watcher = url_of("watcher", listed("watcher"))
    assert "default" in courier_command(courier, watcher, "status")
    assert receipt.job_id in courier_command(courier, watcher, "outcomes")
    doctor = courier_command(courier, url_of("worker", listed("worker")), "doctor")
    assert "may do all that is needed" in doctor
    assert "NOPERM" not in courier.log()
    refused = [each["object"] for each in courier.client.acl_log()]
    assert not refused


@pytest.mark.parametrize("right", listed("worker"))
def test_one_right_less_is_named(server: EmbeddedRedis, url_of: UrlOf, right: str) -> None:
    rights = [each for each in listed("worker") if each != right]
    with redis.Redis.from_url(url_of("worker", rights), decode_responses=True, protocol=2) as user:
        of_producers, of_workers = missing_rights(
            user, Keys("default"), parse_redis_url(server.url)
        )
    assert of_producers + of_workers == [right]
    assert (of_producers == [right]) is (right in listed("producer"))


def test_a_producer_and_a_worker_that_lack_one_say_so(courier: Courier, url_of: UrlOf) -> None:
    producer = Producer(
        Settings(redis_url=url_of("producer", [r for r in listed("producer") if r != "+zadd"]))
    )
    with pytest.raises(NotEnqueued, match="zadd") as caught:
        producer.add_attributes("0@load.example", {"n": 1})
    assert " ".join(listed("producer")) in str(caught.value)
    producer.close()
    rights = [right for right in listed("worker") if right != "+zpopmin"]
    courier.start_worker(COURIER_REDIS_URL=url_of("worker", rights))
    receipt = courier.producer.add_attributes("0@load.example", {"n": 1})
    wait_until(lambda: "zpopmin" in courier.log(), what="the worker says what it lacks")
    assert " ".join(listed("worker")) in courier.log()
    url_of("worker", listed("worker"))
    assert receipt.wait(20).status == "delivered"


def test_each_command_of_a_script_is_listed() -> None:
    names = [each.stem for each in (ROOT / "state" / "lua").glob("[!_]*.lua")]
    called = {
        f"+{command.lower()}"
        for name in names
        for command in re.findall(r"redis\.p?call\('([A-Za-z]+)'", source(name))
    }
    assert len(called) > 20
    assert called <= set(listed("worker"))
