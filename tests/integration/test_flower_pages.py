"""Accounts and Outcomes inside the real Flower: what they show, and what they never show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from attribute_courier.jobs.ids import new_job_id
from attribute_courier.operate.flower import plug
from attribute_courier.sandbox import DEFAULT_API_KEY, Fault

from ..conftest import Courier
from ..flower import Flower, running_flower
from ..waiting import wait_until

ADA = "ada.lovelace@load.example"  # one of those that the stand-in makes a customer of
PASSWORD = "s3cr3t-of-flower"
VALUE = "Facebook-ads-7"
REFUSED = "re.fused@example.com"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}


@pytest.fixture
def flower(courier: Courier) -> Iterator[Flower]:
    with running_flower(courier.environ, courier.logs, password=PASSWORD) as found:
        yield found


@pytest.fixture
def open_flower(courier: Courier) -> Iterator[Flower]:
    environ = courier.environ | {"COURIER_ENQUEUE_TIMEOUT": "20s"}  # which is not waited for
    with running_flower(environ, courier.logs) as found:
        yield found


def jobs_in(page: requests.Response) -> list[str]:
    """The jobs that a page links to, in order."""
    parts = page.text.split('aria-label="Job ')[1:]
    return [part.partition('"')[0] for part in parts]


def test_outcomes_are_found_and_replayed_and_nothing_private_is_shown(
    courier: Courier, flower: Flower
) -> None:
    courier.stand_in.configure(
        faults=[
            Fault(
                kind="status",
                status=422,
                email=REFUSED,
                content=f'{{"errors": {{"custom": "{VALUE} of {REFUSED}"}}}}',
            )
        ]
    )
    courier.start_worker()
    add = courier.producer.add_attributes
    delivered = add(ADA, {"channel": VALUE, "age": 8}).job_id
    refused = add(REFUSED, {"channel": VALUE}, lane="bulk").job_id
    unmatched = add("nobody@example.com", {"channel": VALUE}).job_id
    for job_id in (delivered, refused, unmatched):
        wait_until(lambda j=job_id: courier.outcomes.get(j).settled, what=job_id)  # type: ignore[misc,union-attr]
    wait_until(lambda: flower.state(refused) == "FAILURE", what="a bulk job that failed is shown")
    shown: list[requests.Response] = []

    def get(path: str, **options: Any) -> requests.Response:
        page = flower.get(path, **options)
        shown.append(page)
        return page

    everything = get("/outcomes")
    assert set(jobs_in(everything)) == {delivered, refused, unmatched}
    assert jobs_in(everything)[0] == unmatched  # it was tried three times, so it is the newest
    assert jobs_in(get("/outcomes?status=refused")) == [refused]
    assert jobs_in(get("/outcomes?status=refused&reason=content&since=15m")) == [refused]
    assert jobs_in(get("/outcomes?reason=no_customer")) == [unmatched]
    assert jobs_in(get("/outcomes?status=failed")) == []
    assert jobs_in(get("/outcomes?since=1ms")) == []
    for odd in (
        "since=nan",
        "since=1e99",
        "before=x.y",
        "before=-5",
        "account=%3Cb%3E",
        "status=x",
    ):
        assert set(jobs_in(get(f"/outcomes?{odd}"))) == {delivered, refused, unmatched}, odd
    assert "a***@<wbr>load.example" in everything.text

    page = get(f"/outcome/{refused}").text
    for text in ("refused", "r***@example.com", "custom: *** of ***", "HTTP 422", "bulk lane"):
        assert text in page, text
    [customer] = courier.outcomes.get(delivered).customers  # type: ignore[union-attr]
    assert f"{customer.external_id}\n" in get(f"/outcome/{delivered}").text
    assert get(f"/outcome/{new_job_id()}").status_code == 404
    assert get("/outcome/%00%FF").status_code == 400
    assert get("/outcome/%3Cb%3E").status_code == 404

    found = get("/api/outcomes?status=refused").json()["outcomes"]
    assert [(each["job_id"], each["email"]) for each in found] == [(refused, "r***@example.com")]
    assert get(f"/api/outcome/{unmatched}").json()["outcome"]["reason"] == "no_customer"
    assert get(f"/api/outcome/{new_job_id()}").status_code == 404

    search_by_email(flower, shown, delivered, refused)
    replay(courier, flower, refused, unmatched)
    cancel(courier, flower)
    get("/accounts")
    assert get("/accounts?part=1").text.lstrip().startswith("<section")
    account = get("/api/accounts").json()["accounts"][0]
    assert account["last_hour"]["delivered"] == 2
    assert {"status": "unmatched", "reason": "no_customer", "jobs": 1} in account[
        "last_hour_reasons"
    ]
    assert len(account["minutes"]) in (59, 60)
    for path in (
        "/",
        "/tasks",
        "/broker",
        "/workers",
        "/metrics",
        "/nowhere",
        "/api/queues/length",
    ):
        get(path)
    columns = "&".join(f"columns[{n}][data]={name}" for n, name in enumerate(["state", "args"]))
    tasks = get(f"/tasks/datatable?draw=1&start=0&length=100&order[0][column]=0&{columns}").json()
    row = next(each for each in tasks["data"] if each["uuid"] == refused)
    assert row["args"].startswith("r***@example.com · 1 attribute · ")
    assert row["result"].startswith("refused · custom: ***")
    headers = flower.get("/tasks").text
    assert headers.index(">State<") < headers.index(">args<") < headers.index(">Result<")

    whole = "".join(page.text + str(page.headers) for page in shown) + flower.log.read_text()
    whole = whole.replace("<wbr>", "")  # where an email may be broken
    password = courier.server.password
    for text in (ADA, REFUSED, "nobody@example.com", VALUE, DEFAULT_API_KEY, password, PASSWORD):
        assert text not in whole, text


def search_by_email(
    flower: Flower, shown: list[requests.Response], delivered: str, refused: str
) -> None:
    moved = flower.post(
        "/outcomes/search", data={"q": " Ada.Lovelace@Load.example "}, allow_redirects=False
    )
    assert moved.status_code == 303
    place = moved.headers["Location"]
    assert "ovelace" not in place
    page = flower.get(place)
    assert jobs_in(page) == [delivered]
    assert f"Jobs of {ADA}" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert jobs_in(flower.get(f"{place}&status=refused")) == []
    word = place.partition("=")[2]
    assert ADA in flower.get(f"/outcome/{delivered}?search={word}").text
    shown.append(flower.get(f"/outcome/{refused}?search={word}"))  # another's email stays masked
    shown.append(moved)
    assert "This search is over" in flower.get("/outcomes?search=unknown").text
    moved = flower.post("/outcomes/search", data={"q": delivered.upper()}, allow_redirects=False)
    assert moved.headers["Location"] == f"/outcome/{delivered}"
    wrong = flower.post("/outcomes/search", data={"q": "<b>nobody</b>"})
    assert wrong.status_code == 422
    assert "&lt;b&gt;nobody&lt;/b&gt;" in wrong.text
    assert "<b>nobody" not in wrong.text
    found = flower.post("/api/outcomes/search", json={"email": ADA.upper()}).json()
    assert [(each["job_id"], each["email"]) for each in found["outcomes"]] == [(delivered, ADA)]
    for body in ("no json", "[]", '{"email": 5}', '{"email": "nobody"}'):
        assert flower.post("/api/outcomes/search", data=body).status_code == 400


def replay(courier: Courier, flower: Flower, refused: str, unmatched: str) -> None:
    path = f"/outcome/{refused}/replay"
    assert flower.post(path, headers=CROSS_SITE).status_code == 403
    assert courier.outcomes.get(refused).attempts == 1  # type: ignore[union-attr]
    assert flower.get(f"/outcome/{refused}").text.count("Replay") == 1
    before = len(courier.posts(REFUSED))
    page = flower.post(path)
    assert page.status_code == 200
    assert page.url.endswith(f"/outcome/{refused}?done=replayed")
    wait_until(lambda: len(courier.posts(REFUSED)) > before, what="it is sent again")
    wait_until(lambda: courier.outcomes.get(refused).settled, what="it is refused again")  # type: ignore[union-attr]
    courier.stand_in.configure(customers=["nobody@example.com"])
    assert flower.post(f"/api/outcome/{unmatched}/replay").json() == {"replayed": unmatched}
    wait_until(lambda: courier.outcomes.get(unmatched).status == "delivered", what="it arrives")  # type: ignore[union-attr]
    assert flower.post(f"/outcome/{unmatched}/replay").status_code == 409
    assert flower.post(f"/api/outcome/{unmatched}/replay").status_code == 409
    assert flower.post(f"/outcome/{unmatched}/cancel").status_code == 409


def cancel(courier: Courier, flower: Flower) -> None:
    courier.health().pause("for the test")
    first, second = (courier.producer.add_attributes(ADA, {f"k{n}": n}).job_id for n in range(2))
    for job_id in (first, second):
        wait_until(lambda j=job_id: courier.outcomes.get(j).accepted_at, what="it is accepted")  # type: ignore[misc,union-attr]
    assert jobs_in(flower.get("/outcomes?status=pending")) == [first, second]
    assert flower.post(f"/outcome/{first}/cancel", headers=CROSS_SITE).status_code == 403
    assert "Cancel: do not send it" in flower.get(f"/outcome/{first}").text
    page = flower.post(f"/outcome/{first}/cancel")
    assert "It was taken back" in page.text
    assert courier.outcomes.get(first).status == "canceled"  # type: ignore[union-attr]
    wait_until(lambda: flower.state(first) == "REVOKED", what="Flower's own list shows it, too")
    assert jobs_in(flower.get("/outcomes?status=pending")) == [second]
    assert flower.post(f"/api/outcome/{second}/cancel").json() == {"canceled": second}
    unknown = flower.post(f"/api/outcome/{new_job_id()}/cancel")
    assert (unknown.status_code, unknown.text) == (409, "not canceled: no such job is known")
    assert jobs_in(flower.get("/outcomes?status=canceled&reason=asked")) == [second, first]
    courier.health().resume()


def test_without_a_password_there_are_no_buttons_and_no_api(
    courier: Courier, open_flower: Flower
) -> None:
    job_id = courier.producer.add_attributes(ADA, {"channel": VALUE}).job_id
    page = open_flower.get(f"/outcome/{job_id}").text
    assert "pending" in page
    assert "a worker: none is alive that serves this account" in page
    assert "<button" not in page.partition("<main")[2]
    assert open_flower.post(f"/outcome/{job_id}/replay").status_code == 403
    assert open_flower.post(f"/outcome/{job_id}/cancel").status_code == 403
    for path in ("accounts", "outcomes", f"outcome/{job_id}"):
        answer = open_flower.get(f"/api/{path}")
        assert answer.status_code == 401
        assert "FLOWER_UNAUTHENTICATED_API" in answer.text
    assert open_flower.post(f"/api/outcome/{job_id}/replay").status_code == 401
    assert open_flower.post(f"/api/outcome/{job_id}/cancel").status_code == 401
    assert open_flower.post("/api/outcomes/search", json={"email": ADA}).status_code == 401

    courier.server.pause()
    try:
        for path in ("/accounts", "/outcomes", f"/outcome/{job_id}", "/accounts?part=1"):
            began_s = time.monotonic()
            answer = open_flower.get(path)
            assert answer.status_code == 503, path
            assert "does not answer in time" in answer.text
            assert time.monotonic() - began_s < 5, path
        assert open_flower.get("/healthcheck").text == "OK"
    finally:
        courier.server.resume()
    wait_until(lambda: open_flower.get("/accounts").ok, what="it goes on")


STATES = {
    "no_worker": "No worker serves this account",
    "backlog_old": "The first live job has been waiting for",
    "redis_evicts": "Redis throws jobs away when its memory is full (maxmemory-policy allkeys-lru)",
    "redis_full": "Redis is full: it uses",
    "clock_step": "Redis&#x27;s clock stepped ahead by 30.0 s",
    "failing": "The server failed for 1 email in a row, with no success since: ",
    "paused": "Deliveries are paused by ChartMogul&#x27;s answer",
}


def test_the_accounts_page_says_what_is_wrong(courier: Courier, flower: Flower) -> None:
    """Within 15 seconds, with the reason; the same in JSON."""

    def told(*codes: str) -> None:
        for code in codes:

            def is_told(code: str = code) -> bool:
                found = flower.get("/api/accounts").json()["problems"]
                return code in {each["code"] for each in found} and (
                    STATES[code] in flower.get("/accounts").text
                )

            wait_until(is_told, timeout_s=15, what=code)

    old = courier.producer.add_attributes("1@load.example", {"n": 1})
    courier.client.zadd(
        courier.keys.of("inbox:live"), {old.job_id: (time.time() - 400) * 1_000_000}
    )
    courier.health().note_step(30)
    told("no_worker", "backlog_old", "clock_step")
    assert '<span class="badge text-bg-danger">no worker</span>' in flower.get("/accounts").text
    kept = courier.client.config_get("maxmemory*")
    try:
        courier.client.config_set("maxmemory", "1gb")
        courier.client.config_set("maxmemory-policy", "allkeys-lru")
        told("redis_evicts")
        courier.client.config_set("maxmemory-policy", "noeviction")
        courier.client.config_set("maxmemory", 1)
        told("redis_full")
    finally:
        courier.client.config_set("maxmemory", kept["maxmemory"])
        courier.client.config_set("maxmemory-policy", kept["maxmemory-policy"])
    courier.stand_in.configure(faults=[Fault(kind="status", status=503)])
    courier.start_worker(COURIER_PROBE_DELAYS="60s")
    told("failing")
    wait_until(
        lambda: [t for t in flower.tasks().values() if t["state"] == "RETRY" and "503" in str(t)],
        what="the stint is shown as retried",
    )
    courier.stand_in.configure(faults=[Fault(kind="revoked")])
    courier.producer.add_attributes("2@load.example", {"n": 1})
    told("paused")
    problem = flower.get("/api/accounts").json()["problems"][0]
    assert "No valid API key" in problem["text"]


def test_another_version_of_flower_has_no_pages_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, courier: Courier
) -> None:
    monkeypatch.setattr(plug, "handlers", found := list(plug.handlers))
    monkeypatch.setattr(plug.flower, "__version__", "9.9.1")
    plug.add_pages(courier.producer.settings)
    assert "left out: Flower has version 9.9.1, and they are tested with 2.2" in caplog.text
    assert not [each for each in found if "outcome" in str(each)]


@pytest.mark.long
def test_it_ends_while_redis_is_away(courier: Courier) -> None:
    """Its threads wait for the broker, without bound."""
    with running_flower(courier.environ, courier.logs) as flower:
        # Where it is yet greeting the workers, Kombu waits in silence.
        wait_until(lambda: courier.client.info("clients")["blocked_clients"], what="it listens")
        courier.server.kill()
        try:
            with suppress(requests.RequestException):
                flower.session.get(flower.url + "/api/workers?refresh=1", timeout=3)
            wait_until(lambda: flower.log.read_text().count("Failed to capture events") >= 2)
            flower.process.popen.terminate()
            wait_until(lambda: not flower.process.running, timeout_s=20, what="it ends")
        finally:
            courier.server.start()
