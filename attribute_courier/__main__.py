"""`courier`, and `python -m attribute_courier`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:] == ["health"]:
        # As a container's engine asks, again and again: without what the other commands import.
        from .operate.health import look, report

        sys.exit(report(look()))
    from .cli import main as courier

    courier(prog_name="courier")


if __name__ == "__main__":
    main()
