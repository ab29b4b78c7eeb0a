"""Databases for tests of transactions and of the outbox: SQLite, and Debian's PostgreSQL."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REQUIRED = "COURIER_TESTS_NEED_POSTGRESQL"
"""When this variable is set, a test without PostgreSQL fails instead of being skipped."""
_IS_REQUIRED = bool(os.environ.get(REQUIRED))  # before the tests scrub their environment


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgresql() -> Iterator[str]:
    """A server of its own on loopback, with an empty database. Its URL, as SQLAlchemy takes it."""
    binaries = _binaries()
    if binaries is None:
        if _IS_REQUIRED:
            pytest.fail(f"{REQUIRED} is set, and there is no /usr/lib/postgresql/*/bin/initdb")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="courier-pg-"))
    password = secrets.token_hex(8)
    (folder / "password").write_text(password)
    if os.geteuid() == 0:
        owner = pwd.getpwnam(user)
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data = folder / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    own: dict[str, Any] = {"user": user, "group": user} if os.geteuid() == 0 else {}
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "courier", "-A", "scram-sha-256",
         "--pwfile", folder / "password", "--no-sync", "-E", "UTF8", "--locale", "C"],
        check=True, capture_output=True, cwd=folder, **own,
    )  # fmt: skip
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-F",
         "-c", "unix_socket_directories="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **own,
    )  # fmt: skip
    try:
        _wait_for(port, server)
        yield f"postgresql+psycopg://courier:{password}@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"PostgreSQL did not start: {server.poll()}")
