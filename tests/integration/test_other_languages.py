"""docs/wire-format.md from another language: its files and commands run as they are printed."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from attribute_courier.config.messages import ACCEPT_QUEUE, ACCEPT_TASK, KEY_PREFIX
from attribute_courier.jobs.outcome import Outcome

from ..conftest import Courier
from ..programs import NODE_MODULES, node_with, program
from ..waiting import wait_until

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+) (\S+)\n(.*?)^```$", PAGE, re.M | re.S)
FILES = {name: text for language, name, text in BLOCKS if "." in name}
SESSIONS = [text for language, name, text in BLOCKS if (language, name) == ("console", "redis-cli")]
FIRST_JOB = next(text for language, name, text in BLOCKS if (language, name) == ("json", "job"))
QUEUE = KEY_PREFIX + ACCEPT_QUEUE
IOREDIS = "ioredis@6.0.0"


@pytest.fixture
def folder(courier: Courier, tmp_path: Path) -> Path:
    """With the files of the page, as somebody who follows it has saved them."""
    folder = tmp_path / "publisher"
    folder.mkdir()
    for name, text in (FILES | {"job.json": FIRST_JOB}).items():
        (folder / name).write_text(text, "utf-8")
    (folder / "redis-password").write_text(courier.server.password + "\n")
    return folder


def settled(courier: Courier, job_id: str) -> Outcome:
    def found() -> Outcome | None:
        outcome = courier.outcomes.get(job_id)
        return outcome if outcome and outcome.settled else None

    return wait_until(found, timeout_s=40, what=f"job {job_id} is settled")


def assert_it_wakes(courier: Courier) -> None:
    """A worker that starts now takes the one message, and does what it asks for."""
    [message] = courier.client.lrange(QUEUE, 0, -1)
    message_id = json.loads(message)["headers"]["id"]
    assert str(UUID(message_id)) == message_id
    courier.start_worker()
    task = re.escape(f"Task {ACCEPT_TASK}[{message_id}]")
    wait_until(
        lambda: re.search(rf"{task} received.*{task} succeeded", courier.log(), re.S),
        timeout_s=40,
        what="the wake-up's task has run",
    )
    assert "is no task" not in courier.log()


def test_the_page_names_the_queue_and_the_task_as_the_code_does() -> None:
    assert set(re.findall(rf"{KEY_PREFIX}[\w.]+", PAGE)) == {QUEUE}
    message = json.loads(FILES["wake-up.json"])
    assert message["headers"]["task"] == ACCEPT_TASK
    assert message["properties"]["delivery_info"]["routing_key"] == ACCEPT_QUEUE


def test_redis_cli_publishes_and_wakes(courier: Courier, folder: Path) -> None:
    program("redis-cli", thing="REDIS_CLI", install="apt-get install redis-tools")
    program("bash", thing="REDIS_CLI", install="apt-get install bash")
    here = f"redis://127.0.0.1:{courier.server.url.rpartition(':')[2]}"
    first, second = (commands(text, here) for text in SESSIONS)
    shown = "".join(SESSIONS)
    assert "@" not in shown, "no email is typed, which the shell would remember"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", first + second + second],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    job_id, woken, with_key, again = done.stdout.split()
    assert woken == "1"
    assert with_key == again, "an idempotency key makes them one job"
    ids = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    printed = [ids.sub("<id>", line) for line in (job_id, woken, with_key)]
    assert printed == [ids.sub("<id>", line) for line in answers(shown)]

    assert_it_wakes(courier)
    assert settled(courier, job_id).status in ("delivered", "superseded")
    assert settled(courier, with_key).status in ("delivered", "superseded")
    assert courier.custom("ada@example.com") == {"channel": "Facebook", "age": 8}


def commands(session: str, redis_url: str) -> str:
    """The session's commands, for a shell, with the address of this test's Redis."""
    joined = session.replace("\\\n", "").replace("redis://localhost:6379/0", redis_url)
    return "".join(f"{line[2:]}\n" for line in joined.splitlines() if line.startswith("$ "))


def answers(session: str) -> list[str]:
    return [line for line in session.replace("\\\n", "").splitlines() if not line.startswith("$ ")]


def test_node_publishes_and_wakes(courier: Courier, folder: Path) -> None:
    node = node_with(IOREDIS)
    (folder / "node_modules").symlink_to(NODE_MODULES)

    def publish() -> str:
        done = subprocess.run(
            [node, "publish.mjs"],
            cwd=folder,
            env={"COURIER_REDIS_URL": courier.server.url, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    job_id = publish()
    assert_it_wakes(courier)
    assert settled(courier, job_id).status == "delivered"
    values = courier.custom("ada@example.com")
    assert (values["plan"], values["account_number"]) == ("pro", 9007199254740993)
    assert publish() == job_id, "an idempotency key makes them one job"


# --- what publishers get wrong ------------------------------------------------------------------


def document(**changes: Any) -> str:
    job = {
        "v": 1,
        "email": f"{uuid4()}@load.example",
        "attributes": [{"type": "Integer", "key": "n", "value": 1}],
    }
    return json.dumps(job | changes)


def valued(type_: str, value: object) -> str:
    return document(attributes=[{"type": type_, "key": "n", "value": value}])


INVALID = {
    "another type": (valued("Integer", "eight"), "attributes[0].value (key n)"),
    "no zone": (document(occurred_at="2026-03-01T09:30:00"), "occurred_at: must name its zone"),
    "a number as a time": (document(occurred_at=1772357400000), "occurred_at: must be ISO 8601"),
    "a field twice": (document().replace("{", '{"v": 1, ', 1), "two fields of the same name"),
    "a key twice": (
        document(attributes=[{"type": "Integer", "key": "n", "value": 1}] * 2),
        "attributes[1].key",
    ),
    "rounded": (valued("Integer", 9007199254740992), "is written as text"),
    "rounded decimal": (valued("Decimal", 12345678901234567000), "is written as text"),
    "no json": ("[object Object]", "not JSON"),
    "no utf-8": (document().encode("utf-16"), "not"),
    "empty": ("", "no document, or an empty one"),
}


def test_what_publishers_get_wrong_is_told(courier: Courier) -> None:
    """Each row of the page's table but those that `courier doctor` tells (test_watching.py)."""
    client, keys = courier.client, courier.keys
    now_s = time.time()

    def put(text: str | bytes, job_id: str = "", *, score: float = now_s * 1e6) -> str:
        job_id = job_id or str(uuid4())
        client.hset(keys.inbox, job_id, text)  # type: ignore[arg-type]
        client.zadd(keys.of("inbox", "live"), {job_id: score})
        return job_id

    wrong = {name: put(text) for name, (text, _) in INVALID.items()}
    no_uuid, capitals = put(document(), "job-17"), put(document(), str(uuid4()).upper())
    no_document = str(uuid4())
    client.zadd(keys.of("inbox", "live"), {no_document: now_s * 1e6})
    milliseconds, seconds = (put(document(), score=score) for score in (now_s * 1e3, now_s))
    later = put(document(v=2))
    client.lpush(QUEUE, "hello", json.dumps({"task": ACCEPT_TASK, "args": ["default"]}))
    courier.start_worker()

    for name, job_id in wrong.items():
        outcome = settled(courier, job_id)
        assert outcome.status == "invalid", name
        assert INVALID[name][1] in (outcome.message or ""), name
    for job_id, said in (
        (no_uuid, "must be a UUID in lowercase"),
        (capitals, "must be a UUID in lowercase"),
        (no_document, "no document, or an empty one"),
    ):
        outcome = settled(courier, job_id)
        assert outcome.status == "invalid"
        assert said in (outcome.message or "")
    for job_id in (milliseconds, seconds):
        assert settled(courier, job_id).status == "delivered"
    logged: Callable[[str], bool] = lambda text: text in courier.log()  # noqa: E731
    wait_until(lambda: logged(f"job {later}: in a newer wire format; left for a newer worker"))
    wait_until(lambda: courier.log().count("dropped an entry of the broker's queue") == 2)
