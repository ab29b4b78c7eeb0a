"""The stand-in holds an account to its limits at the edge, and logs what it was asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from statistics import median, quantiles

import pytest
import requests

from attribute_courier.sandbox import DEFAULT_API_KEY, SandboxConfig, SandboxProcess
from attribute_courier.sandbox.limits import AccountLimits
from attribute_courier.sandbox.run import Run

CUSTOM = [{"type": "Integer", "key": "age", "value": 8}]


@pytest.fixture(scope="module")
def process() -> Iterator[SandboxProcess]:
    config = SandboxConfig(
        accounts={"default": DEFAULT_API_KEY, "eu": "key-eu"}, auto_customers="*@load.example"
    )
    with SandboxProcess(config) as process:
        yield process


@pytest.fixture
def sandbox(process: SandboxProcess) -> SandboxProcess:
    process.reset()
    return process


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (DEFAULT_API_KEY, "")
        yield session


def post(sandbox: SandboxProcess, email: str) -> requests.Response:
    """A request on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        return session.post(
            f"{sandbox.url}/customers/attributes/custom",
            json={"email": email, "custom": CUSTOM},
            auth=(DEFAULT_API_KEY, ""),
        )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    statuses = [http.get(f"{sandbox.url}/ping").status_code for _ in range(41)]
    assert statuses == [200] * 40 + [429]
    refused = http.get(f"{sandbox.url}/ping")
    assert refused.json() == {
        "code": 429,
        "message": "Your request rate has exceeded our rate limit.",
        "param": None,
    }
    assert "Retry-After" not in refused.headers
    # Another account is another account.
    assert http.get(f"{sandbox.url}/ping", auth=("key-eu", "")).status_code == 200
    assert sandbox.stats()["max_in_any_second"] == 42


def test_a_refused_request_changes_nothing(sandbox: SandboxProcess) -> None:
    sandbox.configure(rate_limit=0)
    assert post(sandbox, "ada@example.com").status_code == 429
    assert sandbox.customers("ada@example.com")[0]["attributes"]["custom"] == {}
    assert [request["applied"] for request in sandbox.requests()] == [False]


def test_a_refusal_says_when_to_come_back_if_asked_to(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.configure(rate_limit=0, retry_after="seconds", retry_after_s=7)
    assert http.get(f"{sandbox.url}/ping").headers["Retry-After"] == "7"
    sandbox.configure(retry_after="date")
    moment = parsedate_to_datetime(http.get(f"{sandbox.url}/ping").headers["Retry-After"])
    assert abs(moment.timestamp() - time.time() - 7) < 3


def test_the_twenty_first_request_at_once_is_503(sandbox: SandboxProcess) -> None:
    sandbox.configure(latency_s=1.5)
    with ThreadPoolExecutor(20) as pool:
        under_way = [pool.submit(post, sandbox, f"u{n}@load.example") for n in range(20)]
        wait_until(lambda: sandbox.stats()["in_progress"] == 20)
        refused = post(sandbox, "ada@example.com")
        assert refused.status_code == 503
        assert "too many parallel connections" in refused.json()["message"]
        assert [future.result().status_code for future in under_way] == [200] * 20
    sandbox.configure(latency_s=0)
    assert post(sandbox, "ada@example.com").status_code == 200
    stats = sandbox.stats()
    assert (stats["max_in_progress"], stats["in_progress"]) == (21, 0)
    assert stats["by_status"] == {"200": 21, "503": 1}


def test_two_requests_at_once_for_one_email_are_an_overlap(sandbox: SandboxProcess) -> None:
    sandbox.configure(latency_s=0.3)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(post, sandbox, "ada@example.com")
        wait_until(lambda: sandbox.stats()["in_progress"] == 1)
        pool.submit(post, sandbox, "two@example.com")
        wait_until(lambda: sandbox.stats()["in_progress"] == 2)
        assert sandbox.stats()["overlaps"] == 0
        post(sandbox, "ada@example.com")
    stats = sandbox.stats()
    assert (stats["overlaps"], stats["overlapping_emails"]) == (1, ["ada@example.com"])
    assert [request["overlaps"] for request in sandbox.requests()] == [[], [], [1]]


def test_requests_one_after_the_other_are_no_overlap(sandbox: SandboxProcess) -> None:
    sandbox.configure(rate_limit=1000, latency_s=0.002)
    for _ in range(50):
        post(sandbox, "ada@example.com")
    assert sandbox.stats()["overlaps"] == 0
    assert {request["in_progress"] for request in sandbox.requests()} == {1}


def test_a_request_that_was_given_up_still_acts_at_its_end(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.configure(latency_s=0.5)
    with pytest.raises(requests.ReadTimeout):
        http.post(
            f"{sandbox.url}/customers/attributes/custom",
            json={"email": "ada@example.com", "custom": CUSTOM},
            timeout=0.1,
        )
    assert sandbox.stats()["in_progress"] == 1
    assert sandbox.customers("ada@example.com")[0]["attributes"]["custom"] == {}
    wait_until(lambda: sandbox.stats()["in_progress"] == 0)
    assert sandbox.customers("ada@example.com")[0]["attributes"]["custom"] == {"age": 8}


def test_latency_is_spread_around_its_median_and_repeats_with_the_seed() -> None:
    def latencies(seed: int) -> list[float]:
        run = Run(SandboxConfig(seed=seed, latency_s=0.25, latency_sigma=0.5))
        return [run.latency_s() for _ in range(1001)]

    assert latencies(1) == latencies(1) != latencies(2)
    assert 0.23 < median(latencies(1)) < 0.27
    assert 0.1 < quantiles(latencies(1))[0] < 0.21 < 0.3 < quantiles(latencies(1))[2] < 0.5
    assert Run(SandboxConfig(latency_s=0.25)).latency_s() == 0.25


def test_the_log_tells_what_was_received_and_what_became_of_it(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    before = time.monotonic()
    post(sandbox, "ada@example.com")
    http.post(f"{sandbox.url}/customers/attributes/custom", data=b"{")
    http.get(f"{sandbox.url}/ping", auth=("wrong", ""))
    first, second, third = sandbox.requests()
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
    assert [request["number"] for request in sandbox.requests(since=1)] == [2, 3]
    assert DEFAULT_API_KEY not in str(sandbox.requests())


def test_a_bounded_log_keeps_its_totals(sandbox: SandboxProcess, http: requests.Session) -> None:
    with SandboxProcess(SandboxConfig(log_size=2)) as small:
        for _ in range(5):
            http.get(f"{small.url}/ping")
        assert [request["number"] for request in small.requests()] == [4, 5]
        assert small.stats()["by_status"] == {"200": 5}


def test_control_requests_count_for_no_limit(
    sandbox: SandboxProcess, http: requests.Session
) -> None:
    sandbox.configure(rate_limit=1)
    for _ in range(5):
        sandbox.stats()
    assert http.get(f"{sandbox.url}/ping").status_code == 200
    assert sandbox.stats()["requests"] == 1
