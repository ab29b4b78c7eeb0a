"""Captured jobs, delivered by the worker's own code to the stand-in, all in this process."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from attribute_courier import Settings, add_attributes, add_many, configure, default_producer
from attribute_courier.sandbox import (
    DEFAULT_API_KEY,
    Fault,
    InProcessSandbox,
    SandboxConfig,
    SandboxProcess,
)
from attribute_courier.sandbox.work import Request
from attribute_courier.testing import Capture, capture, deliver_captured

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Capture]:
    """Whoever opens a connection fails."""

    def connect(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with capture() as found:
        yield found


def statuses(**options: Any) -> list[str]:
    return [outcome.status for outcome in deliver_captured(**options)]


def sandbox(*faults: Fault) -> SandboxConfig:
    return SandboxConfig(auto_customers="*", faults=faults)


class TestOutcomes:
    def test_are_those_of_all_jobs_in_their_order(self, captured: Capture) -> None:
        receipts = [
            add_attributes(ADA, {"plan": "free", "age": 8}),
            add_attributes(BOB, {"plan": "pro"}),
            add_attributes("ADA@example.com", {"plan": "pro"}, lane="bulk"),
            add_attributes(ADA, {"plan": "free"}, occurred_at=datetime(2026, 3, 1, tzinfo=UTC)),
        ]
        outcomes = deliver_captured(customers=[ADA, "ADA@example.com", "ADA@example.com"])
        assert [outcome.job_id for outcome in outcomes] == [each.job_id for each in receipts]
        assert [outcome.status for outcome in outcomes] == [
            "delivered",
            "unmatched",
            "delivered",
            "superseded",
        ]
        assert len(outcomes[0].customers) == 2, "they were sent as the newest job spells it"
        assert receipts[0].wait() == receipts[0].outcome() == outcomes[0]
        assert asyncio.run(receipts[1].wait_async()).reason == "no_customer"
        assert default_producer().outcomes(ADA) == [outcomes[3], outcomes[2], outcomes[0]]

    def test_are_delivered_unless_said_otherwise(self, captured: Capture) -> None:
        add_many((f"{n}@example.com", {"n": n}) for n in range(10))
        assert set(statuses()) == {"delivered"}

    def test_of_jobs_that_were_never_asked_for_are_none(self, captured: Capture) -> None:
        assert deliver_captured() == ()

    def test_go_on_from_those_before(self, captured: Capture) -> None:
        """A later call delivers what came since, to the same customers."""
        add_attributes(ADA, {"plan": "pro"})
        add_attributes(BOB, {"plan": "pro"})
        assert statuses(customers=[ADA]) == ["delivered", "unmatched"]
        receipt = add_attributes(ADA, {"plan": "pro"}, only_changed=True)
        assert statuses() == ["delivered", "unmatched", "unchanged"]
        add_attributes(BOB, {"plan": "free"})
        assert statuses() == ["delivered", "unmatched", "unchanged", "unmatched"]
        add_attributes(BOB, {"plan": "free"})
        assert statuses(customers=[BOB])[-1] == "delivered"
        assert receipt.wait().status == "unchanged"
        captured.clear()
        assert deliver_captured() == ()
        add_attributes(ADA, {"plan": "pro"}, only_changed=True)
        assert statuses() == ["delivered"], "nothing is known of what was before"

    def test_are_what_the_stand_in_leads_to(self, captured: Capture) -> None:
        add_attributes(ADA, {"n": 1})
        add_attributes(BOB, {"n": 1})
        add_attributes("quiet@example.com", {"n": 1})
        refused = Fault(kind="status", status=422, email=BOB)
        ada, bob, quiet = deliver_captured(sandbox=sandbox(refused))
        assert ada.status == "delivered"
        assert (bob.status, bob.message) == ("refused", "base: Injected by the sandbox.")
        assert quiet.status == "unconfirmed"

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (Fault(kind="status", status=503), "server"),
            (Fault(kind="drop_before"), "connection"),
            (Fault(kind="malformed"), "not_chartmogul"),
        ],
    )
    def test_that_would_come_later_are_pending(
        self, captured: Capture, fault: Fault, reason: str
    ) -> None:
        receipt = add_attributes(ADA, {"n": 1})
        [outcome] = deliver_captured(sandbox=sandbox(fault))
        assert (outcome.status, outcome.reason, outcome.attempts) == ("pending", reason, 1)
        with pytest.raises(TimeoutError, match=r"is pending, also after deliver_captured\(\): \w"):
            receipt.wait()

    def test_of_a_paused_account_are_pending(self, captured: Capture) -> None:
        add_attributes(ADA, {"n": 1})
        assert statuses(sandbox=sandbox(Fault(kind="revoked"))) == ["pending"]

    def test_follow_the_applications_settings(self, captured: Capture) -> None:
        configure(Settings(accounts=["eu", "us"], strict_types=True, confirm="match"))
        for account in ("eu", "us"):
            add_attributes("quiet@example.com", {"n": 1}, account=account)
        add_attributes(ADA, {"n": "one"}, account="us")
        outcomes = deliver_captured()
        assert [each.status for each in outcomes] == ["delivered", "delivered", "invalid"]
        assert [each.account for each in outcomes] == ["eu", "us", "us"]


def test_without_a_capture_there_is_nothing_to_deliver() -> None:
    with pytest.raises(RuntimeError, match=r"within a block of capture\(\)"):
        deliver_captured()


@pytest.mark.parametrize("missing", ["fakeredis", "lupa"])
def test_without_its_extra_it_says_which_one_to_install(missing: str) -> None:
    """Capturing needs none."""
    program = f"""
