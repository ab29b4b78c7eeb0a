"""The stand-in as a child process, for tests, the demo and benchmarks."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from .errors import SandboxConfigError, SandboxProcessError
from .faults import Fault
from .leash import LeashedProcess
from .settings import SandboxConfig

_START_TIMEOUT_S = 15.0
_STOP_GRACE_S = 5.0
_CONTROL_TIMEOUT_S = 30.0
# A proxy from the environment has no business between this machine and itself.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SandboxProcess:
    """The ChartMogul stand-in on 127.0.0.1, in a process that does not outlive this one.

    Args:
        config: Its settings.
        port: Port to listen on; 0 chooses a free one, which then stays the same.
        log: File for what it writes to standard error (its own failures); None shows it here.
    """

    def __init__(
        self, config: SandboxConfig | None = None, port: int = 0, log: Path | None = None
    ) -> None:
        self.config = config or SandboxConfig()
        self._port = port
        self._log = log
        self._process: LeashedProcess | None = None

    @property
    def url(self) -> str:
        """The API's URL, `http://127.0.0.1:PORT/v1`."""
        return f"{self._origin}/v1"

    @property
    def api_key(self) -> str:
        """The first account's API key."""
        return next(iter(self.config.accounts.values()))

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start it and wait until it listens. After `stop()` or `kill()`: again, with a new state.

        Raises:
            SandboxProcessError: it runs already, or did not start.
        """
        if self._process is not None and self._process.running:
            raise SandboxProcessError(f"The stand-in already runs (pid {self._process.pid}).")
        with contextlib.ExitStack() as files:
            log = files.enter_context(self._log.open("ab")) if self._log else None
            argv = (sys.executable, "-m", __package__, str(self._port))
            self._process = LeashedProcess(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self._port = _handshake(self._process, self.config)
        except BaseException:
            self._process.kill()
            raise

    def stop(self) -> None:
        """End it gracefully."""
        if self._process is not None:
            self._process.stop(_STOP_GRACE_S)

    def kill(self) -> None:
        """Kill it (SIGKILL): connections break, the state is gone."""
        self._running().kill()

    def configure(self, **settings: Any) -> None:
        """Change settings by their names in `SandboxConfig`; customers are only ever added.

        Raises:
            SandboxConfigError: a setting is unknown or wrong.
        """
        if "faults" in settings:
            settings["faults"] = [
                asdict(rule) if isinstance(rule, Fault) else rule for rule in settings["faults"]
            ]
        self._control("configure", settings)

    def reset(self) -> None:
        """Forget everything, and go back to the settings at the start."""
        self._control("reset", {})

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """The log after request number `since`, as `requestlog.Exchange` describes it."""
        found: list[dict[str, Any]] = self._control(f"requests?since={since}")["requests"]
        return found

    def stats(self) -> dict[str, Any]:
        """Totals: `requests`, `by_status`, `by_fault`, `applied`, `in_progress`, `max_in_progress`,
        `max_in_any_second`, `overlaps`."""
        return self._control("stats")

    def customers(
        self, email: str | None = None, account: str | None = None
    ) -> list[dict[str, Any]]:
        """The state of an email's customers, or of all, with the `sources` of their attributes."""
        query = {"email": email, "account": account}
        given = urlencode({name: value for name, value in query.items() if value is not None})
        found: list[dict[str, Any]] = self._control(f"customers?{given}")["customers"]
        return found

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _origin(self) -> str:
        if not self._port:
            raise SandboxProcessError("The stand-in has no port yet: call start() first.")
        return f"http://127.0.0.1:{self._port}"

    def _running(self) -> LeashedProcess:
        if self._process is None or not self._process.running:
            raise SandboxProcessError("The stand-in does not run: call start() first.")
        return self._process

    def _control(self, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        self._running()
        request = urllib.request.Request(  # noqa: S310  (always http, to 127.0.0.1)
            f"{self._origin}/_sandbox/{path}",
            data=None if content is None else json.dumps(content).encode(),
        )
        try:
            with _direct.open(request, timeout=_CONTROL_TIMEOUT_S) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise SandboxConfigError(json.load(refusal)["error"]) from None
        except OSError as error:
            raise SandboxProcessError(f"The stand-in does not answer: {error}") from error


def _handshake(process: LeashedProcess, config: SandboxConfig) -> int:
    """Give a new process its settings and read from its one line of output where it listens."""
    stdin, stdout = process.popen.stdin, process.popen.stdout
    assert stdin is not None and stdout is not None  # noqa: S101, PT018  (both are pipes)
    with contextlib.suppress(BrokenPipeError), stdin:
        stdin.write(json.dumps(config.to_dict()).encode())
    deadline = time.monotonic() + _START_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([stdout], [], [], max(deadline - time.monotonic(), 0))
        piece = stdout.read1() if readable else b""  # type: ignore[attr-defined]
        if not piece:
            raise SandboxProcessError(
                "The stand-in did not start"
                + (
                    f" within {_START_TIMEOUT_S:g} s."
                    if not readable
                    else "; see its error output."
                )
            )
        line += piece
    return int(line.decode().rsplit(":", 1)[1].split("/")[0])
