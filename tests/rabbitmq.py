"""Debian's RabbitMQ: a node of its own on loopback, for tests and the chaos run."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from attribute_courier.sandbox import LeashedProcess

REQUIRED = "COURIER_TESTS_NEED_RABBITMQ"
"""When this variable is set, a test without RabbitMQ fails instead of being skipped."""
_IS_REQUIRED = bool(os.environ.get(REQUIRED))  # before the tests scrub their environment

STARTS_WITHIN_S = 120.0


def _script() -> Path | None:
    # Not /usr/sbin/rabbitmq-server, which changes to the user of Debian's own server.
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))
    return found[-1] if found else None


class RabbitMQ:
    """A node with its own Erlang port mapper; nothing is shared with a server of the machine.

    Args:
        folder: for its data, logs and cookie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._dist_port, self._epmd_port = _free_ports(3)
        self.password = secrets.token_hex(8)
        (folder / "home").mkdir()
        cookie = folder / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (folder / "plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            f"default_user = courier\ndefault_pass = {self.password}\n"
            # A machine that is short of memory or disk must not stop the tests.
            "vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n"
        )
        (folder / "environment").write_text("")
        self._environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(folder / "home"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Two schedulers: an idle node shares the machine with the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none "
            "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_NODENAME": f"courier-{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "environment"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "detached": "yes",  # the script gives way to the node: one process, which can be killed
        }
        self._epmd: LeashedProcess | None = None
        self._node: LeashedProcess | None = None

    @property
    def url(self) -> str:
        return f"amqp://courier:{self.password}@127.0.0.1:{self._port}//"

    def start(self) -> None:
        """Start it and wait until it takes connections; with the data that it had."""
        script = _script()
        assert script is not None
        if self._epmd is None:
            with (self._folder / "epmd.log").open("ab") as log:
                self._epmd = LeashedProcess(
                    [str(_epmd()), "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                    env=self._environ, stdout=log, stderr=log,
                )  # fmt: skip
            _wait_for(self._epmd_port, self._epmd)
        with (self._folder / "node.log").open("ab") as log:
            self._node = LeashedProcess(
                [str(script)], env=self._environ, cwd=self._folder, stdout=log, stderr=log
            )
        _wait_for(self._port, self._node)

    def kill(self) -> None:
        """End the node in an instant, as a crash does."""
        if self._node is not None:
            self._node.kill()
            self._node = None

    def stop(self) -> None:
        """End everything."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def is_here() -> bool:
    """Whether RabbitMQ is installed."""
    return _script() is not None


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """A node, or a test that is skipped."""
    if not is_here():
        if _IS_REQUIRED:
            pytest.fail(f"{REQUIRED} is set, and RabbitMQ is not installed")
        pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
    with RabbitMQ(folder) as found:
        yield found


def _epmd() -> Path:
    found = shutil.which("epmd")
    if found:
        return Path(found)
    return sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))[-1]


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def _wait_for(port: int, process: LeashedProcess) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.running:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing answers at port {port}; see {process.popen.args}")
