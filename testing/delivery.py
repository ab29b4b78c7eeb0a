"""Delivering captured jobs: the worker's own code, a Redis and a ChartMogul in this process."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..config.connections import Client
from ..config.settings import Settings
from ..jobs.emails import mailbox_id_of
from ..jobs.job import Lane
from ..jobs.outcome import Outcome
from ..sandbox import InProcessSandbox, SandboxConfig
from ..sandbox.work import Request
from ..state.inbox import Entry, Inbox
from ..state.keys import Keys
from ..state.outcomes import Outcomes
from ..worker.account_worker import AccountWorker
from ..worker.chartmogul import Answer, NoAnswer, NotSent
from ..worker.notifier import Notifier
from ..worker.retry_after import retry_after_s

QUICK = 10_000
"""Requests a second where the test does not say how the stand-in behaves."""
BELOW_LIMIT = 0.98
"""Of the stand-in's limit, what the worker spends, as it does of ChartMogul's."""
MANY_ROUNDS = 1_000


class Delivery:
    """A Redis, a stand-in of ChartMogul, and workers. Not to be shared by threads.

    Args:
        settings: the application's.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = _fake_redis()
        self._config: SandboxConfig | None = None
        self._sandbox: InProcessSandbox | None = None
        self._workers: dict[str, _Worker] = {}
        self._handed_over: set[str] = set()

    def run(
        self,
        jobs: Sequence[tuple[str, Lane, Entry]],
        *,
        customers: Iterable[str] | None,
        sandbox: SandboxConfig | None,
    ) -> None:
        """Deliver the jobs that were not handed over before.

        Args:
            jobs: all so far, each with its account and its lane.
            customers, sandbox: how ChartMogul behaves from now on; None leaves what was said
                before.
        """
        accounts = tuple(dict.fromkeys(account for account, _, _ in jobs))
        self._prepare(accounts, customers, sandbox)
        for account, lane, entry in jobs:
            if entry.job_id not in self._handed_over:
                keys = Keys(account)
                inbox = Inbox(self._client, keys, retention_s=self._settings.retention_s)
                inbox.put(lane, [entry])
                self._handed_over.add(entry.job_id)
        with _quiet():
            for account in accounts:
                self._workers[account].run()

    def _prepare(
        self,
        accounts: Sequence[str],
        customers: Iterable[str] | None,
        sandbox: SandboxConfig | None,
    ) -> None:
        config = self._config
        if config is None or customers is not None or sandbox is not None:
            config = _sandbox_config(customers, sandbox)
        config = replace(config, accounts=_api_keys(accounts))
        if config == self._config:
            return
        if self._sandbox is None:
            self._sandbox = InProcessSandbox(config)
        else:
            self._sandbox.configure(config.to_dict())
        self._config = config
        self._workers = {
            account: _Worker(account, self._quick(account, config), self._client, self._sandbox)
            for account in accounts
        }

    def _quick(self, account: str, config: SandboxConfig) -> Settings:
        """The application's settings, with the stand-in's pace and without pauses."""
        return replace(
            self._settings,
            accounts=(account,),
            default_account=account,
            api_keys=_api_keys([account]),
            rate_limit=config.rate_limit * BELOW_LIMIT,
            unmatched_delays_s=(),
            unconfirmed_delays_s=(),
        )

    def outcome(self, account: str, job_id: str) -> Outcome | None:
        """What became of a job; None before it was handed over."""
        return Outcomes(self._client, Keys(account)).get(job_id)


def _sandbox_config(
    customers: Iterable[str] | None, sandbox: SandboxConfig | None
) -> SandboxConfig:
    if customers is None:
        return sandbox or SandboxConfig(rate_limit=QUICK, customers=(), auto_customers="*")
    config = sandbox or SandboxConfig(rate_limit=QUICK)
    return replace(config, customers=tuple(customers), auto_customers=None)


class _Worker:
    """What a worker does for one account, until there is nothing to do."""

    def __init__(
        self, account: str, settings: Settings, client: Client, sandbox: InProcessSandbox
    ) -> None:
        self._notifier = _Asked()
        line = _SandboxLine(sandbox, settings.api_key(account).reveal())
        self._worker = AccountWorker(
            account,
            settings,
            client=client,
            notifier=self._notifier,
            email_hash=mailbox_id_of,  # of a log that nobody keeps
            line=line,
        )

    def run(self) -> None:
        stopping = threading.Event()
        for _ in range(MANY_ROUNDS):
            self._notifier.asked = False
            self._worker.accept(stopping)
            if not self._notifier.asked:
                return


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the worker's code write no log: a test has the outcomes."""
    log = logging.getLogger("attribute_courier.worker")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


class _Asked(Notifier):
    """Notes that further work is asked for, in place of sending messages."""

    def __init__(self) -> None:
        super().__init__(self._ask, mailbox_id_of)
        self.asked = False

    def _ask(self, task: str, account: str, shown: str) -> None:
        self.asked = True


class _SandboxLine:
    """Requests to the stand-in, in place of a connection."""

    def __init__(self, sandbox: InProcessSandbox, api_key: str) -> None:
        self._sandbox = sandbox
        self._authorization = "Basic " + base64.b64encode(f"{api_key}:".encode()).decode()

    def connect(self, ends_by_s: float) -> None:
        return None

    def exchange(
        self, method: str, path: str, body: bytes | None, *, leave_by_s: float, ends_by_s: float
    ) -> Answer | NoAnswer | NotSent:
        if time.monotonic() > leave_by_s:
            return NotSent()
        request = Request(
            method=method, path=f"/v1{path}", authorization=self._authorization, body=body or b""
        )
        answer = self._sandbox.exchange(request)
        if answer is None:
            return NoAnswer(reason="the connection failed", sent=True)
        return Answer(
            status=answer.status,
            body=answer.body,
            retry_after_s=retry_after_s(dict(answer.headers)),
        )


def _api_keys(accounts: Iterable[str]) -> dict[str, str]:
    return {account: f"key-of-{account}" for account in accounts}


def _fake_redis() -> Client:
    try:
        import fakeredis
        import lupa  # noqa: F401  # runs the scripts
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'attribute-courier[testing]'",
            name=error.name,
        ) from None
    client: Any = fakeredis.FakeRedis(
        server=fakeredis.FakeServer(), decode_responses=True, encoding_errors="surrogateescape"
    )
    found: Client = client
    return found
