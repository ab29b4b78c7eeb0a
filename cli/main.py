"""`courier`: the command, its groups of commands and its exit codes."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

import click

from ..config import SettingsError
from ..jobs.errors import CourierError, IdempotencyConflict, InvalidJob

EXIT_NOT_DELIVERED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_STILL_PENDING = 4

_COMMANDS = {
    "add": "Queue attributes for every customer with an email.",
    "cancel": "Take back jobs that were not sent yet.",
    "demo": "Show the way of a job on real parts, in half a minute.",
    "flower": "Watch the jobs in a browser.",
    "forget": "Remove all that is kept of an email.",
    "import": "Queue the attributes of a whole table.",
    "outcomes": "Show what became of jobs.",
    "pause": "Stop all deliveries of an account for now.",
    "ping": "Check Redis, ChartMogul, the API keys and the way there.",
    "replay": "Send jobs that were not delivered again.",
    "resume": "Let deliveries go on.",
    "sandbox": "Run a stand-in for ChartMogul.",
    "status": "Show each account's queue, rate and pauses.",
    "up": "Run Redis, a worker and, without an API key, a stand-in for ChartMogul here.",
    "worker": "Run a worker.",
}

_EPILOG = """\b
Exit codes:
  0  done; with --wait: delivered, superseded or unchanged
  1  a job ended otherwise, a check failed, or nothing was found
  2  wrong usage, settings or input; nothing was sent
  3  Redis or ChartMogul cannot be reached
  4  still pending when the time of --wait was up

\b
Completion, for bash (zsh and fish likewise):
  eval "$(_COURIER_COMPLETE=bash_source courier)"
"""


class _Commands(click.Group):
    """Imports a command when it is used: `--help` and completion are quick, and need no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = "importing.command" if name == "import" else name
        command: click.Command = import_module(f".{module}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, InvalidJob, IdempotencyConflict) as error:
            raise Failure(str(error), EXIT_USAGE) from None
        except CourierError as error:
            raise Failure(str(error), EXIT_UNREACHABLE) from None


class Failure(click.ClickException):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"max_content_width": 100})
@click.version_option(version("attribute-courier"), prog_name="courier")
def main() -> None:
    """Deliver custom attributes to ChartMogul customers, by email.

    Settings come from the environment: CHARTMOGUL_API_KEY, COURIER_REDIS_URL and more, which
    docs/settings.md lists.
    """
