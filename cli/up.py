"""`courier up`."""

from __future__ import annotations

import shlex
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click

from ..config import Secret, Settings, load_settings
from ..config.connections import connect_briefly
from ..config.embedded import FILE_NAME, announced
from ..config.redis_errors import AuthenticationError, RedisError
from ..sandbox import DEFAULT_API_KEY, EmbeddedRedis, SandboxError, SandboxProcess
from ..state.clock import work_exists
from .account import check_enabled
from .extras import needing
from .main import EXIT_UNREACHABLE, EXIT_USAGE, Failure
from .stage import start_worker

WORKER_STOP_S = 40


@click.command(
    "up",
    epilog="""\b
Examples:
  courier up
  CHARTMOGUL_API_KEY=… courier up

\b
Then, in another terminal:
  courier add ada@example.com channel=Facebook age:Integer=8 --wait 30
""",
)
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".courier"),
    show_default=True,
    help="Directory for Redis's data, which stays for the next time.",
)
@click.option(
    "--sandbox-port",
    type=click.IntRange(0, 65535),
    default=8181,
    show_default=True,
    help="Port of the stand-in; 0 chooses a free one.",
)
def command(data_dir: Path, sandbox_port: int) -> None:
    """Run everything in this terminal, until Ctrl-C: Redis, a worker, and a stand-in for
    ChartMogul when CHARTMOGUL_API_KEY is not set.

    The embedded Redis listens where COURIER_REDIS_URL says (localhost:6379 by default); a Redis
    that answers there already is used as it is. It asks for a password. Commands and applications
    that run in this directory find it by themselves; elsewhere, run the printed `export` first.

    For development: in production, run Redis yourself.
    """
    settings = load_settings()
    check_enabled(settings)
    if not settings.api_keys:
        with needing("sandbox"):
            import tornado  # noqa: F401  # the stand-in runs on it
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    environ: dict[str, str] = {}
    try:
        with ExitStack() as running:
            address, elsewhere = _redis(settings, data_dir, running, environ)
            click.echo(f"Redis       {address}")
            if settings.own_broker:
                click.echo(f"Broker      {settings.broker_address}")
            if not settings.api_keys:
                stand_in = running.enter_context(SandboxProcess(port=sandbox_port))
                environ["CHARTMOGUL_API_URL"] = stand_in.url
                environ["CHARTMOGUL_API_KEY"] = DEFAULT_API_KEY
                click.echo(f"ChartMogul  a stand-in at {stand_in.url}: CHARTMOGUL_API_KEY is unset")
            else:
                click.echo(f"ChartMogul  {settings.api_url}")
            worker = start_worker(environ)
            running.callback(worker.stop, WORKER_STOP_S)
            click.echo(f"Worker      pid {worker.pid}; Ctrl-C stops everything")
            if elsewhere:
                click.echo(f"Elsewhere   {elsewhere}")
            code = worker.popen.wait()
    except SandboxError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("Stopped.")
        return
    raise click.ClickException(f"the worker ended by itself, with exit code {code}")


def _redis(
    settings: Settings, data_dir: Path, running: ExitStack, environ: dict[str, str]
) -> tuple[str, str]:
    """Start an embedded Redis, unless one runs there.

    Returns:
        Where it is, in words, and the command that lets programs in other directories find it.
    """
    client = connect_briefly(settings)
    try:
        client.ping()
        waiting = work_exists(client, settings.accounts)
    except AuthenticationError:
        raise Failure(
            f"the Redis at {settings.redis_address} asks for another password", EXIT_UNREACHABLE
        ) from None
    except RedisError:
        pass
    else:
        if waiting and not settings.api_keys:
            # They may be meant for a real account.
            raise Failure(
                f"the Redis at {settings.redis_address} runs already and holds waiting jobs, "
                "which the stand-in would take: set CHARTMOGUL_API_KEY, or stop that Redis",
                EXIT_USAGE,
            )
        return f"{settings.redis_address}, which runs already", ""
    address = settings.redis
    if address.tls or address.host not in ("localhost", "127.0.0.1") or address.username:
        raise Failure(
            f"no Redis answers at {settings.redis_address}, and an embedded one listens on "
            "localhost alone, without TLS or users: start yours, or unset COURIER_REDIS_URL",
            EXIT_UNREACHABLE,
        )
    _make_private(data_dir)
    # The stand-in has its own, or it would answer for jobs that wait for a real account.
    home = data_dir / ("redis" if settings.api_keys else "redis-sandbox")
    password = address.password.reveal() if address.password else None
    server = running.enter_context(EmbeddedRedis(home, address.port, password))
    url = replace(address, password=Secret(server.password)).url().reveal()
    path = running.enter_context(announced(data_dir, url))
    environ["COURIER_REDIS_URL"] = url
    command = f'export COURIER_REDIS_URL="$(cat {shlex.quote(str(path.resolve()))})"'
    return f"{settings.redis_address}, embedded, data in {home}", command


def _make_private(data_dir: Path) -> None:
    """Make the directory for its owner alone, unless others' files are in it."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if {path.name for path in data_dir.iterdir()} <= _OURS:
        data_dir.chmod(0o700)


_OURS = {"redis", "redis-sandbox", FILE_NAME}


def _as_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
