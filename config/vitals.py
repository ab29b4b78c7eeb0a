"""A worker's signs of life, in a small file on its machine: what `courier health` reads.

The worker stamps the file about once a second, and holds a lock on it: the lock is gone when the
process is, however it ends. Times are `time.monotonic()`, which all processes of a machine share
and no step of the clock moves.

The files are in `attribute-courier-UID`, in the directory for temporary files (TMPDIR, else /tmp).
It belongs to the user and is open to nobody else; another directory of that name is not trusted.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

_SUFFIX = ".worker"
_SIZE = 4_096
"""Bytes of a file, always: each stamp replaces the whole content in one write."""
_KEPT_S = 3_600
"""The file of a worker that was killed is removed after this time, when another one starts."""


class UntrustedDirectory(Exception):  # noqa: N818  (a state, which the text describes)
    """Raised where the directory of the files belongs to somebody else, or is none."""


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """A worker's signs of life. Times are by `time.monotonic()`."""

    name: str
    """The worker's name, such as courier@host."""
    pid: int
    pool: str
    stamped_s: float
    """When the process wrote this."""
    consumer_s: float
    """When its main thread, which takes messages, or connects, last went on."""
    ticker_s: float
    """When its ticker last went on."""
    busy: int
    """Tasks that run."""
    slots: int
    """Tasks that can run at once."""
    newest_s: float
    """When the newest of the running tasks began, or trouble with Redis ended, if that is later."""
    task_limit_s: float
    """Longer than any task runs."""
    stopping_s: float | None
    """Since when it stops gracefully."""
    runs: bool = True
    """Whether the process is still there."""


class VitalsFile:
    """The file of this process.

    Raises:
        UntrustedDirectory: its directory is not to be trusted.
        OSError: it cannot be written.
    """

    def __init__(self, vitals: Vitals) -> None:
        self._owner = os.getpid()
        self._name = f"{re.sub(r'[^A-Za-z0-9@._-]', '_', vitals.name)[:100]}-{vitals.pid}{_SUFFIX}"
        with _directory(make=True) as directory:
            _tidy(directory, vitals)
        self._fd = self._create(vitals)
        # A lock lives as long as any process has the file open.
        os.register_at_fork(after_in_child=self._close)

    def write(self, vitals: Vitals) -> None:
        """Replace what it says. Raises as `VitalsFile` does."""
        if os.fstat(self._fd).st_nlink == 0:  # somebody tidied up
            before, self._fd = self._fd, self._create(vitals)
            os.close(before)
        else:
            os.pwrite(self._fd, _encoded(vitals), 0)

    def remove(self) -> None:
        """Remove it: the worker ends as it should. Nothing in a child of the worker's process."""
        if os.getpid() == self._owner and self._fd >= 0:
            with suppress(OSError, UntrustedDirectory), _directory() as directory:
                os.unlink(self._name, dir_fd=directory)
                os.rmdir(directory_path())  # if it was the last one
            self._close()

    def _create(self, vitals: Vitals) -> int:
        with _directory(make=True) as directory:
            new = f"{self._name}.new"
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=directory)
            fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.pwrite(fd, _encoded(vitals), 0)
                os.rename(new, self._name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.close(fd)
                raise
        return fd

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def all_vitals() -> list[Vitals]:
    """What all workers of this user on this machine say, and those that were killed lately.

    Raises:
        UntrustedDirectory: their directory is not to be trusted.
        OSError: it cannot be read.
    """
    try:
        with _directory() as directory:
            names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
            found = [_read(directory, name) for name in names]
    except FileNotFoundError:
        return []
    return [vitals for vitals in found if vitals is not None]


def directory_path() -> str:
    """Where the files are."""
    # Not by `tempfile`, which takes longer to import than all the rest.
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"attribute-courier-{os.geteuid()}")  # noqa: S108


@contextmanager
def _directory(*, make: bool = False) -> Iterator[int]:
    """The directory, open: what its name stands for may change, and this does not."""
    path = directory_path()
    if make:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError:
        raise UntrustedDirectory(f"{path} is not a directory of this user: remove it") from None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise UntrustedDirectory(
                f"{path} belongs to another user, or is open to others: remove it, or let TMPDIR "
                "name another directory"
            )
        yield fd
    finally:
        os.close(fd)


def _read(directory: int, name: str) -> Vitals | None:
    """None where the file is gone meanwhile, or of a release that writes another form."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return None
    try:
        runs = not _unlocked(fd)
        document = json.loads(os.pread(fd, _SIZE, 0))
        return Vitals(**(document | {"runs": runs}))
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(fd)


def _unlocked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _encoded(vitals: Vitals) -> bytes:
    document = {name: value for name, value in asdict(vitals).items() if name != "runs"}
    return json.dumps(document).encode().ljust(_SIZE)


def _tidy(directory: int, new: Vitals) -> None:
    """Remove what killed workers left: of the same name, and after an hour of any name."""
    for name in os.listdir(directory):
        found = _read(directory, name)
        if found is None or found.runs:
            continue
        # A time ahead is of before the machine's last start.
        age_s = new.stamped_s - found.stamped_s
        if found.name == new.name or not 0 <= age_s < _KEPT_S:
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)
