"""The real Flower: every job under its own id, as its outcome stands, and nothing private."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from attribute_courier.config import load_settings
from attribute_courier.config.messages import ACCEPT_QUEUE
from attribute_courier.jobs.ids import new_job_id
from attribute_courier.operate.metrics import metrics_text
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault
from attribute_courier.state.email_hash import EmailHash

from ..conftest import Courier
from ..flower import Flower, running_flower
from ..waiting import wait_until

ADA = "ada@example.com"
FLOWER_PASSWORD = "s3cr3t-of-flower"
VALUE = "Facebook-ads-7"


@pytest.fixture
def flower(courier: Courier) -> Iterator[Flower]:
    with running_flower(courier.environ, courier.logs, password=FLOWER_PASSWORD) as found:
        yield found


def test_flower_shows_every_job_and_nothing_private(courier: Courier, flower: Flower) -> None:
    for path in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers", "/metrics"):
        assert requests.get(flower.url + path, timeout=20).status_code == 401, path
        wrong = requests.get(flower.url + path, auth=("ada", "x"), timeout=20)
        assert wrong.status_code == 401, path

    early = courier.producer.add_attributes("early@example.com", {"plan": VALUE})
    waiting = flower.get("/api/queues/length").json()["active_queues"]
    assert {"name": ACCEPT_QUEUE, "messages": 1} in waiting

    courier.stand_in.configure(
        faults=[
            Fault(kind="status", status=500, email="two@example.com"),
            Fault(
                kind="status",
                status=422,
                email="re.fused@example.com",
                content=f'{{"errors": {{"custom": "{VALUE} of re.fused@example.com"}}}}',
            ),
        ]
    )
    courier.start_worker()
    add = courier.producer.add_attributes
    delivered = add(ADA, {"channel": VALUE, "age": 8})
    courier.wait(delivered, early)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    superseded = add(ADA, {"channel": "older"}, occurred_at=yesterday)
    unmatched = add("nobody@example.com", {"channel": VALUE})
    refused = add("re.fused@example.com", {"channel": VALUE})
    retried = add("two@example.com", {"channel": VALUE})
    replaced = add("two@example.com", {"plan": "older"})
    wait_until(lambda: replaced.outcome().lane, what="it is accepted")  # type: ignore[union-attr]
    add("two@example.com", {"plan": "newer"})
    # Two that another program put into the inbox: one says whose it is, one is no JSON.
    invalid, garbage = new_job_id(), new_job_id()
    document = f'{{"v": 1, "email": "grace@example.com", "attributes": "{VALUE}"}}'
    courier.client.hset(courier.keys.inbox, mapping={invalid: document, garbage: VALUE})
    courier.client.zadd(courier.keys.of("inbox:live"), {invalid: 1, garbage: 1})

    expected = {
        early.job_id: ("FAILURE", "e***@example.com · 1 attribute", "unmatched · "),
        delivered.job_id: ("SUCCESS", "a***@example.com · 2 attributes", "delivered · 1 customer"),
        superseded.job_id: ("SUCCESS", "a***@example.com · 1 attribute", "superseded"),
        replaced.job_id: ("SUCCESS", "t***@example.com · 1 attribute", "superseded"),
        unmatched.job_id: ("FAILURE", "n***@example.com · 1 attribute", "unmatched · "),
        refused.job_id: ("FAILURE", "r***@example.com · 1 attribute", "refused · custom: *** of"),
        retried.job_id: ("RETRY", "t***@example.com · 1 attribute", "again at "),
        invalid: ("FAILURE", "g***@example.com", "invalid · "),
        garbage: ("FAILURE", None, "invalid · the document is not JSON"),
    }
    for job_id, (state, _, _) in expected.items():
        wait_until(lambda i=job_id, s=state: flower.state(i) == s, what=f"{job_id} is {state}")  # type: ignore[misc]
    tasks = flower.tasks()
    for job_id, (state, shown, result) in expected.items():
        task = tasks[job_id]
        assert (task["state"], without_hash(task["args"])) == (state, shown)
        assert task["name"] == "attribute_courier.add_attributes"
        assert result in (task["result"] if state == "SUCCESS" else task["exception"])
    ours = ("attribute_courier.accept", "attribute_courier.deliver")
    work = [each for each in tasks.values() if each["name"] in ours]
    assert any("1 delivered" in (each["result"] or "") for each in work)
    assert "what is due" in [each["args"] for each in work]

    check_the_metrics(flower)
    check_the_results(flower, expected)
    check_the_pages(flower, expected, courier.server.password)

    courier.health().pause("for the test")
    waits = add(ADA, {"channel": VALUE}).job_id
    wait_until(lambda: flower.state(waits) == "RECEIVED", what="a job that waits is shown")
    waiting = flower.tasks()[waits]["args"]
    hashed = EmailHash(lambda: courier.client).of(ADA)
    assert waiting == f"a***@example.com · 1 attribute · {hashed}", "as in the log"


def without_hash(args: str | None) -> str | None:
    return args and re.sub(r" · [0-9a-f]{16}$", "", args)


def check_the_metrics(flower: Flower) -> None:
    """Flower's own, and the same families as `courier metrics` has."""
    families = text_string_to_metric_families(flower.get("/metrics").text)
    found = {family.name: family for family in families}
    ours = {
        family.name
        for family in text_string_to_metric_families(metrics_text(load_settings()).decode())
    }
    assert ours <= found.keys()
    assert any(name.startswith("flower_") for name in found)
    jobs = {
        sample.labels["status"]: sample.value
        for sample in found["attribute_courier_jobs"].samples
        if sample.labels["lane"] == "live" and sample.value
    }
    assert (jobs["delivered"], jobs["invalid"], jobs["refused"]) == (1, 2, 1)


