"""The courier turned off (`COURIER_ENABLED=false`): producers check and drop, workers refuse."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from click.testing import CliRunner

from attribute_courier import (
    InvalidJob,
    Producer,
    Settings,
    SettingsError,
    add_attributes,
    add_attributes_async,
    add_many,
    configure,
)
from attribute_courier.cli import main
from attribute_courier.config.network import check_for_work
from attribute_courier.producers import dropping

ADA = "ada@example.com"
NOWHERE = "redis://127.0.0.1:1/0"
"""Nobody listens there: whoever asks it fails."""


@pytest.fixture(autouse=True)
def _turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropping, "_unsaid", threading.Semaphore(1))
    configure(Settings(enabled=False, redis_url=NOWHERE, accounts=["eu", "us"]))


def test_a_job_is_dropped_and_its_receipt_says_so_at_once() -> None:
    receipt = add_attributes(ADA, {"plan": "pro"}, account="us")
    outcome = receipt.wait()
    assert outcome == receipt.outcome() == asyncio.run(receipt.wait_async())
    assert (outcome.status, outcome.job_id, outcome.account) == ("disabled", receipt.job_id, "us")
    assert outcome.settled
    assert not outcome.successful
    assert "COURIER_ENABLED" in outcome.summary()
    assert asyncio.run(add_attributes_async(ADA, {"plan": "pro"})).wait().status == "disabled"


def test_many_jobs_are_counted_as_if_they_were_enqueued() -> None:
    done = add_many([(ADA, {"n": 1}), ("nobody", {"n": 2})])
    assert (done.enqueued, done.rejected) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"email": "ada"},
        {"attributes": {"first name": "Ada"}},
        {"attributes": {f"k{n}": "€" * 255 for n in range(90)}},  # longer than a document may be
        {"account": "asia"},
    ],
)
def test_what_is_not_accepted_is_an_error_as_ever(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob):
        add_attributes(**{"email": ADA, "attributes": {"n": 1}} | wrong)


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        add_attributes(ADA, {"plan": "pro"})
    Producer(Settings(enabled=False)).add_many([(ADA, {"n": 1})])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "checked and dropped" in caplog.text


def test_nothing_is_asked_of_redis() -> None:
    producer = Producer(Settings(enabled=False, redis_url=NOWHERE))
    assert producer.outcomes(ADA) == []
    outcome = producer.outcome("01a20844-ce46-752a-9c14-31e59089fa30")
    assert outcome is not None
    assert outcome.status == "disabled"


def test_a_worker_refuses_to_run() -> None:
    settings = Settings(enabled=False, api_keys={"default": "key"})
    with pytest.raises(SettingsError, match=r"turned off \(COURIER_ENABLED\)"):
        check_for_work(settings)


@pytest.mark.parametrize(
    "command",
    [
        ["add", ADA, "plan=pro"],
        ["import", "-"],
        ["replay", "--status", "failed"],
        ["up"],
        ["worker"],
    ],
)
def test_a_command_that_would_deliver_refuses(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Who types it wants something to be sent."""
    monkeypatch.setenv("COURIER_ENABLED", "false")
    monkeypatch.setenv("COURIER_REDIS_URL", NOWHERE)
    result = CliRunner().invoke(main, command, input="email,plan\nada@example.com,pro\n")
    assert result.exit_code == 2, result.output
    assert "turned off (COURIER_ENABLED)" in result.output
