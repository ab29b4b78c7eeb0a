"""A real Prometheus, and its tool (Debian: `apt-get install prometheus`)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import requests

from attribute_courier.sandbox import LeashedProcess

from .waiting import wait_until

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy/prometheus/attribute-courier.rules.yml"
REQUIRED = "COURIER_TESTS_NEED_PROMETHEUS"
"""When this variable is set, a test whose program is missing fails instead of being skipped."""
_IS_REQUIRED = bool(os.environ.get(REQUIRED))  # before the tests scrub their environment


def need(program: str) -> str:
    """The path of `prometheus` or `promtool`; without it the test skips, or fails."""
    found = shutil.which(program)
    if found is None:
        why = f"{program} is missing: apt-get install prometheus"
        if _IS_REQUIRED:
            pytest.fail(why)
        pytest.skip(why)
    return found


def promtool(*arguments: str, stdin: bytes | None = None) -> str:
    """What promtool says, when it finds nothing wrong."""
    done = subprocess.run(
        [need("promtool"), *arguments],
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


class Prometheus:
    """A server on 127.0.0.1 that scrapes one exporter, and evaluates our alerts, every second.

    Args:
        home: directory of its data.
        target: what it scrapes, as `host:port`.
    """

    def __init__(self, home: Path, target: str) -> None:
        self._program = need("prometheus")
        self._home = home
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        self._url = f"http://{address}"
        home.mkdir()
        config = home / "prometheus.yml"
        config.write_text(
            "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n"
            f"rule_files: [{RULES}]\n"
            "scrape_configs:\n"
            "  - job_name: attribute-courier\n"
            f"    static_configs: [{{ targets: ['{target}'] }}]\n"
        )
        self._argv = [
            self._program,
            f"--config.file={config}",
            f"--storage.tsdb.path={home / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=warn",
        ]
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business on this machine

    def __enter__(self) -> Self:
        log = self._home / "log"
        with log.open("wb") as stream:
            self._process = LeashedProcess(self._argv, stdout=stream, stderr=stream)

        def scrapes() -> bool:
            assert self._process.running, log.read_text()
            try:
                ready = self._session.get(f"{self._url}/-/ready", timeout=10).ok
                return ready and bool(self.values("attribute_courier_up"))
            except requests.ConnectionError:
                return False

        try:
            wait_until(scrapes, timeout_s=40, what="Prometheus scrapes the exporter")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._session.close()

    def values(self, expression: str) -> list[float]:
        """The values of an expression now."""
        found = self._get("query", query=expression)["result"]
        return [float(each["value"][1]) for each in found]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing, with `labels`, `annotations` and `state`."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def _get(self, path: str, **params: str) -> dict[str, Any]:
        answer = self._session.get(f"{self._url}/api/v1/{path}", params=params, timeout=10)
        found: dict[str, Any] = answer.json()
        assert found["status"] == "success", found
        data: dict[str, Any] = found["data"]
        return data