import sys
sys.modules[{missing!r}] = None
from attribute_courier import add_attributes
from attribute_courier.testing import capture, deliver_captured
with capture() as captured:
    add_attributes("ada@example.com", {{"plan": "pro"}})
    captured.assert_added("ada@example.com", {{"plan": "pro"}})
    try:
        deliver_captured()
    except ModuleNotFoundError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    says = f"{missing} is not installed: pip install 'attribute-courier[testing]'\n"
    assert done.stdout == says, done.stderr


class TestTheStandInInThisProcess:
    """It answers as the one that is a server: both do the same work."""

    ASKED = (
        ("GET", "/v1/ping", None),
        ("GET", "/v1/nothing", None),
        ("POST", "/v1/customers/attributes/custom", b"{"),
        ("POST", "/v1/customers/attributes/custom", json.dumps({"email": ADA}).encode()),
        *(
            (
                "POST",
                "/v1/customers/attributes/custom",
                json.dumps(
                    {"email": email, "custom": [{"type": "Integer", "key": "n", "value": 1}]}
                ).encode(),
            )
            for email in (ADA, EVE, BOB)
        ),
    )

    def test_gives_the_same_answers(self, stand_in: SandboxProcess, http: requests.Session) -> None:
        faults = (
            Fault(kind="status", status=504, apply=True, email=BOB, count=1),
            Fault(kind="redirect", endpoint="ping", after=1, count=1),
            Fault(kind="malformed", email=ADA, after=1, count=1),
            Fault(kind="forbidden", after=12),
        )
        stand_in.configure(faults=list(faults), retry_after="seconds")
        config = SandboxConfig(faults=faults, retry_after="seconds")
        ours = InProcessSandbox(config)
        authorization = requests.auth._basic_auth_str(DEFAULT_API_KEY, "")  # type: ignore[attr-defined]
        for method, path, body in (*self.ASKED, *self.ASKED):
            there = http.request(
                method,
                stand_in.url.removesuffix("/v1") + path,
                data=body,
                allow_redirects=False,
            )
            here = ours.exchange(
                Request(method=method, path=path, authorization=authorization, body=body or b"")
            )
            assert here is not None
            assert (here.status, here.body) == (there.status_code, there.content), path
        assert ours.customers(ADA, "default") == stand_in.customers(ADA)

    @pytest.mark.parametrize(("kind", "applied"), [("drop_before", False), ("drop_after", True)])
    def test_may_break_the_connection(self, kind: Any, applied: bool) -> None:
        ours = InProcessSandbox(SandboxConfig(faults=(Fault(kind=kind),)))
        authorization = requests.auth._basic_auth_str(DEFAULT_API_KEY, "")  # type: ignore[attr-defined]
        method, path, body = self.ASKED[4]
        request = Request(method=method, path=path, authorization=authorization, body=body or b"")
        assert ours.exchange(request) is None
        [customer] = ours.customers(ADA, "default")
        assert bool(customer["attributes"]["custom"]) is applied

    def test_lets_in_as_many_as_were_left(self) -> None:
        """A request that ended is no longer in progress, however it ended."""
        ours = InProcessSandbox(SandboxConfig(max_parallel=1, rate_limit=1000))
        key = next(iter(SandboxConfig().accounts.values()))
        authorization = requests.auth._basic_auth_str(key, "")  # type: ignore[attr-defined]
        request = Request(method="GET", path="/v1/ping", authorization=authorization, body=b"")
        answers = [ours.exchange(request) for _ in range(3)]
        assert [answer and answer.status for answer in answers] == [200, 200, 200]
