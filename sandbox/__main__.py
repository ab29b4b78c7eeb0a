"""`python -m attribute_courier.sandbox`: the stand-in in the foreground."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .errors import SandboxConfigError
from .server import serve
from .settings import SandboxConfig


def main() -> int:
    """Run it until SIGTERM or Ctrl-C; one line on standard output says where it listens."""
    parser = argparse.ArgumentParser(
        prog="python -m attribute_courier.sandbox",
        description="A stand-in for ChartMogul: two endpoints, strict limits, faults on demand.",
    )
    parser.add_argument("--port", type=int, default=0, help="port; 0 chooses a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="seed of all that is random")
    parser.add_argument(
        "--config", metavar="FILE", help="JSON object of settings (SandboxConfig); - is stdin"
    )
    arguments = parser.parse_args()
    try:
        config = SandboxConfig()
        if arguments.config is not None:
            text = (
                sys.stdin.read() if arguments.config == "-" else Path(arguments.config).read_text()
            )
            config = config.changed(json.loads(text))
        if arguments.seed is not None:
            config = config.changed({"seed": arguments.seed})
    except SandboxConfigError as error:
        parser.error(str(error))
    except (OSError, ValueError) as error:
        parser.error(f"--config {arguments.config}: {error}")
    try:
        serve(config, arguments.port, arguments.host, ready=_announce)
    except OSError as error:
        parser.exit(1, f"Cannot listen on {arguments.host}:{arguments.port}: {error.strerror}\n")
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(f"ChartMogul stand-in ready at {url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
