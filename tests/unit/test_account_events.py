"""Events of an account are noted in the step that they come of, so that no death loses one."""

from __future__ import annotations

from typing import Any

from attribute_courier.jobs.hooks import ACCOUNT_EVENTS, account_event
from attribute_courier.jobs.job import time_of
from attribute_courier.state.claims import Settlement
from attribute_courier.state.hooks import Hooks

from ..account_state import KEYS, Account


def events(account: Account) -> list[dict[str, str]]:
    return [fields for _, fields in account.client.xrange(KEYS.of("events"))]


def types(account: Account) -> list[str]:
    found = [each["type"].removeprefix("account.") for each in events(account)]
    assert {f"account.{each}" for each in found} <= {*ACCOUNT_EVENTS}
    assert [each["n"] for each in events(account)] == [str(n + 1) for n in range(len(found))]
    return found


def refused(account: Account, reason: str = "HTTP 401") -> None:
    """The account's own fault pauses it."""
    account.staged(plan="pro")
    account.carry_out(account.claim(), Settlement(jobs=()), "account", reason=reason)


def open_circuit(account: Account) -> None:
    for n in range(10):
        account.staged(f"{n}@example.com", plan="pro")
        assert account.fails(account.claim(), retry_s=60)
    assert account.health.status().circuit is not None


class TestPauses:
    def test_by_an_operator(self, account: Account) -> None:
        account.health.pause("moving house")
        account.health.pause("moving house")  # the same call again, whose answer was lost
        account.health.resume()
        account.health.resume()
        assert types(account) == ["paused", "resumed"]
        paused, resumed = events(account)
        assert paused == {
            "type": "account.paused", "n": "1", "by": "operator", "reason": "moving house"
        }  # fmt: skip
        assert resumed["since"] == str(account.clock.us)

    def test_by_the_accounts_own_fault_until_a_ping_is_answered(self, account: Account) -> None:
        refused(account)
        refused_again = account.limited()
        refused_again.health.resume_after_probe()
        refused_again.health.resume_after_probe()
        assert types(account) == ["paused", "resumed"]
        assert [each["by"] for each in events(account)] == ["account", "account"]
        assert events(account)[0]["reason"] == "HTTP 401"

    def test_an_operators_pause_over_the_accounts_own(self, account: Account) -> None:
        refused(account)
        account.health.pause("new plan")
        assert not account.health.resume_after_probe()
        assert account.health.resume()
        assert types(account) == ["paused", "paused", "resumed"]


class TestTheCircuit:
    def test_opens_and_closes_by_a_probe(self, account: Account) -> None:
        open_circuit(account)
        assert types(account) == ["circuit_opened"]
        assert events(account)[0]["reason"] == "HTTP 500"
        account.clock.time_passes(0.3)
        account.staged("well@example.com", plan="pro")
        assert account.settle(account.claim())
        assert types(account) == ["circuit_opened", "circuit_closed"]

    def test_some_failures_open_nothing_and_so_close_nothing(self, account: Account) -> None:
        account.staged(plan="pro")
        assert account.fails(account.claim(), retry_s=60)
        account.staged("well@example.com", plan="pro")
        assert account.settle(account.claim())
        assert types(account) == []

    def test_closed_by_an_operator(self, account: Account) -> None:
        open_circuit(account)
        account.health.resume()
        account.health.resume()
        assert types(account) == ["circuit_opened", "circuit_closed"]

    def test_closed_by_a_pause(self, account: Account) -> None:
        open_circuit(account)
        account.clock.time_passes(0.3)
        refused(account)
        assert types(account) == ["circuit_opened", "circuit_closed", "paused"]

    def test_one_that_lapsed_is_noticed(self, account: Account) -> None:
        open_circuit(account)
        account.client.delete(KEYS.of("circuit"))  # as its time to live does
        hooks = Hooks(account.client, KEYS)
        assert hooks.watch()
        assert not hooks.watch()
        assert types(account) == ["circuit_opened", "circuit_closed"]


class TestTheBacklog:
    def watch(self, account: Account, *, looks: int = 3) -> None:
        for _ in range(looks):
            Hooks(account.client, KEYS).watch(old_s=20)
            account.clock.time_passes(4)

    def test_too_old_and_over(self, account: Account) -> None:
        account.job(plan="pro")
        account.clock.time_passes(15)
        self.watch(account, looks=1)
        assert types(account) == []
        account.clock.time_passes(10)
        self.watch(account)
        assert types(account) == ["backlog_old"]
        assert int(events(account)[0]["oldest_s"]) >= 20
        account.take()
        self.watch(account)
        assert types(account) == ["backlog_old", "backlog_over"]

    def test_of_an_email_that_is_due(self, account: Account) -> None:
        account.health.pause("moving house")
        account.staged(lane="bulk", plan="pro")
        account.clock.time_passes(30)
        self.watch(account)
        assert types(account) == ["paused", "backlog_old"]

    def test_a_step_of_the_clock_is_none(self, account: Account) -> None:
        account.job(plan="pro")
        account.clock.step(3600)
        self.watch(account, looks=1)
        account.take()
        self.watch(account)
        assert types(account) == []


def test_what_is_told_of_an_event() -> None:
    fields = {
        "type": "account.resumed",
        "n": "3",
        "by": "account",
        "since": "1000000",
        "emails": "9",
    }
    at = time_of(2_000_000)
    event = account_event("eu", fields, entry_id="2000-0", at=at)
    expected: dict[str, Any] = {
        "account": "eu",
        "by": "account",
        "since": "1970-01-01T00:00:01+00:00",
        "emails": 9,
    }
    assert event.data == expected
    assert (event.id, event.type, event.at) == ("eu_2000-0", "account.resumed", at)
