"""The stand-in holds an account to its limits at the edge, and logs what it was asked."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from statistics import median, quantiles

import pytest
import requests

from attribute_courier.sandbox import DEFAULT_API_KEY, SandboxConfig, SandboxProcess
from attribute_courier.sandbox.limits import AccountLimits
from attribute_courier.sandbox.requestlog import RequestLog
from attribute_courier.sandbox.run import Run

from ..waiting import wait_until

CUSTOM = [{"type": "Integer", "key": "age", "value": 8}]


def post(stand_in: SandboxProcess, email: str) -> requests.Response:
    """A request on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            f"{stand_in.url}/customers/attributes/custom",
            json={"email": email, "custom": CUSTOM},
            auth=(DEFAULT_API_KEY, ""),
        )


def test_forty_requests_fit_into_any_second_and_no_more() -> None:
    limits, config = AccountLimits(), SandboxConfig()
    times = [place * 0.02 for place in range(40)]  # 0.00 … 0.78
    for now_s in times:
        assert limits.ask(now_s, config) is None
        limits.leave()
    assert limits.ask(0.999, config) == "rate"
    # A second after the first one, one place is free, and only one.
    assert limits.ask(1.0, config) is None
    limits.leave()
    assert limits.ask(1.001, config) == "rate"
    assert limits.max_in_any_second == 42


def test_refused_requests_fill_no_window() -> None:
    limits, config = AccountLimits(), SandboxConfig(rate_limit=1)
    assert limits.ask(0.0, config) is None
    limits.leave()
    assert [limits.ask(tenth / 10, config) for tenth in range(1, 10)] == ["rate"] * 9
    assert limits.ask(1.0, config) is None


def test_a_hidden_limit_holds_below_the_published_one() -> None:
    limits, config = AccountLimits(), SandboxConfig(hidden_rate_limit=25)
    answers = []
    for place in range(30):
        answers.append(limits.ask(place / 100, config))
        if answers[-1] is None:
            limits.leave()
    assert answers == [None] * 25 + ["rate"] * 5


def test_the_forty_first_request_of_a_second_is_429(
    stand_in: SandboxProcess, http: requests.Session
) -> None:
    stand_in.configure(accounts={"default": DEFAULT_API_KEY, "eu": "key-eu"})
    statuses = [http.get(f"{stand_in.url}/ping").status_code for _ in range(41)]
    assert statuses == [200] * 40 + [429]
    refused = http.get(f"{stand_in.url}/ping")
    assert refused.json() == {
        "code": 429,
        "message": "Your request rate has exceeded our rate limit.",
        "param": None,
    }
    assert "Retry-After" not in refused.headers
    # Another account is another account.
    assert http.get(f"{stand_in.url}/ping", auth=("key-eu", "")).status_code == 200
    assert stand_in.stats()["max_in_any_second"] == 42


def test_a_refused_request_changes_nothing(stand_in: SandboxProcess) -> None:
    stand_in.configure(rate_limit=0)
    assert post(stand_in, "ada@example.com").status_code == 429
    assert stand_in.customers("ada@example.com")[0]["attributes"]["custom"] == {}
    assert [request["applied"] for request in stand_in.requests()] == [False]


def test_a_refusal_says_when_to_come_back_if_asked_to(
    stand_in: SandboxProcess, http: requests.Session
) -> None:
    stand_in.configure(rate_limit=0, retry_after="seconds", retry_after_s=7)
    assert http.get(f"{stand_in.url}/ping").headers["Retry-After"] == "7"
    stand_in.configure(retry_after="date")
    moment = parsedate_to_datetime(http.get(f"{stand_in.url}/ping").headers["Retry-After"])
    assert abs(moment.timestamp() - time.time() - 7) < 3


def test_the_twenty_first_request_at_once_is_503(stand_in: SandboxProcess) -> None:
    stand_in.configure(latency_s=1.5)
    with ThreadPoolExecutor(20) as pool:
        under_way = [pool.submit(post, stand_in, f"u{n}@load.example") for n in range(20)]
        wait_until(lambda: stand_in.stats()["in_progress"] == 20)
        refused = post(stand_in, "ada@example.com")
        assert refused.status_code == 503
        assert "too many parallel connections" in refused.json()["message"]
        assert [future.result().status_code for future in under_way] == [200] * 20
    stand_in.configure(latency_s=0)
    assert post(stand_in, "ada@example.com").status_code == 200
    stats = stand_in.stats()
    assert (stats["max_in_progress"], stats["in_progress"]) == (21, 0)
    assert stats["by_status"] == {"200": 21, "503": 1}


