"""One account of a worker without Celery and without HTTP: fakes stand at these two seams."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import redis

from attribute_courier.config.secret import Secret
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.emails import email_hash
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob, Lane
from attribute_courier.jobs.outcome import Outcome
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.inbox import Entry, Inbox
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Limits, Mailboxes
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.worker.acceptance import Acceptance
from attribute_courier.worker.chartmogul import Answer, NoAnswer, NotSent
from attribute_courier.worker.deliveries import Deliveries
from attribute_courier.worker.notifier import is_shown
from attribute_courier.worker.request_trace import RequestTrace
from attribute_courier.worker.settlement import Policy
from attribute_courier.worker.stint import Stint

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
API_KEY = "key-of-the-account"
ACCOUNT = "default"
KEYS = Keys(ACCOUNT)
RETENTION_S = 1000
POLICY = Policy(
    confirm="echo",
    unmatched_delays_s=(300,),
    unconfirmed_delays_s=(60,),
    give_up_after_s=86_400,
    timeout_s=2,
)
PONG = Answer(status=200, body=b'{"data": "pong!"}')


def hashed(email: str) -> str:
    """What stands for an email in the log of a desk."""
    return email_hash(email, b"key of the log")


class FakeNotifier:
    """Keeps what would become messages and events."""

    def __init__(self) -> None:
        self.accepts = 0
        self.delivers = 0
        self.received_jobs: list[str] = []
        self.reported: list[Outcome] = []

    def accept(self, account: str) -> None:
        assert account == ACCOUNT
        self.accepts += 1

    def deliver(self, account: str) -> None:
        assert account == ACCOUNT
        self.delivers += 1

    def received(self, job: AttributeJob) -> None:
        self.received_jobs.append(job.job_id)

    def report(self, outcome: Outcome) -> None:
        if is_shown(outcome):
            self.reported.append(outcome)

    def reported_as(self) -> list[tuple[str, str]]:
        return [(outcome.job_id, outcome.status) for outcome in self.reported]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request that would have left."""

    email: str
    custom: dict[str, Any]
    leave_by_s: float
    ends_by_s: float


def echo(custom: Sequence[dict[str, Any]]) -> Answer:
    """200 with one customer that shows what was sent, as ChartMogul answers."""
    shown = {each["key"]: each["value"] for each in custom}
    entry = {"uuid": "cus_1", "external_id": "1", "attributes": {"custom": shown}}
    return Answer(status=200, body=json.dumps({"entries": [entry]}).encode())


Reply = Answer | NoAnswer | NotSent | Callable[[], object]


@dataclass
class FakeChartMogul:
    """The HTTP client: answers from a list, then echoes what it gets.

    An answer may be a function, which happens while the request is under way. Unless it returns
    an answer itself, what was sent is echoed.
    """

    answers: list[Reply] = field(default_factory=list)
    pings: list[Answer | NoAnswer] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    pinged: int = 0
    while_waiting: Callable[[], None] | None = None
    """Happens each time a stint sees to its connection, as it does before each wait."""

    def connect(self) -> NoAnswer | None:
        if self.while_waiting is not None:
            self.while_waiting()
        return None

    def add_attributes(
        self, email: str, custom: list[dict[str, Any]], *, leave_by_s: float, ends_by_s: float
    ) -> Answer | NoAnswer | NotSent:
        found: object = self.answers.pop(0) if self.answers else None
        if callable(found):
            found = found()
        if isinstance(found, NotSent):
            return found
        values = {each["key"]: each["value"] for each in custom}
        self.sent.append(
            Sent(email=email, custom=values, leave_by_s=leave_by_s, ends_by_s=ends_by_s)
        )
        return found if isinstance(found, Answer | NoAnswer) else echo(custom)

    def ping(self) -> Answer | NoAnswer:
        self.pinged += 1
        return self.pings.pop(0) if self.pings else PONG


class Desk:
    """What a worker does for one account, with its doubles."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        rate_limit: float = 10_000,
        max_parallel: int = 20,
        bulk_share: float = 0.1,
        strict_types: bool = False,
        inbox: type[Inbox] = Inbox,
    ) -> None:
        self.client: Any = client
        self.notifier = FakeNotifier()
        self.chartmogul = FakeChartMogul()
        self.outcomes = Outcomes(client, KEYS)
        self.health = AccountHealth(client, KEYS, rate_limit=rate_limit, max_parallel=max_parallel)
        self.inbox = inbox(client, KEYS, retention_s=RETENTION_S)
        self.mailboxes = Mailboxes(
            client,
            KEYS,
            limits=Limits(
                rate_limit=rate_limit,
                max_parallel=max_parallel,
                lease_s=60,
                bulk_share=bulk_share,
            ),
            retention_s=RETENTION_S,
            strict_types=strict_types,
        )
        notifier: Any = self.notifier
        chartmogul: Any = self.chartmogul
        self.acceptance = Acceptance(
            ACCOUNT,
            inbox=self.inbox,
            mailboxes=self.mailboxes,
            outcomes=self.outcomes,
            notifier=notifier,
            bulk_share=bulk_share,
        )
        self.deliveries = Deliveries(
            ACCOUNT,
            mailboxes=self.mailboxes,
            outcomes=self.outcomes,
            acceptance=self.acceptance,
            chartmogul=chartmogul,
            notifier=notifier,
            policy=POLICY,
            email_hash=hashed,
            trace=RequestTrace(ACCOUNT, "https://api.example/v1"),
            api_key=Secret(API_KEY),
            probe_delays_s=(60,),
        )
        self.stopping = threading.Event()

    def put(self, wire: str, *, lane: Lane = "live", job_id: str | None = None) -> str:
        """Text into the inbox, whatever it is. Returns the job's id."""
        job_id = job_id or new_job_id()
        self.inbox.put(lane, [Entry(job_id=job_id, wire=wire)])
        return job_id

    def produced(
        self,
        email: str = ADA,
        *,
        lane: Lane = "live",
        occurred_at: datetime | None = None,
        only_changed: bool = False,
        **values: str | int,
    ) -> str:
        """A job into the inbox. Returns its id."""
        job = AttributeJob(
            job_id=new_job_id(),
            email=email,
            attributes=tuple(
                Attribute.of("Integer" if isinstance(v, int) else "String", v, key=k)
                for k, v in values.items()
            ),
            occurred_at=occurred_at,
            lane=lane,
            only_changed=only_changed,
        )
        return self.put(dump_wire(job), lane=lane, job_id=job.job_id)

    def accepted(self, email: str = ADA, *, lane: Lane = "live", **values: str | int) -> str:
        """A job in its mailbox. Returns its id."""
        job_id = self.produced(email, lane=lane, **values)
        assert self.acceptance.accept() == 1
        return job_id

    def run(self) -> Stint:
        """One stint of deliveries."""
        return self.deliveries.run(self.stopping)

    def outcome(self, job_id: str) -> Outcome:
        found = self.outcomes.get(job_id)
        assert found is not None
        return found

    def leases(self) -> int:
        count: int = self.client.zcard(KEYS.of("leases"))
        return count
