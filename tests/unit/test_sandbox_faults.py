"""Faults on demand: each kind, whom it meets, and that a seed repeats it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from attribute_courier.sandbox import (
    DEFAULT_API_KEY,
    Fault,
    SandboxConfigError,
    SandboxProcess,
)
from attribute_courier.sandbox.faults import FaultPlan
from attribute_courier.sandbox.requestlog import RequestLog

CUSTOM = [{"type": "Integer", "key": "age", "value": 8}]


def custom_of(stand_in: SandboxProcess) -> dict[str, Any]:
    custom: dict[str, Any] = stand_in.customers("ada@example.com")[0]["attributes"]["custom"]
    return custom


def last(stand_in: SandboxProcess) -> tuple[Any, Any, Any]:
    request = stand_in.requests()[-1]
    return request["status"], request["fault"], request["applied"]


@pytest.mark.parametrize("status", [500, 502, 504, 520, 418])
def test_a_status_is_answered_and_nothing_applied(
    status: int, stand_in: SandboxProcess, post: Any
) -> None:
    stand_in.configure(faults=[Fault(kind="status", status=status)])
    response = post()
    assert (response.status_code, response.json()["code"]) == (status, status)
    assert custom_of(stand_in) == {}
    assert last(stand_in) == (status, "status", False)


def test_a_status_can_come_although_the_values_were_applied(
    stand_in: SandboxProcess, post: Any
) -> None:
    stand_in.configure(faults=[Fault(kind="status", status=504, apply=True)])
    assert post().status_code == 504
    assert custom_of(stand_in) == {"age": 8}


@pytest.mark.parametrize("status", [429, 503])
def test_an_injected_refusal_says_when_to_come_back(
    status: int, stand_in: SandboxProcess, post: Any
) -> None:
    stand_in.configure(retry_after="seconds", faults=[Fault(kind="status", status=status)])
    assert post().headers["Retry-After"] == "1"


def test_a_body_can_be_a_page_or_empty_or_enormous_or_given(
    stand_in: SandboxProcess, post: Any
) -> None:
    def body(**fault: Any) -> requests.Response:
        stand_in.configure(faults=[Fault(kind="status", **fault)])
        response: requests.Response = post()
        return response

    page = body(body="html", status=502)
    assert (page.headers["Content-Type"], page.text[:6]) == ("text/html", "<html>")
    assert body(body="empty").content == b""
    huge = body(body="huge", body_bytes=3_000_000)
    assert (len(huge.content), huge.json()["code"]) == (3_000_000, 500)
    assert body(status=422).json() == {"errors": {"base": "Injected by the sandbox."}}
    assert body(status=200, content="[]").json() == []
    assert body(status=204).content == b""
    assert post().status_code == 204  # the connection still makes sense


def test_a_connection_dropped_before_applying_leaves_no_trace(
    stand_in: SandboxProcess, post: Any
) -> None:
    stand_in.configure(faults=[Fault(kind="drop_before")])
    with pytest.raises(requests.ConnectionError):
        post()
    assert custom_of(stand_in) == {}
    assert last(stand_in) == (None, "drop_before", False)
    assert stand_in.stats()["by_status"] == {"no answer": 1}


def test_a_connection_dropped_after_applying_hides_a_change(
    stand_in: SandboxProcess, post: Any
) -> None:
    stand_in.configure(faults=[Fault(kind="drop_after")])
    with pytest.raises(requests.ConnectionError):
        post()
    assert custom_of(stand_in) == {"age": 8}
    assert last(stand_in) == (None, "drop_after", True)


def test_latency_delays_a_proper_answer(stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(faults=[Fault(kind="latency", seconds=0.3)])
    started = time.monotonic()
    assert post().status_code == 200
    assert time.monotonic() - started >= 0.3
    assert last(stand_in) == (200, "latency", True)


@pytest.mark.parametrize("kind", ["slow_body", "slow_headers"])
def test_a_slow_answer_arrives_whole(kind: Any, stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(faults=[Fault(kind=kind, seconds=0.4)])
    started = time.monotonic()
    assert post().json()["entries"][0]["attributes"]["custom"] == {"age": 8}
    assert time.monotonic() - started >= 0.35
    assert last(stand_in) == (200, kind, True)


def test_a_slow_body_keeps_every_single_read_alive(stand_in: SandboxProcess) -> None:
    """No pause between two bytes is long: only a deadline for the whole answer ends it."""
    stand_in.configure(faults=[Fault(kind="slow_body", seconds=1.0)])
    connection = raw_request(stand_in)
    response = connection.getresponse()
    pieces, longest, before = 0, 0.0, time.monotonic()
    while response.read1(64):
        now = time.monotonic()
        pieces, longest, before = pieces + 1, max(longest, now - before), now
    connection.close()
    assert pieces > 20
    assert longest < 0.8


def test_slow_headers_hold_back_even_the_status(stand_in: SandboxProcess) -> None:
    stand_in.configure(faults=[Fault(kind="slow_headers", seconds=60)])
    connection = raw_request(stand_in)
    assert isinstance(connection.sock, socket.socket)
    assert connection.sock.recv(100) == b"H"
    connection.close()


def raw_request(stand_in: SandboxProcess) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(urlsplit(stand_in.url).netloc, timeout=10)
    auth = requests.auth._basic_auth_str(DEFAULT_API_KEY, "")
    connection.request(
        "POST",
        "/v1/customers/attributes/custom",
        json.dumps({"email": "ada@example.com", "custom": CUSTOM}),
        {"Authorization": auth},
    )
    return connection


def test_a_client_that_leaves_during_a_slow_answer_ends_the_request(
    stand_in: SandboxProcess, post: Any
) -> None:
    stand_in.configure(faults=[Fault(kind="slow_body", seconds=20)])
    with pytest.raises(requests.ConnectionError):
        post(timeout=0.02)
    deadline = time.monotonic() + 10
    while stand_in.stats()["in_progress"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert last(stand_in) == (None, "slow_body", True)


def test_malformed_json_comes_with_a_200(stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(faults=[Fault(kind="malformed")])
    response = post()
    assert response.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert custom_of(stand_in) == {"age": 8}


def test_a_redirect_names_another_path(stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(faults=[Fault(kind="redirect")])
    response = post(allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (302, "/v1/redirected")
    assert custom_of(stand_in) == {}


@pytest.mark.parametrize(
    ("kind", "status"), [("revoked", 401), ("expired", 402), ("forbidden", 403)]
)
def test_a_fault_of_the_account_meets_every_request_until_it_is_mended(
    kind: Any, status: int, stand_in: SandboxProcess, post: Any, http: requests.Session
) -> None:
    stand_in.configure(faults=[Fault(kind=kind)])
    assert post().status_code == status
    ping = http.get(f"{stand_in.url}/ping")
    assert (ping.status_code, ping.json()["code"]) == (status, status)
    assert last(stand_in) == (status, kind, False)
    stand_in.configure(faults=[])
    assert post().status_code == 200


def test_a_fault_can_strike_a_number_of_times(stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(faults=[Fault(kind="status", count=2, after=1)])
    assert [post().status_code for _ in range(5)] == [200, 500, 500, 200, 200]
    assert stand_in.stats()["by_fault"] == {"status": 2}


def test_other_settings_leave_a_rules_count_alone(stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(faults=[Fault(kind="status", count=1)])
    assert post().status_code == 500
    stand_in.configure(latency_s=0.001)
    assert post().status_code == 200


def test_a_fault_can_be_one_emails_or_one_endpoints(
    stand_in: SandboxProcess, post: Any, http: requests.Session
) -> None:
    stand_in.configure(
        faults=[
            Fault(kind="status", status=500, email="two@example.com"),
            Fault(kind="status", status=502, endpoint="ping"),
        ]
    )
    assert post("ada@example.com").status_code == 200
    assert post("two@example.com").status_code == 500
    assert http.get(f"{stand_in.url}/ping").status_code == 502


def test_a_fault_can_meet_emails_or_keys_of_a_pattern(stand_in: SandboxProcess, post: Any) -> None:
    stand_in.configure(
        faults=[
            Fault(kind="status", status=500, email="*@bad.example"),
            Fault(kind="status", status=413, key="poison*"),
        ]
    )
    assert post("x@bad.example").status_code == 500
    assert post("ada@example.com").status_code == 200
    poison = {"type": "Integer", "key": "poison_1", "value": 8}
    assert post("ada@example.com", {**poison, "key": "plan"}, poison).status_code == 413
    assert post("ada@example.com", {**poison, "key": "plan"}).status_code == 200


def test_a_request_can_be_too_large(stand_in: SandboxProcess, post: Any) -> None:
    """As a proxy says it: by a page."""
    several = [{"type": "Integer", "key": f"k{n}", "value": n} for n in range(4)]
    stand_in.configure(max_attributes=3)
    refused = post("ada@example.com", *several)
    assert (refused.status_code, refused.headers["Content-Type"]) == (413, "text/html")
    assert post("ada@example.com", *several[1:]).status_code == 200
    stand_in.configure(max_attributes=None, max_bytes=100)
    assert post("ada@example.com", *several).status_code == 413
    assert post("ada@example.com").status_code == 200


def test_a_connection_can_end_after_a_proper_answer(stand_in: SandboxProcess) -> None:
    """Nothing in the answer says so: a client finds out when it uses the connection again."""
    stand_in.configure(faults=[Fault(kind="hang_up")])
    connection = raw_request(stand_in)
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (200, None)
    assert b"entries" in response.read()
    assert isinstance(connection.sock, socket.socket)
    assert connection.sock.recv(1) == b""
    connection.close()


def test_the_same_seed_meets_the_same_requests(stand_in: SandboxProcess, post: Any) -> None:
    def statuses(seed: int) -> list[int]:
        stand_in.reset()
        stand_in.configure(seed=seed, faults=[Fault(kind="status", probability=0.5)])
        return [post().status_code for _ in range(40)]

    first = statuses(7)
    assert set(first) == {200, 500}
    assert statuses(7) == first
    assert statuses(8) != first


def test_a_rules_draws_do_not_depend_on_other_rules() -> None:
    """Also for a rule that stands behind one that struck first."""
    rule = Fault(kind="status", probability=0.3)
    often = FaultPlan([Fault(kind="drop_before", probability=0.5), rule], seed=1)
    never = FaultPlan([Fault(kind="drop_before", probability=0), rule], seed=1)
    exchange = RequestLog(1).open(
        arrived_s=0, wall_time_s=0, method="POST", path="/", account="default", email="a@b.c"
    )
    compared = 0
    for _ in range(200):
        struck = often.draw(exchange, "attributes")
        alone = never.draw(exchange, "attributes")
        if struck is None or struck is rule:
            compared += 1
            assert struck is alone
    assert 50 < compared < 150


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"kind": "explode"}, "kind"),
        ({"kind": "status", "probability": 2}, "probability"),
        ({"kind": "status", "probability": True}, "probability"),
        ({"kind": "status", "status": 99}, "status"),
        ({"kind": "latency", "seconds": -1}, "seconds"),
        ({"kind": "status", "count": 1.5}, "count"),
        ({"kind": "status", "email": 5}, "email"),
        ({"kind": "status", "colour": "red"}, "colour"),
        ({}, "kind"),
        ("status", "kind"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_name(
    rule: Any, named: str, stand_in: SandboxProcess, post: Any
) -> None:
    with pytest.raises(SandboxConfigError, match=named):
        stand_in.configure(rate_limit=0, faults=[rule])
    assert post().status_code == 200  # nothing was changed


@pytest.mark.parametrize(
    "settings",
    [
        {"rate_limit": "40"},
        {"max_parallel": -1},
        {"latency_s": None},
        {"unmatched": "403"},
        {"customers": "ada@example.com"},
        {"accounts": {"default": ""}},
        {"accounts": {"a": "same", "b": "same"}},
        {"colour": "red"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(
    settings: dict[str, Any], stand_in: SandboxProcess
) -> None:
    with pytest.raises(SandboxConfigError, match=next(iter(settings))) as refused:
        stand_in.configure(**settings)
    assert "same" not in str(refused.value)