def check_the_results(flower: Flower, expected: dict[str, Any]) -> None:
    """Flower also asks the result backend, which reads the outcome itself."""
    for job_id, (state, _, _) in expected.items():
        answer = flower.get(f"/api/task/result/{job_id}")
        assert answer.status_code == 200
        assert answer.json()["state"] == state
    delivered = list(expected)[1]
    result = flower.get(f"/api/task/result/{delivered}").json()["result"]
    assert result == f"<Outcome {delivered}: a***@example.com · delivered · 1 customer>"


def check_the_pages(flower: Flower, expected: dict[str, Any], password: str) -> None:
    [worker] = flower.get("/api/workers?refresh=1").json()
    columns = "&".join(f"columns[{n}][data]={name}" for n, name in enumerate(["name", "uuid"]))
    pages = {
        path: flower.get(path)
        for path in (
            "/",
            "/workers",
            "/tasks",
            f"/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0&{columns}"
            "&search[value]=",
            "/broker",
            f"/worker/{worker}",
            "/metrics",
            "/api/tasks",
            "/api/workers?refresh=1",
            "/api/queues/length",
            *(f"/task/{job_id}" for job_id in expected),
            *(f"/api/task/info/{job_id}" for job_id in expected),
            *(f"/api/task/result/{job_id}" for job_id in expected),
        )
    }
    for path, page in pages.items():
        assert page.status_code == 200, path
    for job_id, (state, shown, _) in expected.items():
        page = pages[f"/task/{job_id}"].text
        assert job_id in page
        assert state in page
        assert (shown or "") in page
    datatable = next(page for path, page in pages.items() if "datatable" in path)
    assert {row["uuid"] for row in datatable.json()["data"]} >= set(expected)
    assert worker in pages["/"].text

    whole = "".join(page.text for page in pages.values()) + flower.log.read_text()
    names = ("ada", "early", "nobody", "re.fused", "two", "grace")
    private = [f"{name}@example.com" for name in names]
    for text in (*private, VALUE, DEFAULT_API_KEY, password, FLOWER_PASSWORD):
        assert text not in whole, text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "courier.example"])  # noqa: S104
def test_beyond_this_machine_flower_wants_a_password(host: str) -> None:
    argv = [sys.executable, "-m", "attribute_courier.cli", "flower", "--host", host]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "COURIER_FLOWER_BASIC_AUTH=user:password" in ended.stderr
    assert ended.stdout == ""
