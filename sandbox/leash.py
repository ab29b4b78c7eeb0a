"""Child processes that never outlive this one."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Waits for a line on a pipe whose other end only this process holds. The line says that the child
# is already gone; the end of the pipe without it says that this process died, however it died.
# Preferred over PR_SET_PDEATHSIG, which is Linux's alone, runs Python code between fork and exec,
# and fires as soon as the *thread* that started the child ends.
_LEASH = 'read -r released || kill -KILL "$1" 2>/dev/null'


class LeashedProcess:
    """A child process in a session of its own, ended with this process at the latest.

    When this process exits normally the child is asked to end (SIGTERM, then SIGKILL); when it is
    killed, a waiting shell kills the child. Ctrl-C in the terminal does not reach the child, so
    that whoever started it decides when it may go.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
        umask: int = -1,
    ) -> None:
        """Start `argv`; the other arguments are those of `subprocess.Popen`.

        Raises:
            OSError: the program cannot be run.
        """
        self._owner = os.getpid()
        self.popen: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  (argv is ours)
            argv,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            umask=umask,
            start_new_session=True,
        )
        self._leash: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _LEASH, "leash", str(self.popen.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self._end_with_owner)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the child has ended."""
        self.popen.send_signal(number)

    def stop(self, grace_s: float) -> None:
        """Ask the child to end and wait for it; kill it after `grace_s` seconds."""
        # A stopped process would get the request only once it goes on.
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """Kill the child (SIGKILL) and wait until it is gone."""
        self.send(signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()
        # A second call, or a leash that somebody killed: there is nobody left to tell.
        with contextlib.suppress(ValueError, BrokenPipeError):
            self._leash.communicate(b"released\n")
        atexit.unregister(self._end_with_owner)

    def _end_with_owner(self) -> None:
        # A fork of the owner inherits its exit handlers, but not the child.
        if os.getpid() == self._owner:
            self.stop(grace_s=5.0)
