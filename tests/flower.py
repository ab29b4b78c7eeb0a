"""The real Flower, in a process of its own."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from attribute_courier.sandbox import LeashedProcess

from .waiting import wait_until

USER = "ada"


@dataclass
class Flower:
    """Where it answers."""

    url: str
    session: requests.Session
    log: Path
    process: LeashedProcess

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=20, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=20, **options)

    def tasks(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.get("/api/tasks").json()
        return found

    def state(self, job_id: str) -> str | None:
        return self.tasks().get(job_id, {}).get("state")


@contextmanager
def running_flower(
    environ: Mapping[str, str], folder: Path, *, password: str | None = None
) -> Iterator[Flower]:
    """`courier flower`, ready to answer; with a password, whoever asks has logged in."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = folder / f"flower-{port}.log"
    if password is not None:
        environ = {**environ, "COURIER_FLOWER_BASIC_AUTH": f"{USER}:{password}"}
    argv = [sys.executable, "-m", "attribute_courier.cli", "flower", "--port", str(port)]
    with log.open("ab") as stream:
        process = LeashedProcess(argv, env={**os.environ, **environ}, stdout=stream, stderr=stream)
    with requests.Session() as session:
        session.trust_env = False
        if password is not None:
            session.auth = (USER, password)
        found = Flower(f"http://127.0.0.1:{port}", session, log, process)

        def answers() -> bool:
            assert process.running, log.read_text()
            try:
                return found.get("/healthcheck").ok
            except requests.ConnectionError:
                return False

        try:
            wait_until(answers, timeout_s=40, what="Flower answers")
            wait_until(lambda: "Connected to" in log.read_text(), what="it listens to events")
            yield found
        finally:
            process.stop(10)
