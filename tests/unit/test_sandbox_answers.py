"""The stand-in answers as the reference documents and as was recorded."""

from __future__ import annotations

from typing import Any

import chartmogul
import pytest
import requests

from attribute_courier.sandbox import DEFAULT_API_KEY, SandboxProcess

CHANNEL = {"type": "String", "key": "channel", "value": "Facebook", "source": "integration"}
AGE = {"type": "Integer", "key": "age", "value": 8}


def test_the_reference_example_is_answered_as_the_reference_shows(post: Any) -> None:
    response = post("ada@example.com", CHANNEL, AGE)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {
        "entries": [
            {
                "id": 25647,
                "uuid": "cus_de305d54-75b4-431b-adb2-eb6b9e546012",
                "external_id": "cus_0001",
                "email": "ada@example.com",
                "name": "Smith Company",
                "mrr": 3000,
                "arr": 36000,
                "status": "Active",
                "customer-since": "2022-06-09T13:16:00-04:00",
                "billing-system-url": "https://dashboard.stripe.com/customers/cus_4Z2ZpyJFuQ0XMb",
                "chartmogul-url": "https://app.chartmogul.com/#customers/25647-Smith_Company",
                "billing-system-type": "Stripe",
                "currency": "USD",
                "currency-sign": "$",
                "attributes": {
                    "tags": ["important", "Prio1"],
                    "stripe": {"coupon": True},
                    "custom": {"channel": "Facebook", "age": 8},
                },
            }
        ]
    }


def test_attributes_accumulate_and_the_last_value_stands(post: Any) -> None:
    post("ada@example.com", AGE)
    post("ada@example.com", CHANNEL)
    entry = post("ada@example.com", {**AGE, "value": "9"}).json()["entries"][0]
    assert entry["attributes"]["custom"] == {"age": 9, "channel": "Facebook"}


def test_an_email_with_two_customers_changes_both(post: Any) -> None:
    entries = post("two@example.com", AGE).json()["entries"]
    assert len({entry["uuid"] for entry in entries}) == 2
    assert [entry["attributes"]["custom"] for entry in entries] == [{"age": 8}, {"age": 8}]


def test_a_source_is_kept_but_not_answered(post: Any, stand_in: SandboxProcess) -> None:
    assert "integration" not in post("ada@example.com", CHANNEL, AGE).text
    [customer] = stand_in.customers("ada@example.com")
    assert customer["sources"] == {"channel": "integration", "age": "API"}


def test_a_source_of_null_is_as_none(post: Any, stand_in: SandboxProcess) -> None:
    """CM19"""
    assert post("ada@example.com", {**AGE, "source": None}).status_code == 200
    assert stand_in.customers("ada@example.com")[0]["sources"] == {"age": "API"}


def test_a_quiet_email_answers_200_and_changes_nothing(post: Any) -> None:
    response = post("quiet@example.com")
    assert response.status_code == 200
    assert response.json()["entries"][0]["attributes"]["custom"] == {}


def test_an_unknown_email_is_not_found(post: Any) -> None:
    response = post("nobody@example.com")
    assert response.status_code == 404
    assert response.json() == {
        "code": 404,
        "message": 'Can\'t find any customers with email: "nobody@example.com"',
        "param": "email",
    }


def test_an_unknown_email_can_be_empty_entries_instead(post: Any, stand_in: SandboxProcess) -> None:
    stand_in.configure(unmatched="empty")
    response = post("nobody@example.com")
    assert (response.status_code, response.json()) == (200, {"entries": []})


def test_a_customer_can_arrive_later(post: Any, stand_in: SandboxProcess) -> None:
    assert post("late@example.com").status_code == 404
    stand_in.configure(customers=["late@example.com"])
    assert post("late@example.com").status_code == 200
    assert post("ada@example.com").status_code == 200


def test_customers_of_a_pattern_exist_at_first_use(post: Any, stand_in: SandboxProcess) -> None:
    assert post("u1@auto.example").status_code == 404
    stand_in.configure(auto_customers="*@auto.example")
    assert post("u1@auto.example").status_code == 200
    assert post("u1@other.example").status_code == 404


def test_a_refused_request_changes_nothing(post: Any, stand_in: SandboxProcess) -> None:
    response = post("ada@example.com", CHANNEL, {**AGE, "value": "old"})
    assert response.status_code == 422
    assert response.json() == {
        "errors": {"age": "value must be an Integer: only numeric characters"}
    }
    assert stand_in.customers("ada@example.com")[0]["attributes"]["custom"] == {}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"custom": []}', b'{"email": 5}'])
def test_a_body_that_is_no_proper_object_is_a_bad_request(
    body: bytes, stand_in: SandboxProcess, http: requests.Session
) -> None:
    response = http.post(f"{stand_in.url}/customers/attributes/custom", data=body)
    assert response.status_code == 400
    assert set(response.json()) == {"code", "message", "param"}


