"""What an operator is told by `courier status --check` and `courier doctor`, of states for real."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from attribute_courier.cli import main
from attribute_courier.cli.stage import start_worker
from attribute_courier.config.rights import PRODUCER_RIGHTS, worker_rights
from attribute_courier.sandbox import EmbeddedRedis, Fault
from attribute_courier.state.inbox import Inbox

from ..clocks import SteppedRedis, need_faketime, wait_for_step
from ..conftest import Courier
from ..waiting import wait_until

WITHIN_S = 15
"""So soon a state is told; those of this file's tests that are quicker end sooner."""
CELERY = [sys.executable, "-m", "celery", "-A", "attribute_courier.worker", "worker"]


def run(*arguments: str, **environ: str) -> Result:
    result = CliRunner().invoke(main, list(arguments), env=environ, prog_name="courier")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(code: str, *options: str) -> str:
    """Wait until the check fails for this reason. Returns its line."""

    def line() -> str:
        result = run("status", "--check", *options)
        lines = [each for each in result.output.splitlines() if f"ERROR {code}:" in each]
        assert bool(lines) <= (result.exit_code == 1)
        return "".join(lines)

    return wait_until(line, timeout_s=WITHIN_S, what=code)


def well(*options: str) -> None:
    """Wait until nothing is wrong."""
    wait_until(
        lambda: run("status", "--check", *options).output.startswith("OK: account default, 1 "),
        timeout_s=WITHIN_S,
        what="nothing is wrong",
    )


@pytest.fixture
def admin(courier: Courier) -> Iterator[redis.Redis]:
    yield courier.client
    courier.client.config_set("maxmemory", "0")
    courier.client.config_set("maxmemory-policy", "noeviction")