def test_two_requests_at_once_for_one_email_are_an_overlap(stand_in: SandboxProcess) -> None:
    stand_in.configure(latency_s=0.3)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(post, stand_in, "ada@example.com")
        wait_until(lambda: stand_in.stats()["in_progress"] == 1)
        pool.submit(post, stand_in, "two@example.com")
        wait_until(lambda: stand_in.stats()["in_progress"] == 2)
        assert stand_in.stats()["overlaps"] == 0
        post(stand_in, "ada@example.com")
    stats = stand_in.stats()
    assert stats["overlaps"] == 1
    assert [request["overlaps"] for request in stand_in.requests()] == [[], [], [1]]


def test_requests_one_after_the_other_are_no_overlap(stand_in: SandboxProcess) -> None:
    stand_in.configure(rate_limit=1000, latency_s=0.002)
    for _ in range(50):
        post(stand_in, "ada@example.com")
    assert stand_in.stats()["overlaps"] == 0
    assert {request["in_progress"] for request in stand_in.requests()} == {1}


def test_a_request_that_was_given_up_still_acts_at_its_end(
    stand_in: SandboxProcess, http: requests.Session
) -> None:
    stand_in.configure(latency_s=0.5)
    with pytest.raises(requests.ReadTimeout):
        http.post(
            f"{stand_in.url}/customers/attributes/custom",
            json={"email": "ada@example.com", "custom": CUSTOM},
            timeout=0.1,
        )
    assert stand_in.stats()["in_progress"] == 1
    assert stand_in.customers("ada@example.com")[0]["attributes"]["custom"] == {}
    wait_until(lambda: stand_in.stats()["in_progress"] == 0)
    assert stand_in.customers("ada@example.com")[0]["attributes"]["custom"] == {"age": 8}


def test_latency_is_spread_around_its_median_and_repeats_with_the_seed() -> None:
    def latencies(seed: int) -> list[float]:
        run = Run(SandboxConfig(seed=seed, latency_s=0.25, latency_sigma=0.5))
        return [run.latency_s() for _ in range(1001)]

    assert latencies(1) == latencies(1) != latencies(2)
    assert 0.23 < median(latencies(1)) < 0.27
    assert 0.1 < quantiles(latencies(1))[0] < 0.21 < 0.3 < quantiles(latencies(1))[2] < 0.5
    assert Run(SandboxConfig(latency_s=0.25)).latency_s() == 0.25


def test_the_log_tells_what_was_received_and_what_became_of_it(
    stand_in: SandboxProcess, http: requests.Session
) -> None:
    before = time.monotonic()
    post(stand_in, "ada@example.com")
    http.post(f"{stand_in.url}/customers/attributes/custom", data=b"{")
    http.get(f"{stand_in.url}/ping", auth=("wrong", ""))
    first, second, third = stand_in.requests()
    assert before < first.pop("arrived_s") <= first.pop("ended_s") < time.monotonic()
    assert abs(first.pop("wall_time_s") - time.time()) < 60
    assert first == {
        "number": 1,
        "method": "POST",
        "path": "/v1/customers/attributes/custom",
        "account": "default",
        "email": "ada@example.com",
        "custom": CUSTOM,
        "status": 200,
        "fault": None,
        "applied": True,
        "in_progress": 1,
        "overlaps": [],
    }
    assert (second["status"], second["email"], second["applied"]) == (400, None, False)
    assert (third["status"], third["account"]) == (401, None)
    assert [request["number"] for request in stand_in.requests(since=1)] == [2, 3]
    assert DEFAULT_API_KEY not in str(stand_in.requests())


def test_a_bounded_log_keeps_its_totals() -> None:
    log = RequestLog(2)
    for _ in range(5):
        log.close(
            log.open(arrived_s=0, wall_time_s=0, method="GET", path="/", account=None), 0, 200
        )
    assert [exchange.number for exchange in log.since(0)] == [4, 5]
    assert log.totals()["by_status"] == {"200": 5}


def test_control_requests_count_for_no_limit(
    stand_in: SandboxProcess, http: requests.Session
) -> None:
    stand_in.configure(rate_limit=1)
    for _ in range(5):
        stand_in.stats()
    assert http.get(f"{stand_in.url}/ping").status_code == 200
    assert stand_in.stats()["requests"] == 1
