"""`python -m attribute_courier.sandbox PORT < settings.json`: the stand-in, for `SandboxProcess`.

People run `courier sandbox`. Settings come by standard input, so that no API key shows in the list
of processes.
"""

from __future__ import annotations

import json
import sys

from .errors import SandboxConfigError
from .server import serve
from .settings import SandboxConfig


def main() -> int:
    """Run it until SIGTERM; one line on standard output says where it listens."""
    port = int(sys.argv[1])
    try:
        serve(SandboxConfig().changed(json.load(sys.stdin)), port, ready=_announce)
    except json.JSONDecodeError as error:
        sys.stderr.write(f"The stand-in's settings are not JSON: {error}\n")
        return 1
    except (SandboxConfigError, OSError) as error:
        sys.stderr.write(f"The stand-in cannot start on port {port}: {error}\n")
        return 1
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(f"ChartMogul stand-in ready at {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