def test_each_state_is_told_with_its_reason(courier: Courier, admin: redis.Redis) -> None:
    assert "no worker serves this account; nothing waits yet" in told("no_worker")
    as_json = run("status", "--check", "--format", "json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["ok"]) == (1, False)
    add = courier.producer.add_attributes
    add("old@load.example", {"n": 1})
    assert "the first live job has been waiting for" in told("backlog_old", "--max-age", "200ms")
    assert "more than 0" in told("backlog_large", "--max-waiting", "0")

    worker = courier.start_worker()
    well("--max-age", "10s")
    assert "only 1 of at least 2 workers serve this account" in told(
        "few_workers", "--min-workers", "2"
    )

    # ChartMogul is down, and well again.
    courier.stand_in.configure(faults=[Fault(kind="status", status=503)])
    for n in range(6):
        add(f"{n}@load.example", {"n": n})
    wait_until(lambda: "Injected by the sandbox" in run("status", "--check").output)
    wait_until(lambda: run("status", "--check").exit_code == 1, timeout_s=WITHIN_S)
    courier.stand_in.configure(faults=[])
    run("resume")
    well()

    # The key is revoked: paused until it is valid again.
    courier.stand_in.configure(faults=[Fault(kind="status", status=401)])
    add("revoked@load.example", {"n": 1})
    assert "deliveries are paused by ChartMogul's answer (HTTP 401): " in told("paused")
    assert "Injected by the sandbox" in told("paused")
    courier.stand_in.configure(faults=[])
    well()

    admin.config_set("maxmemory", "1")
    assert "Redis is full" in told("redis_full")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert "throws jobs away" in told("redis_evicts")
    admin.config_set("maxmemory", "0")
    admin.config_set("maxmemory-policy", "noeviction")
    well()
    worker.stop(20)
    told("no_worker")


class TestTheClock:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[SteppedRedis]:
        need_faketime()
        with SteppedRedis(tmp_path / "redis") as found:
            yield found

    def test_steps(self, courier: Courier, server: SteppedRedis) -> None:
        courier.start_worker()
        well()
        server.step_to(-90)
        wait_for_step(courier.client, -90)
        assert "Redis's clock stepped back by 90" in told("clock_step")
        doctor = run("doctor")
        assert doctor.exit_code == 1
        assert "Redis's clock is 90.0 s behind this machine's" in doctor.output


def test_redis_does_not_answer() -> None:
    address = {"COURIER_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert run("status", "--check", **address).exit_code == 3
    assert run("top", **address).exit_code == 3
    doctor = run("doctor", CHARTMOGUL_API_URL="http://127.0.0.1:1/v1", **address)
    assert doctor.exit_code == 3
    assert "does not answer (Connection refused)" in doctor.output
    assert "CHARTMOGUL_API_KEY" in doctor.output, "the rest is told nevertheless"


def test_no_worker_starts_on_a_redis_that_evicts(courier: Courier, admin: redis.Redis) -> None:
    """However it is started, unless somebody allows it."""
    admin.config_set("maxmemory-policy", "allkeys-lru")
    doctor = run("doctor").output
    assert "it throws nothing away while it has no maxmemory, and jobs once it has one" in doctor
    admin.config_set("maxmemory", "1gb")
    admin.config_set("maxmemory-policy", "volatile-ttl")
    log = courier.logs / "refused.log"
    refused = start_worker(courier.environ, log)
    celery = subprocess.run(
        [*CELERY, "-l", "info"],
        env={**os.environ, **courier.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    wait_until(lambda: not refused.running, what="the worker has ended")
    assert refused.popen.wait() != 0
    assert celery.returncode != 0
    for said in (log.read_text(), celery.stdout + celery.stderr):
        assert "maxmemory-policy volatile-ttl), jobs too" in said
        assert "CONFIG SET maxmemory-policy noeviction" in said
        assert "Traceback" not in said
    courier.start_worker(COURIER_ALLOW_EVICTION="true")
    assert "COURIER_ALLOW_EVICTION allows it" in courier.log()
    told("redis_evicts")


class TestDoctor:
    def findings(
        self, *options: str, **environ: str
    ) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        result = run("doctor", "--format", "json", *options, **environ)
        found: dict[str, list[dict[str, Any]]] = {}
        for each in json.loads(result.stdout):
            found.setdefault(f"{each['part']} {each['what']}", []).append(each)
        return result.exit_code, found

    def test_every_fault_of_the_settings_is_told(self, courier: Courier) -> None:
        code, found = self.findings(
            COURIER_TIMEOUT="soon",
            COURIER_RATE_LIMIT="fast",
            COURIER_REDIS_ULR="redis://:s3cr3t@x",
            CHARTMOGUL_API_KEY="a wrong key",
        )
        assert code == 2
        wrong = {name: each[0]["found"] for name, each in found.items() if "Settings C" in name}
        assert wrong.keys() == {
            f"Settings {name}"
            for name in (
                "COURIER_TIMEOUT",
                "COURIER_RATE_LIMIT",
                "COURIER_REDIS_ULR",
                "CHARTMOGUL_API_KEY",
            )
        }
        assert "did you mean COURIER_REDIS_URL?" in wrong["Settings COURIER_REDIS_ULR"]
        assert found["Redis version"][0]["level"] == "ok", "the rest is looked at"
        assert "no API key for the account" in found["ChartMogul account default"][0]["found"]
        assert "s3cr3t" not in json.dumps(found)
        assert "a wrong key" not in json.dumps(found)

    def test_a_redis_that_cannot_be_named_and_a_proxy_that_cannot_be_used(self) -> None:
        code, found = self.findings(
            COURIER_REDIS_URL="http://x", HTTPS_PROXY="gopher://x", CHARTMOGUL_API_URL="ftp://x"
        )
        assert code == 2
        assert found["Redis all"][0]["level"] == "skipped"
        assert found["ChartMogul all"][0]["level"] == "skipped"
        assert "HTTPS_PROXY" in found["Network proxy and certificates"][0]["found"]

    def test_the_way_through_a_proxy_without_its_password(self) -> None:
        code, found = self.findings(
            COURIER_REDIS_URL="redis://127.0.0.1:1/0",
            HTTPS_PROXY="http://ada:s3cr3t@127.0.0.1:9",
            CHARTMOGUL_API_URL="https://api.example.com/v1",
            CHARTMOGUL_API_KEY="key",
        )
        assert code == 3
        [way] = found["Network proxy and certificates"]
        assert "requests go through the proxy 127.0.0.1:9, certificates verified by" in way["found"]
        assert found["ChartMogul account default"][0]["level"] == "error"
        assert "s3cr3t" not in json.dumps(found)

    def test_the_rights_of_the_user(self, courier: Courier) -> None:
        for rights, lacks in (
            (worker_rights(), []),
            (PRODUCER_RIGHTS, ["+info", "+psubscribe"]),
            (worker_rights().replace(" +info", ""), ["+info"]),
            (worker_rights().replace("+eval ", ""), ["+eval"]),
        ):
            courier.client.execute_command(  # type: ignore[no-untyped-call]
                *("ACL", "SETUSER", "ada", "reset", "on", ">hush", *rights.split())
            )
            _, found = self.findings(
                COURIER_REDIS_URL=courier.server.url.replace(
                    f":{courier.server.password}@", "ada:hush@"
                )
            )
            [finding] = found["Redis rights"]
            assert finding["level"] == ("error" if lacks else "ok"), rights
            assert all(right in finding["found"] for right in lacks), finding
            if lacks == ["+info"]:
                assert "+info lets it be read" in found["Redis eviction"][0]["do"]
        courier.client.execute_command("ACL", "DELUSER", "ada")  # type: ignore[no-untyped-call]

    def test_all_is_well_and_then_not(self, courier: Courier) -> None:
        courier.start_worker()
        before = set(courier.client.scan_iter("courier:celery:*"))
        code, found = self.findings()
        assert code == 0
        assert {each["level"] for whats in found.values() for each in whats} == {"ok"}
        assert {name.split()[0] for name in found} == {
            *("Settings", "Redis", "Time", "Broker", "Workers", "State", "Network", "ChartMogul")
        }
        left = set(courier.client.scan_iter("courier:celery:*")) - before
        assert not [key for key in left if "doctor" in key], "the real queues are left alone"
        pings = [each for each in courier.stand_in.requests() if each["method"] == "GET"]
        assert len(pings) == 1, "the account's rate is the deliveries'"

        # A worker of another release with the same name, and a mailbox that nothing points to.
        [worker_id] = courier.client.hkeys(courier.keys.of("workers"))
        content = courier.client.hget(courier.keys.of("workers"), worker_id) or ""
        courier.client.hset(
            courier.keys.of("workers"), "another", content.replace('"0.1.0"', '"0.0.9"')
        )
        courier.health().pause("by a test")
        courier.producer.add_attributes("lost@load.example", {"n": 1})
        wait_until(lambda: courier.client.zrange(courier.keys.of("due:live"), 0, -1))
        courier.client.delete(courier.keys.of("due:live"))
        for name in ("default", "{shop}"):  # by publishers of other languages
            courier.client.hset(f"courier:{name}:inbox", "a", "{}")
        code, found = self.findings()
        assert code == 1
        wrong, unknown = found["State other inboxes"]
        assert "1 job in courier:default:inbox, where no worker" in wrong["found"]
        assert "it is courier:{default}:inbox, with the braces" in wrong["do"]
        assert "add shop to COURIER_ACCOUNTS" in unknown["do"]
        assert found["Workers versions"][0]["level"] == "warning"
        assert "1 of version 0.0.9, 1 of version 0.1.0" in found["Workers versions"][0]["found"]
        assert found["Workers names"][0]["level"] == "warning"
        [stranded] = [each for each in found["State account default"] if "--repair" in each["do"]]
        assert "nothing points to 1 mailbox and 0 jobs" in stranded["found"]
        assert not courier.client.exists(courier.keys.of("due:live")), "it was only looked at"
        code, found = self.findings("--repair")
        assert "repaired: 1 mailbox" in found["State account default"][0]["found"]
        assert courier.client.exists(courier.keys.of("due:live"))


def test_top_on_a_terminal_and_in_a_file(courier: Courier) -> None:
    """One picture in a file; on a terminal of 80 by 24 it goes on until `q`."""
    receipt = courier.producer.add_attributes("ada@load.example", {"n": 1})
    inbox = Inbox(courier.client, courier.keys, retention_s=1000)
    [taken] = inbox.take(limit=1, within_s=60, bulk_share=0.1)
    assert inbox.reject(taken, "a reason", email="ada@load.example")
    result = run("top")
    assert result.exit_code == 0
    assert "a***@load.example         invalid · a reason" in result.stdout
    assert "ada@load.example" not in result.stdout
    assert receipt.job_id not in result.stdout
    assert "no worker serves this account" in result.stdout

    ours, theirs = pty.openpty()
    subprocess.run(["stty", "rows", "24", "cols", "80"], stdin=theirs, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "attribute_courier", "top", "--interval", "200ms"],
        env={**os.environ, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""

    def read_until(word: bytes) -> None:
        nonlocal shown
        until_s = time.monotonic() + 30
        while word not in shown:
            ready, _, _ = select.select([ours], [], [], max(0.0, until_s - time.monotonic()))
            assert ready, shown
            shown += os.read(ours, 65_536)

    try:
        read_until(b"no worker serves this account")
        courier.health().pause("by a test")
        read_until(b"paused by hand: by a test")
        os.write(ours, b"q")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
        os.close(ours)


def test_a_full_redis_is_told_by_the_doctor(courier: Courier, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "1")
    doctor = run("doctor")
    assert doctor.exit_code == 3
    assert "redis_full" in doctor.output
    assert "ChartMogul" in doctor.output


def test_the_embedded_server_is_fit(server: EmbeddedRedis, courier: Courier) -> None:
    """What `courier up` starts keeps its data, and evicts nothing."""
    document = json.loads(run("status", "--format", "json").stdout)
    assert document["redis"]["append_only"]
    assert document["redis"]["evicts"] is False
    assert [each["code"] for each in document["problems"]] == ["no_worker"]
    courier.client.config_set("appendonly", "no")
    try:
        warned = run("status", "--check", "--min-workers", "0")
        strict = run("status", "--check", "--min-workers", "0", "--strict")
    finally:
        courier.client.config_set("appendonly", "yes")
    for result, code in ((warned, 0), (strict, 1)):
        assert "WARNING redis_not_persistent: Redis keeps its data in memory only" in result.output
        assert result.exit_code == code
