"""`courier cancel`, `courier forget`, and what `courier outcomes` tells of jobs that wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from attribute_courier.jobs.ids import new_job_id
from attribute_courier.sandbox import EmbeddedRedis

from ..account_state import ADA, BOB, EVE, KEYS, Account
from ..everything import holding
from ..redis_clock import on_test_time
from .test_cli import _fresh as _fresh
from .test_cli import run


@pytest.fixture
def account(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield Account(client, on_test_time(client, monkeypatch))


def shown(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def ids(*arguments: str) -> list[str]:
    return [each["job_id"] for each in shown(*arguments)]


class TestCancel:
    def test_says_what_became_of_each(self, account: Account) -> None:
        waits, sent = account.job(BOB, plan="pro"), account.staged(plan="pro")
        account.fails(account.claim(), retry_s=60)
        unknown = new_job_id()
        result = run("cancel", waits.job_id, sent.job_id, unknown, waits.job_id)
        assert result.exit_code == 1
        assert [line.split(maxsplit=1) for line in result.stdout.splitlines()[1:]] == [
            [waits.job_id, "canceled"],
            [sent.job_id, "not canceled: it was sent already, and may have arrived"],
            [unknown, "not canceled: no such job is known"],
            [waits.job_id, "canceled"],
        ]
        assert f"courier outcomes --job {sent.job_id}" in result.stderr
        assert run("cancel", waits.job_id).exit_code == 0

    def test_in_json(self, account: Account) -> None:
        job = account.staged(plan="pro")
        (found,) = shown("cancel", job.job_id)
        assert (found["job_id"], found["result"]) == (job.job_id, "canceled")
        assert (found["outcome"]["status"], found["outcome"]["reason"]) == ("canceled", "asked")

    def test_names_the_account_where_several_could_be_meant(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.fails(account.claim())
        environ = {"COURIER_ACCOUNTS": "eu,default"}
        found = run("cancel", job.job_id, **environ)
        assert found.exit_code == 1
        assert "This was the account eu; for another one, give --account: default" in found.stderr
        found = run("cancel", "--account", "default", job.job_id, **environ)
        assert f"courier outcomes --account default --job {job.job_id}" in found.stderr

    def test_needs_a_job(self, account: Account) -> None:
        assert run("cancel").exit_code == 2


class TestForget:
    def test_counts_what_it_removed_and_names_what_it_cannot_reach(self, account: Account) -> None:
        account.staged(plan="pro")
        account.deliver_all()
        account.staged(plan="max")
        account.job(age=7)
        result = run("forget", " ADA@example.com", "--yes")
        assert result.exit_code == 0
        _, row = result.stdout.splitlines()
        assert row.split() == ["default", "2", "1", "1", "no"]
        for word in ("ChartMogul", "BGREWRITEAOF", "backups", "hooks", "Flower", "logs", "files"):
            assert word in result.stderr
        assert "Nothing was kept" not in result.stderr
        assert holding(account.client, ADA) == {}
        assert "Nothing was kept of this email" in run("forget", ADA, "--yes").stderr

    def test_asks_first(self, account: Account) -> None:
        job = account.job(plan="pro")
        result = run("forget", ADA)
        assert result.exit_code == 1
        assert "Remove all that is kept of ada@example.com?" in result.stderr
        assert account.status(job) == "pending"

    def test_looks_into_all_accounts_unless_told(self, account: Account) -> None:
        environ = {"COURIER_ACCOUNTS": "eu,default"}
        job = account.job(plan="pro")
        run("forget", ADA, "--yes", "--account", "eu", **environ)
        assert account.status(job) == "pending"
        result = run("forget", ADA, "--yes", "--format", "json", **environ)
        eu, default = json.loads(result.stdout)
        assert (eu["account"], eu["canceled"]) == ("eu", 0)
        assert (default["account"], default["canceled"]) == ("default", 1)
        assert account.status(job) == "canceled"

    def test_takes_an_email_only(self, account: Account) -> None:
        for wrong in ("ada", "", "*"):
            result = run("forget", wrong, "--yes")
            assert result.exit_code == 2
            assert "EMAIL: " in result.stderr


class TestPending:
    def test_those_that_wait_longest_come_first(self, account: Account) -> None:
        account.clock.step(-600)
        failing = account.staged(plan="pro")
        account.fails(account.claim(), retry_s=900)
        account.clock.step(60)
        bulk, live = account.staged(BOB, lane="bulk", n=1), account.staged(EVE, n=1)
        account.clock.step(60)
        taken = account.job(EVE, n=2)
        account.take()
        account.clock.step(60)
        inbox = account.job(EVE, lane="bulk", n=3)
        expected = [job.job_id for job in (failing, bulk, live, taken, inbox)]
        assert ids("outcomes", "--status", "pending") == expected
        assert ids("outcomes", "--status", "pending", "--limit", "2") == expected[:2]
        assert ids("outcomes", "--status", "pending", "--since", "500s") == expected[3:]
        found = shown("outcomes", "--status", "pending")[-1]
        assert (found["email"], found["keys"], found["lane"]) == (EVE, ["n"], "bulk")

    def test_beside_settled_ones(self, account: Account) -> None:
        delivered = account.staged(plan="pro")
        account.deliver_all()
        canceled, waits = account.job(BOB, n=1), account.job(BOB, n=2)
        account.removal.cancel(canceled.job_id)
        found = ids("outcomes", "--status", "pending", "--status", "delivered")
        assert found == [waits.job_id, delivered.job_id]
        assert ids("outcomes") == [canceled.job_id, delivered.job_id], "without --status: settled"

    def test_one_that_is_being_sent(self, account: Account) -> None:
        job = account.staged(plan="pro")
        account.claim()
        assert ids("outcomes", "--status", "pending") == [job.job_id]

    def test_whatever_another_publisher_says_of_its_arrival(self, account: Account) -> None:
        for score in ("inf", "-inf", "0", "1e300", "1795921387140"):
            job_id = new_job_id()
            account.client.hset(KEYS.inbox, job_id, "no json")
            account.client.zadd(KEYS.of("inbox:live"), {job_id: score})
        assert len(ids("outcomes", "--status", "pending")) == 5

    def test_of_an_email_in_the_inbox(self, account: Account) -> None:
        """Whoever has just handed a job over may ask, before any worker has seen it."""
        older, other = account.staged(n=1), account.job(BOB, n=2)
        newer = account.job(" ADA@example.com", n=3)
        assert ids("outcomes", ADA) == [newer.job_id, older.job_id]
        found = shown("outcomes", "Ada@Example.com")[0]
        assert (found["email"], found["keys"], found["status"]) == (
            "ADA@example.com",
            ["n"],
            "pending",
        )
        account.take()
        assert ids("outcomes", BOB) == [other.job_id]


class TestReasons:
    @pytest.fixture(autouse=True)
    def _jobs(self, account: Account) -> None:
        for status, reason in (
            ("refused", "content"),
            ("refused", "too_large"),
            ("delivered", ""),
            ("failed", "server"),
            ("failed", "server"),
        ):
            account.staged(plan="pro")
            account.settle(account.claim(), status, fields={"reason": reason})  # type: ignore[arg-type]
        account.staged(plan="pro")
        account.settle(account.claim(), "pending", fields={"reason": "server"}, retry_s=60)
        account.job(BOB, plan="pro")

    def test_only_some(self) -> None:
        found = shown("outcomes", "--reason", "server", "--reason", "too_large")
        assert [each["status"] for each in found] == ["failed", "failed", "refused"]
        assert len(ids("outcomes", "--reason", "server", "--limit", "1")) == 1
        assert len(ids("outcomes", ADA, "--reason", "server")) == 3
        assert len(ids("outcomes", "--status", "pending", "--reason", "server")) == 1
        assert len(ids("outcomes", "--status", "pending")) == 2
        assert run("outcomes", "--reason", "timeout").exit_code == 1
        assert run("outcomes", "--reason", "weather").exit_code == 2

    def test_counted(self) -> None:
        found = [tuple(each.values()) for each in shown("outcomes", "--count")]
        assert found == [
            ("pending", "", 1),
            ("pending", "server", 1),
            ("delivered", "", 1),
            ("refused", "content", 1),
            ("refused", "too_large", 1),
            ("failed", "server", 2),
        ]
        plain = run("outcomes", "--count", "--status", "failed", "--status", "pending").stdout
        assert [line.split() for line in plain.splitlines()] == [
            ["outcome", "reason", "jobs"],
            ["pending", "1"],
            ["pending", "server", "1"],
            ["failed", "server", "2"],
        ]
        assert len(shown("outcomes", "--count", ADA)) == 5
        assert len(shown("outcomes", "--count", "--status", "pending")) == 2
        assert run("outcomes", "--count", "--reason", "timeout").exit_code == 1

    def test_following_shows_settled_jobs(self) -> None:
        assert run("outcomes", "--follow", "--count").exit_code == 2
        assert run("outcomes", "--follow", "--status", "pending").exit_code == 2
