"""One delivery from its lease to its outcome: the worker's main story without Celery."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
import redis

from attribute_courier.config import Secret, load_settings
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob
from attribute_courier.jobs.keys import Keys
from attribute_courier.jobs.outcome import Outcome, Outcomes
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault, SandboxProcess
from attribute_courier.worker import courier as courier_module
from attribute_courier.worker.chartmogul import ChartMogul
from attribute_courier.worker.courier import Courier
from attribute_courier.worker.mailboxes import Claim, Lease, Mailboxes
from attribute_courier.worker.weather import Weather

ADA = "ada@example.com"
KEYS = Keys("default")


class Post:
    """Keeps what a courier sends instead of sending it."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.accepted: list[str] = []
        self.reported: list[Outcome] = []

    def accept(self, account: str, job_ids: Sequence[str]) -> None:
        self.accepted += job_ids

    def deliver(self, account: str, lease: Lease) -> None:
        self.leases.append(lease)

    def report(self, outcome: Outcome) -> None:
        self.reported.append(outcome)


class Slow(Mailboxes):
    """Redis answers a claim late."""

    def claim(self, mailbox_id: str, token: str, *, rate: float = 0) -> Claim | float | None:
        found = super().claim(mailbox_id, token, rate=rate)
        time.sleep(0.3)
        return found


class Desk:
    """A courier with its post, and a job or two."""

    def __init__(
        self, client: redis.Redis, stand_in: SandboxProcess, boxes: type[Mailboxes] = Mailboxes
    ) -> None:
        self.client = client
        self.outcomes = Outcomes(client, KEYS)
        self.post = Post()
        self.courier = Courier(
            "default",
            load_settings(),
            mailboxes=boxes(client, KEYS, lease_s=60, retention_s=1000),
            outcomes=self.outcomes,
            weather=Weather(client, KEYS, rate_limit=1000, probe_delays_s=(60,)),
            chartmogul=ChartMogul(stand_in.url, Secret(DEFAULT_API_KEY), timeout_s=30),
            post=self.post,
        )

    def accepted(self, **values: str) -> AttributeJob:
        job = AttributeJob(
            job_id=new_job_id(),
            email=ADA,
            attributes=tuple(Attribute.of("String", v, key=k) for k, v in values.items()),
            occurred_at=self.outcomes.now(),
        )
        self.client.hset(KEYS.inbox, job.job_id, dump_wire(job))
        assert self.courier.accept([job.job_id]) == 1
        return job

    def deliver(self) -> str:
        (lease,) = self.post.leases
        self.post.leases.clear()
        return self.courier.deliver(lease.mailbox_id, lease.token)

    def outcome(self, job: AttributeJob) -> Outcome:
        found = self.outcomes.get(job.job_id)
        assert found is not None
        return found


@pytest.fixture
def desk(client: redis.Redis, stand_in: SandboxProcess) -> Callable[..., Desk]:
    return lambda **options: Desk(client, stand_in, **options)


def test_a_delivery_says_what_it_led_to(
    desk: Callable[..., Desk], stand_in: SandboxProcess
) -> None:
    found = desk()
    job = found.accepted(plan="pro")
    assert found.deliver() == "delivered · 1 customer"
    assert found.outcome(job).status == "delivered"
    assert [outcome.job_id for outcome in found.post.reported] == [job.job_id]
    assert stand_in.customers(ADA)[0]["attributes"]["custom"] == {"plan": "pro"}


def test_a_lease_is_used_once(desk: Callable[..., Desk], stand_in: SandboxProcess) -> None:
    found = desk()
    found.accepted(plan="pro")
    (lease,) = found.post.leases
    assert found.deliver() == "delivered · 1 customer"
    assert found.courier.deliver(lease.mailbox_id, lease.token) == "no lease"
    assert len(stand_in.requests()) == 1


def test_a_claim_that_came_too_late_is_not_used(
    desk: Callable[..., Desk], stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease could end under the request, and a second one start (promise 3)."""
    monkeypatch.setattr(courier_module, "LEASE_MARGIN_S", 0.2)
    found = desk(boxes=Slow)
    job = found.accepted(plan="pro")
    assert found.deliver() == "nothing to send"
    assert stand_in.requests() == []
    assert found.outcome(job).status == "pending"


@pytest.mark.parametrize(
    "content",
    [
        '{"message": "\\ud83d is bad"}',
        '{"errors": {"\\udcff": ["\\ud800"]}}',
        '{"errors": [{"a": [[[["\\udc80"]]]]}, null, 1e999]}',
        '{"message": "\\u0000"}',
        '{"message": "' + "x" * 900_000 + '"}',
    ],
)
def test_an_answer_of_any_form_leads_to_an_outcome(
    desk: Callable[..., Desk], stand_in: SandboxProcess, content: str
) -> None:
    """One that could not be noted would be asked for again and again, without end."""
    stand_in.configure(faults=[Fault(kind="status", status=422, content=content)])
    found = desk()
    job = found.accepted(plan="pro")
    assert found.deliver() == "refused · 0 customers"
    outcome = found.outcome(job)
    assert outcome.status == "refused"
    assert outcome.message
    assert outcome.message.encode()


def test_customers_of_any_form_lead_to_an_outcome(
    desk: Callable[..., Desk], stand_in: SandboxProcess
) -> None:
    content = (
        '{"entries": [{"uuid": "\\ud800", "external_id": {"a": "\\udcff"}}, null, [], "x", '
        '{"uuid": 8, "external_id": true, "attributes": {"custom": {"plan": "pro"}}}]}'
    )
    stand_in.configure(faults=[Fault(kind="status", status=200, content=content)])
    found = desk()
    job = found.accepted(plan="pro")
    assert found.deliver() == "delivered · 5 customers"
    for customer in found.outcome(job).customers:
        assert str(customer.uuid).encode()
        assert str(customer.external_id).encode()