@pytest.mark.parametrize("password", ["", DEFAULT_API_KEY])
def test_ping_wants_the_key_with_no_password_or_itself(
    password: str, stand_in: SandboxProcess, http: requests.Session
) -> None:
    response = http.get(f"{stand_in.url}/ping", auth=(DEFAULT_API_KEY, password))
    assert (response.status_code, response.json()) == (200, {"data": "pong!"})


@pytest.mark.parametrize("auth", [("wrong", ""), ("", DEFAULT_API_KEY), (DEFAULT_API_KEY, "x")])
def test_any_other_credentials_are_refused(auth: tuple[str, str], post: Any) -> None:
    response = post("ada@example.com", auth=auth)
    assert response.status_code == 401
    assert response.json() == {"code": 401, "message": "No valid API key provided", "param": None}


def test_no_credentials_are_refused(stand_in: SandboxProcess) -> None:
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{stand_in.url}/ping").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/customers"), ("GET", "/customers/attributes/custom"), ("HEAD", "/ping")],
)
def test_other_paths_do_not_exist(
    method: str, path: str, stand_in: SandboxProcess, http: requests.Session
) -> None:
    assert http.request(method, f"{stand_in.url}{path}").status_code == 404
    assert http.get(f"{stand_in.url}/ping").status_code == 200


def test_each_account_has_its_own_customers(post: Any, stand_in: SandboxProcess) -> None:
    stand_in.configure(accounts={"default": DEFAULT_API_KEY, "eu": "key-eu"})
    post("ada@example.com", AGE, auth=("key-eu", ""))
    assert stand_in.customers("ada@example.com")[0]["attributes"]["custom"] == {}
    [customer] = stand_in.customers("ada@example.com", account="eu")
    assert customer["attributes"]["custom"] == {"age": 8}


class TestCustomersByThemselves:
    """CM18: what the reference's own examples in Ruby and PHP call."""

    def test_are_found_by_their_email_and_get_attributes_by_their_uuid(
        self, stand_in: SandboxProcess, http: requests.Session
    ) -> None:
        found = http.get(f"{stand_in.url}/customers/search", params={"email": "two@example.com"})
        entries = found.json()["entries"]
        assert [entry["email"] for entry in entries] == ["two@example.com"] * 2
        uuid = entries[1]["uuid"]
        answer = http.post(
            f"{stand_in.url}/customers/{uuid}/attributes/custom", json={"custom": [CHANNEL, AGE]}
        )
        assert (answer.status_code, answer.json()) == (
            200,
            {"custom": {"channel": "Facebook", "age": 8}},
        )
        customers = stand_in.customers("two@example.com")
        assert [each["attributes"]["custom"] for each in customers] == [{}, answer.json()["custom"]]
        assert [each["applied"] for each in stand_in.requests()] == [False, True]

    def test_that_do_not_exist_are_not_found(
        self, stand_in: SandboxProcess, http: requests.Session
    ) -> None:
        search = f"{stand_in.url}/customers/search"
        unknown = http.get(search, params={"email": "nobody@example.com"})
        assert (unknown.status_code, unknown.json()["param"]) == (404, "email")
        assert http.get(search).status_code == 400
        path = f"{stand_in.url}/customers/cus_0/attributes/custom"
        assert http.post(path, json={"custom": [AGE]}).status_code == 404
        assert http.post(path, data=b"{").status_code == 400

    def test_are_found_by_the_official_client(
        self, official: chartmogul.Config, stand_in: SandboxProcess
    ) -> None:
        [customer] = chartmogul.Customer.search(official, email="ada@example.com").get().entries
        added = chartmogul.CustomAttributes.add(
            official, uuid=customer.uuid, data={"custom": [CHANNEL, AGE]}
        ).get()
        assert added.custom == {"channel": "Facebook", "age": 8}
        assert stand_in.customers("ada@example.com")[0]["sources"]["channel"] == "integration"


def test_the_official_client_pings(official: chartmogul.Config) -> None:
    assert chartmogul.Ping.ping(official).get().data == "pong!"


def test_the_official_client_adds_attributes(
    official: chartmogul.Config, stand_in: SandboxProcess
) -> None:
    added = chartmogul.CustomAttributes.add(
        official, data={"email": "ada@example.com", "custom": [CHANNEL, AGE]}
    ).get()
    [customer] = added.entries
    assert customer.name == "Smith Company"
    assert customer.customer_since.year == 2022
    assert customer.attributes.custom == {"channel": "Facebook", "age": 8}
    assert [request["status"] for request in stand_in.requests()] == [200]


def test_the_official_client_shows_a_refusal(
    official: chartmogul.Config, stand_in: SandboxProcess
) -> None:
    with pytest.raises(chartmogul.APIError, match=r"any customers with email: .*nobody@"):
        chartmogul.CustomAttributes.add(
            official, data={"email": "nobody@example.com", "custom": [AGE]}
        ).get()
    assert [request["status"] for request in stand_in.requests()] == [404]


@pytest.fixture
def official(stand_in: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> chartmogul.Config:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    config = chartmogul.Config(DEFAULT_API_KEY, request_timeout=10, max_retries=0)
    config.uri = stand_in.url
    return config
