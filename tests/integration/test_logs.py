"""The log of a real worker, plain and as JSON: a line for each attempt, and nothing private."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attribute_courier.sandbox import DEFAULT_API_KEY, EmbeddedRedis, Fault, LeashedProcess
from attribute_courier.state.email_hash import EmailHash

from ..conftest import Courier
from ..waiting import wait_until

VALUE = "Facebook-ads-7"
DOMAIN = "@corp.example"
FAULTS = [
    Fault(kind="status", status=422, email=f"re.fused{DOMAIN}"),
    Fault(kind="status", status=500, email=f"ser.ver{DOMAIN}", count=2),
    Fault(kind="status", status=429, email=f"pa.ced{DOMAIN}", count=1),
    Fault(kind="drop_after", email=f"dro.pped{DOMAIN}", count=1),
]
NAMES = ("deli.vered", "re.fused", "ser.ver", "pa.ced", "dro.pped", "un.matched")
COURIER = ("-m", "attribute_courier.cli", "worker")
CELERY = ("-m", "celery", "-A", "attribute_courier.worker", "worker", "--loglevel", "info")


def start(courier: Courier, argv: tuple[str, ...], **environ: str) -> LeashedProcess:
    """A worker with a log of its own."""
    path = courier.logs / f"worker-{len(courier.workers)}.log"
    with path.open("ab") as log:
        worker = LeashedProcess(
            [sys.executable, *argv],
            env={**os.environ, **courier.environ, **environ},
            stdout=log,
            stderr=log,
        )
    courier.workers.append(worker)
    wait_until(lambda: " ready." in path.read_text() or not worker.running, what="a worker")
    return worker


def attempts_in(courier: Courier, form: str) -> list[dict[str, Any]]:
    """The fields of all attempts that are in the log."""
    found: list[dict[str, Any]] = []
    for line in courier.log().splitlines():
        if form == "json":
            content = json.loads(line)
            if content["message"] == "attempt":
                found.append(content)
        elif match := re.search(r"\] attempt (.*)", line):
            found.append(dict(re.findall(r'(\w+)="?([^ "]*)', match[1])))
    return found


@pytest.mark.parametrize(("form", "argv"), [("plain", COURIER), ("json", CELERY)])
def test_each_request_has_one_line_and_nothing_private_is_in_any(
    courier: Courier, form: str, argv: tuple[str, ...]
) -> None:
    customers = [f"{name}{DOMAIN}" for name in NAMES if name != "un.matched"]
    courier.stand_in.configure(faults=FAULTS, customers=customers)
    start(courier, argv, COURIER_LOG_FORMAT=form)
    courier.wait(
        *(courier.producer.add_attributes(f"{name}{DOMAIN}", {"channel": VALUE}) for name in NAMES)
    )

    # In the form of the log, and nothing else.
    wait_until(lambda: len(attempts_in(courier, form)) >= len(courier.posts()))
    hashes = EmailHash(lambda: courier.client)
    posts, attempts = courier.posts(), attempts_in(courier, form)
    by_email = sorted((hashes.of(post["email"]), str(post["status"])) for post in posts)
    assert len(by_email) >= len(NAMES) + 6
    # What was dropped has a status in the stand-in's log, or none, and none here.
    dropped = hashes.of(f"dro.pped{DOMAIN}")
    logged = sorted((each["email"], str(each.get("http_status"))) for each in attempts)
    assert [email for email, _ in logged] == [email for email, _ in by_email]
    assert [each for each in logged if each[0] != dropped] == [
        each for each in by_email if each[0] != dropped
    ]
    assert {each["verdict"] for each in attempts} == {
        *("taken", "content", "server", "pace", "unmatched")
    }
    assert ("transport:" in courier.log()) == (form == "plain")
    for text in (*NAMES, DOMAIN, VALUE, DEFAULT_API_KEY, courier.server.password):
        assert text not in courier.log()


class TestAnOutageOfRedis:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[EmbeddedRedis]:
        """One of its own, to be killed."""
        with EmbeddedRedis(tmp_path / "redis") as found:
            yield found

    def test_is_one_line_of_all_processes_and_holds_no_worker_that_is_to_stop(
        self, courier: Courier
    ) -> None:
        argv = (*COURIER, "--pool", "prefork", "--concurrency", "4")
        worker = start(courier, argv, COURIER_LOG_FORMAT="json")
        courier.stand_in.configure(latency_s=1)
        for n in range(12):
            courier.producer.add_attributes(f"{n}@load.example", {"channel": VALUE})
        wait_until(lambda: len(courier.posts()) > 2, what="requests of several children")
        courier.server.kill()

        def children() -> set[int]:
            lines = [json.loads(line) for line in courier.log().splitlines()]
            return {line["pid"] for line in lines if "Redis failed" in line["message"]}

        wait_until(lambda: len(children()) > 1, what="children met it")
        worker.popen.send_signal(signal.SIGTERM)
        assert worker.popen.wait(30) == 0
        log = courier.log()
        assert log.count("does not answer") == 1
        assert "Traceback" not in log
        messages = [json.loads(line)["message"] for line in log.splitlines()]
        assert "worker: Warm shutdown (MainProcess)" in messages

    def test_from_the_start_is_one_line_too(self, courier: Courier) -> None:
        courier.server.kill()
        argv = [sys.executable, *COURIER]
        environ = {**os.environ, **courier.environ, "COURIER_LOG_FORMAT": "json"}
        path = courier.logs / "worker-0.log"
        with path.open("wb") as log:
            worker = subprocess.Popen(argv, env=environ, stdout=log, stderr=log)
        try:
            wait_until(lambda: "does not answer" in courier.log(), what="the outage is said")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0
        finally:
            worker.kill()
        said = [json.loads(line) for line in courier.log().splitlines()]
        assert [line["level"] for line in said].count("error") == 1


def test_the_hash_of_an_email_is_printed_for_whoever_may_read_redis(courier: Courier) -> None:
    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "attribute_courier.cli", "hash", *arguments],
            env={**os.environ, **courier.environ, **environ},
            capture_output=True,
            text=True,
            timeout=30,
        )

    done = run(" Ada@example.com")
    assert done.stdout.strip() == EmailHash(lambda: courier.client).of("ada@example.com")
    assert done.returncode == 0
    assert run("ada").returncode == 2
    away = run("ada@example.com", COURIER_REDIS_URL="redis://127.0.0.1:1/0")
    assert (away.returncode, away.stdout) == (3, "")
    assert "does not answer" in away.stderr
