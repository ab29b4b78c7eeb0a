"""`courier`, and `python -m attribute_courier`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    if os.getpid() == 1:
        # The kernel ignores what a container's first process does not handle.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    if sys.argv[1:] == ["health"]:
        # As a container's engine asks, again and again: without what the other commands import.
        from .operate.health import look, report

        sys.exit(report(look()))
    from .cli import main as courier

    courier(prog_name="courier")


if __name__ == "__main__":
    main()
