"""The embedded Redis of `courier up`: how other programs on this machine find its password.

While `courier up` runs, `.courier/redis-url` has the address with the password, readable by its
owner alone. A command or an application that runs in the same directory, and whose
COURIER_REDIS_URL is unset or names that address without a password, takes the password from there.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from .redis_url import RedisAddress, parse_redis_url

DIRECTORY = Path(".courier")
FILE_NAME = "redis-url"


@contextmanager
def announced(directory: Path, url: str) -> Iterator[Path]:
    """Keep the address where others find it, as long as the context lasts.

    Args:
        directory: where the file is made.
        url: the address with the password.
    """
    path = directory / FILE_NAME
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        # The lock is gone when this process is, however it ends: a file without it is stale.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{url}\n")
        file.flush()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def with_password(address: RedisAddress) -> RedisAddress:
    """The address with the password of the embedded Redis, if `courier up` runs one there.

    The file is trusted only if it belongs to this user and nobody else may open it, since it
    decides where jobs go.
    """
    if address.kind != "single" or address.password or address.tls:
        return address
    if address.host not in ("localhost", "127.0.0.1"):
        return address
    with suppress(OSError, ValueError):  # of a text that is none, too
        embedded = parse_redis_url(_announcement(DIRECTORY / FILE_NAME))
        if embedded.port == address.port:
            return replace(address, password=embedded.password)
    return address


def _announcement(path: Path) -> str:
    """The file's text; "" if it is not to be trusted, or nobody keeps it any more."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            return ""
        if found.st_uid != os.geteuid():
            return ""
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return ""
        return file.read(4_096).decode().strip()
