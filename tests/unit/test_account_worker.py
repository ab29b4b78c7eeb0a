"""One delivery from its lease to its outcome: the worker's main story without Celery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import redis

from attribute_courier.config import Secret, load_settings
from attribute_courier.jobs.attributes import Attribute
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.jobs.job import AttributeJob, Lane
from attribute_courier.jobs.outcome import Outcome
from attribute_courier.jobs.schema import dump_wire
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault, SandboxProcess
from attribute_courier.state.account import AccountHealth
from attribute_courier.state.keys import Keys
from attribute_courier.state.mailboxes import Claim, Early, Lease, Mailboxes
from attribute_courier.state.outcomes import Outcomes
from attribute_courier.worker import courier as courier_module
from attribute_courier.worker.account_worker import Courier
from attribute_courier.worker.chartmogul import ChartMogul

ADA = "ada@example.com"
KEYS = Keys("default")


class Post:
    """Keeps what a courier sends instead of sending it."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.called = 0
        self.waiting: list[str] = []
        self.reported: list[Outcome] = []

    def accept(self, account: str) -> None:
        self.called += 1

    def deliver(self, account: str, lease: Lease) -> None:
        self.leases.append(lease)

    def received(self, job: AttributeJob) -> None:
        self.waiting.append(job.job_id)

    def report(self, outcome: Outcome) -> None:
        self.reported.append(outcome)


class Slow(Mailboxes):
    """Redis answers a claim late."""

    def claim(self, mailbox_id: str, token: str) -> Claim | Early | None:
        found = super().claim(mailbox_id, token)
        time.sleep(0.3)
        return found


class Desk:
    """A courier with its post, and a job or two."""

    def __init__(
        self,
        client: redis.Redis,
        stand_in: SandboxProcess,
        boxes: type[Mailboxes] = Mailboxes,
        strict_types: bool = False,
        timeout_s: float = 30,
    ) -> None:
        self.client = client
        self.outcomes = Outcomes(client, KEYS)
        self.post = Post()
        self.courier = Courier(
            "default",
            load_settings(),
            mailboxes=boxes(
                client,
                KEYS,
                lease_s=60,
                retention_s=1000,
                rate_limit=10_000,
                strict_types=strict_types,
            ),
            outcomes=self.outcomes,
            weather=AccountHealth(client, KEYS, rate_limit=1000, probe_delays_s=(60,)),
            chartmogul=ChartMogul(stand_in.url, Secret(DEFAULT_API_KEY), timeout_s=timeout_s),
            post=self.post,
        )

    def produced(self, *, email: str = ADA, lane: Lane = "live", **values: str) -> AttributeJob:
        job = AttributeJob(
            job_id=new_job_id(),
            email=email,
            attributes=tuple(Attribute.of("String", v, key=k) for k, v in values.items()),
            occurred_at=self.outcomes.now(),
            lane=lane,
        )
        self.put(job.job_id, dump_wire(job), lane)
        return job

    def put(self, job_id: str, document: str, lane: Lane = "live") -> None:
        self.client.hset(KEYS.inbox, job_id, document)
        self.client.zadd(KEYS.inbox_lane(lane), {job_id: 1})

    def accepted(self, *, lane: Lane = "live", **values: str) -> AttributeJob:
        job = self.produced(lane=lane, **values)
        assert self.courier.accept() == 1
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
    assert found.post.waiting == [job.job_id]
    assert [outcome.job_id for outcome in found.post.reported] == [job.job_id]
    assert stand_in.customers(ADA)[0]["attributes"]["custom"] == {"plan": "pro"}


def test_a_bad_job_spoils_none_of_those_beside_it(desk: Callable[..., Desk]) -> None:
    found = desk()
    before = found.produced(email="bob@example.com", plan="pro")
    found.put(new_job_id(), "{")
    found.put(new_job_id(), '{"v": 2}')
    ahead = replace(
        before, job_id=new_job_id(), occurred_at=before.occurred_at + timedelta(hours=1)
    )
    found.put(ahead.job_id, dump_wire(ahead))
    after = found.produced(email="eve@example.com", plan="pro")
    assert found.courier.accept() == 5
    assert {found.outcome(job).status for job in (before, after)} == {"pending"}
    assert found.outcome(ahead).message is not None
    assert len(found.outcomes.recent(statuses=("invalid",))) == 2
    assert found.client.hlen(KEYS.inbox) == 1, "what a newer worker can read stays"
    assert len(found.post.leases) == 2


