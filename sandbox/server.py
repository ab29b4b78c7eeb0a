"""The ChartMogul stand-in: a few endpoints, strict limits, faults on demand, and a log of it all.

It is built from the reference and from what was recorded of sister endpoints, and is calibrated on
nothing else: where the real endpoint is not known, a setting chooses.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets

from . import answers
from .answers import Answer, json_answer
from .attributes import decode
from .call import Call, send
from .errors import SandboxConfigError
from .run import Run
from .settings import SandboxConfig
from .work import Request, enter

_CONTROL = "/_sandbox/"
_MAX_BODY_BYTES = 10_000_000


def serve(
    config: SandboxConfig,
    port: int,
    host: str = "127.0.0.1",
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run the stand-in until SIGTERM or SIGINT.

    Args:
        config: Its settings.
        port: Port to listen on; 0 chooses a free one.
        host: Address to listen on. The control endpoints ask for no password: whoever reaches the
            address controls the stand-in.
        ready: Called with the API's URL (`http://host:port/v1`) once it listens.

    Raises:
        OSError: the address cannot be bound.
    """
    asyncio.run(_serve(config, port, host, ready))


async def _serve(
    config: SandboxConfig, port: int, host: str, ready: Callable[[str], None] | None
) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    # More clients than a strict account allows may knock at once; none is to be turned away by TCP.
    sockets = bind_sockets(port, address=host, backlog=1024)
    server = HTTPServer(StandIn(config), max_body_size=_MAX_BODY_BYTES)
    server.add_sockets(sockets)
    if ready is not None:
        ready(f"http://{host}:{sockets[0].getsockname()[1]}/v1")
    await ended.wait()
    server.stop()
    await server.close_all_connections()


class StandIn:
    """Lets requests in as ChartMogul would: who is asking, then the limits, then the content."""

    def __init__(self, config: SandboxConfig) -> None:
        self._initial = config
        self._run = Run(config)
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: HTTPServerRequest) -> None:
        if request.path.startswith(_CONTROL):
            send(request, self._control(request))
            return
        run = self._run
        admitted = enter(
            run,
            Request(
                method=request.method or "",
                path=request.path,
                authorization=request.headers.get("Authorization", ""),
                body=request.body,
                query=request.query_arguments,
            ),
        )
        if isinstance(admitted, Answer):
            send(request, admitted)
            return
        call = Call(admitted=admitted, request=request)
        fault = run.faults_inside.draw(admitted.exchange, admitted.endpoint)
        delay_s = run.latency_s()
        if fault is None and not delay_s:
            call.answer()
        else:
            self._spawn(call.answer_later(delay_s, fault))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    def _control(self, request: HTTPServerRequest) -> Answer:
        try:
            match request.method, request.path.removeprefix(_CONTROL):
                case "POST", "reset":
                    self._run = Run(self._initial)
                    return json_answer(200, {})
                case "POST", "configure":
                    values = decode(request.body)
                    if not isinstance(values, dict):
                        raise SandboxConfigError("settings must be an object")
                    self._run.configure(values)
                    return json_answer(200, {})
                case "GET", "requests":
                    since = int(_argument(request, "since") or 0)
                    found = [exchange.to_dict() for exchange in self._run.log.since(since)]
                    return json_answer(200, {"requests": found})
                case "GET", "stats":
                    return json_answer(200, self._run.stats())
                case "GET", "customers":
                    return json_answer(200, {"customers": self._customers(request)})
        except ValueError as error:
            return json_answer(400, {"error": str(error)})
        return answers.NOT_FOUND

    def _customers(self, request: HTTPServerRequest) -> list[dict[str, Any]]:
        """The state of customers: as they would be answered, with the source of each attribute."""
        accounts = self._run.accounts
        name = _argument(request, "account") or next(iter(accounts))
        if name not in accounts:
            raise SandboxConfigError(f"unknown account: {name}")
        store = accounts[name].customers
        email = _argument(request, "email")
        found = store.all() if email is None else store.find(email)
        return [customer.entry | {"sources": customer.sources} for customer in found]


def _argument(request: HTTPServerRequest, name: str) -> str | None:
    values = request.query_arguments.get(name)
    return values[-1].decode() if values else None
