"""What ChartMogul answers, from the socket to the outcome: one job for each kind of answer."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from typing import Any

import pytest

from attribute_courier.sandbox import DEFAULT_API_KEY, Fault

from ..conftest import Courier
from ..waiting import wait_until

ADA = "ada@example.com"
PAGE = "<html><body><h1>Who are you?</h1></body></html>"
LARGE = {
    "uuid": "cus_1",
    "attributes": {"custom": {"plan": "pro"} | {f"k{n}": "v" * 250 for n in range(300)}},
}
NO_CUSTOMER = {"code": 404, "message": "Can't find any customers", "param": "email"}

# The case, the status, the body, then the outcome's status, message and attempts.
ANSWERS: dict[str, tuple[int, Any, str, str | None, int]] = {
    "cm1": (200, {"entries": [LARGE] * 20}, "delivered", None, 1),
    "larger": (200, {"entries": [LARGE] * 80}, "delivered", None, 1),
    "cm2": (200, {"entries": None}, "unmatched", "no customer has this email", 3),
    "cm3": (200, NO_CUSTOMER, "unmatched", "email: Can't find any customers", 3),
    "cm4": (
        422,
        {"plan": ["is odd"], "error_details": [{"param": "plan", "message": "is odd"}]},
        "refused",
        "plan: is odd",
        1,
    ),
    "cm5": (413, PAGE, "refused", "HTTP 413: Who are you?", 1),
    "cm7": (200, {"custom": [{"key": "plan", "value": "pro"}]}, "delivered", None, 1),
    "cm9": (200, {"custom": {"plan": " pro "}}, "delivered", None, 1),
    "cm10": (
        202,
        {},
        "unconfirmed",
        "ChartMogul accepted the request (HTTP 202), without proof",
        2,
    ),
    "route": (404, {"error": "Not found"}, "unmatched", "Not found", 3),
}


def test_each_answer_leads_to_its_outcome(courier: Courier) -> None:
    courier.stand_in.configure(
        faults=[
            Fault(
                kind="status",
                status=status,
                email=f"{case}@load.example",
                content=body if isinstance(body, str) else json.dumps(body),
            )
            for case, (status, body, *_) in ANSWERS.items()
        ]
    )
    courier.start_worker()
    receipts = {
        case: courier.producer.add_attributes(f"{case}@load.example", {"plan": "pro"})
        for case in ANSWERS
    }
    outcomes = dict(zip(receipts, courier.wait(*receipts.values(), timeout_s=60), strict=True))
    found = {
        case: (outcome.status, outcome.message, outcome.attempts)
        for case, outcome in outcomes.items()
    }
    assert found == {case: answer[2:] for case, answer in ANSWERS.items()}
    assert courier.health().status().state == "running"


@pytest.mark.parametrize("status", [400, 401])
def test_a_proxys_page_is_no_word_on_the_job_or_the_account(courier: Courier, status: int) -> None:
    """CM12, CM13"""
    page = Fault(kind="status", status=status, body="html", email=ADA, count=2)
    courier.stand_in.configure(faults=[page])
    courier.start_worker()
    (outcome,) = courier.wait(courier.producer.add_attributes(ADA, {"plan": "pro"}))
    assert (outcome.status, outcome.attempts) == ("delivered", 3)
    assert courier.health().status().state == "running"


def test_an_idle_connection_that_the_server_closes_costs_nothing(courier: Courier) -> None:
    """UP5"""
    courier.stand_in.configure(faults=[Fault(kind="hang_up")])
    courier.start_worker()
    for number in range(3):
        (outcome,) = courier.wait(courier.producer.add_attributes(ADA, {"plan": f"pro{number}"}))
        assert (outcome.status, outcome.attempts) == ("delivered", 1)


def paused(courier: Courier, **environ: str) -> str:
    """Start a worker with a job to deliver; the reason for which the account is paused."""
    receipt = courier.producer.add_attributes(ADA, {"plan": "pro plus"})
    courier.start_worker(**environ)
    wait_until(lambda: courier.health().status().pause, what="the account is paused")
    pause = courier.health().status().pause
    outcome = receipt.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.attempts) == ("pending", 0), "no job is charged"
    assert pause is not None
    return pause.reason


def test_a_wrong_url_pauses_the_account(courier: Courier) -> None:
    """UP1"""
    url = courier.stand_in.url.removesuffix("/v1")
    assert "check CHARTMOGUL_API_URL" in paused(courier, CHARTMOGUL_API_URL=url)


def test_a_proxy_that_refuses_or_is_not_there_pauses_the_account(courier: Courier) -> None:
    """UP2"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(10_000)
                    connection.sendall(b"HTTP/1.1 407 Who are you\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        environ = {
            "CHARTMOGUL_API_URL": "https://chartmogul.invalid/v1",
            "https_proxy": f"http://eve:secret@127.0.0.1:{port}",
            "no_proxy": "",
            "NO_PROXY": "",
        }
        reason = paused(courier, **environ)
        assert f"the proxy at 127.0.0.1:{port} refused (407)" in reason
        assert "secret" not in reason + courier.log()
        listener.shutdown(socket.SHUT_RDWR)


def test_what_chartmogul_repeats_is_masked_everywhere(courier: Courier) -> None:
    """PF1"""
    credentials = b64encode(f"{DEFAULT_API_KEY}:".encode()).decode()
    message = (
        f"\x1b[31mNo valid key {DEFAULT_API_KEY} (Basic {credentials}) "
        "for ada%40example.com, ada&#64;example.com and ada\\u0040example.com: pro+plus\u202e"
    )
    content = json.dumps({"code": 401, "message": message, "param": None})
    courier.stand_in.configure(faults=[Fault(kind="status", status=401, content=content)])
    reason = paused(courier)
    assert reason == "No valid key *** (***) for ***, *** and ***: ***"
    for private in (
        DEFAULT_API_KEY,
        credentials,
        "ada%",
        "ada@",
        "ada&",
        "ada\\",
        "pro+",
        "\x1b",
        "\u202e",
    ):
        assert private not in courier.log()