def test_of_very_many_reasons_the_first_are_kept(desk: Callable[..., Desk]) -> None:
    found = desk()
    strange = ",".join(f'{{"strange_{n}": 1}}' for n in range(200))
    found.put(job_id := new_job_id(), f'{{"v": 1, "attributes": [{strange}]}}')
    found.courier.accept()
    outcome = found.outcomes.get(job_id)
    assert outcome is not None
    assert outcome.message is not None
    assert len(outcome.message) == courier_module.MAX_REASONS


def test_one_call_takes_so_much_and_asks_for_another(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is to stop does not wait for a whole table."""
    monkeypatch.setattr(courier_module, "ACCEPT_AT_ONCE", 2)
    monkeypatch.setattr(courier_module, "ACCEPT_ROUNDS", 2)
    found = desk()
    for n in range(5):
        found.produced(email=f"{n}@example.com", plan="pro")
    assert found.courier.accept() == 4
    assert found.post.called == 1
    assert found.courier.accept() == 1
    assert found.post.called == 1


def test_few_threads_accept_for_all_that_call_meanwhile(
    desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ACCEPTING_THREADS", 1)
    going_on, second_came = threading.Event(), threading.Event()

    class Held(Mailboxes):
        def take(self, *, limit: int, within_s: float) -> list[tuple[str, str]]:
            taken = super().take(limit=limit, within_s=within_s)
            going_on.set()
            assert second_came.wait(10)
            return taken

    found = desk(boxes=Held)
    found.produced(plan="pro")
    counts: list[int] = []
    first = threading.Thread(target=lambda: counts.append(found.courier.accept()))
    first.start()
    assert going_on.wait(10)
    late = found.produced(email="bob@example.com", plan="pro")
    assert found.courier.accept() == 0
    second_came.set()
    first.join(10)
    assert counts == [2]
    assert found.outcome(late).status == "pending"


def test_where_types_are_strict_another_one_is_invalid(desk: Callable[..., Desk]) -> None:
    found = desk(strict_types=True)
    found.client.hset(KEYS.types, "plan", "Integer")
    job = found.accepted(plan="pro")
    outcome = found.outcome(job)
    assert outcome.status == "invalid"
    assert outcome.message == ("plan: String, but Integer was used first (COURIER_STRICT_TYPES)")


def test_of_bulk_jobs_flower_is_told_nothing(desk: Callable[..., Desk]) -> None:
    found = desk()
    found.accepted(lane="bulk", plan="free")
    job = found.accepted(lane="bulk", plan="pro")
    assert found.deliver() == "delivered · 1 customer"
    assert found.outcome(job).status == "delivered"
    assert found.post.waiting == []
    assert found.post.reported == []


def test_a_lease_is_used_once(desk: Callable[..., Desk], stand_in: SandboxProcess) -> None:
    found = desk()
    found.accepted(plan="pro")
    (lease,) = found.post.leases
    assert found.deliver() == "delivered · 1 customer"
    assert found.courier.deliver(lease.mailbox_id, lease.token) == "nothing to deliver"
    assert len(stand_in.requests()) == 1


def test_a_claim_that_came_too_late_is_not_used(
    desk: Callable[..., Desk], stand_in: SandboxProcess
) -> None:
    """Its lease could end under the request, and a second one start (promise 3)."""
    found = desk(boxes=Slow, timeout_s=0.2)
    job = found.accepted(plan="pro")
    assert found.deliver() == "pending · 0 customers"
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


def test_a_delivery_goes_on_with_what_comes_free(
    desk: Callable[..., Desk], stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message for each would cost more than the delivery."""
    monkeypatch.setenv("COURIER_MAX_PARALLEL", "1")
    found = desk()
    jobs = [found.produced(email=f"{n}@example.com", plan="pro") for n in range(3)]
    stand_in.configure(customers=[f"{n}@example.com" for n in range(3)])
    found.courier.accept()
    assert found.deliver() == "3 deliveries; the last: delivered · 1 customer"
    assert {found.outcome(job).status for job in jobs} == {"delivered"}
    assert found.post.leases == []


def test_a_server_that_has_forgotten_the_scripts_is_told_them_again(
    desk: Callable[..., Desk],
) -> None:
    found = desk()
    job = found.accepted(plan="pro")
    found.client.script_flush()
    assert found.deliver() == "delivered · 1 customer"
    assert found.outcome(job).status == "delivered"


def test_a_delivery_does_not_go_on_without_end(
    desk: Callable[..., Desk], stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is to stop waits for it; others take over."""
    monkeypatch.setenv("COURIER_MAX_PARALLEL", "1")
    monkeypatch.setattr(courier_module, "DELIVER_FOR_S", 0)
    found = desk()
    for n in range(3):
        found.produced(email=f"{n}@example.com", plan="pro")
    found.courier.accept()
    found.deliver()
    assert len(found.post.leases) == 1
    assert len(stand_in.requests()) == 1
