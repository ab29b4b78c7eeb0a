"""The stand-in in this process: no server and no socket, and answers that take no time."""

from __future__ import annotations

from typing import Any

from . import answers
from .answers import Answer, with_retry_after
from .run import Run
from .settings import SandboxConfig
from .work import Request, enter


class InProcessSandbox:
    """The stand-in as an object. Not to be shared by threads.

    Faults strike as they do in the server, but whatever only takes time there takes none here.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self._run = Run(config)

    def configure(self, values: dict[str, Any]) -> None:
        """Change settings, given as `SandboxConfig.to_dict()` writes them.

        Raises:
            SandboxConfigError: a setting is unknown or wrong.
        """
        self._run.configure(values)

    def exchange(self, request: Request) -> Answer | None:
        """The answer to a request; None where the connection breaks without one."""
        run = self._run
        admitted = enter(run, request)
        if isinstance(admitted, Answer):
            return admitted
        fault = run.faults_inside.draw(admitted.exchange, admitted.endpoint)
        if fault is not None:
            admitted.exchange.fault = fault.kind
        answer: Answer | None
        match fault.kind if fault else "latency":
            case "drop_before":
                answer = None
            case "drop_after":
                admitted.work()
                answer = None
            case "status" | "redirect" if fault:
                if fault.apply:
                    admitted.work()
                answer = with_retry_after(answers.faulty(fault), run.config)
            case "malformed":
                admitted.work()
                answer = answers.MALFORMED
            case _:
                answer = admitted.work()
        admitted.leave(answer.status if answer else None)
        return answer

    def customers(self, email: str, account: str) -> list[dict[str, Any]]:
        """The customers of an email, as they are answered, with the `sources` of attributes."""
        found = self._run.accounts[account].customers.find(email)
        return [customer.entry | {"sources": customer.sources} for customer in found]
