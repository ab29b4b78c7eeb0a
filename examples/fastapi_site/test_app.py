"""`python -m pytest` runs these. No job leaves the process, and nothing needs Redis."""

from app import app
from fastapi.testclient import TestClient

client = TestClient(app)


def test_a_sign_up_is_told(captured_attributes):
    answer = client.post("/sign-ups", json={"email": "ada@example.com", "channel": "Facebook"})
    assert answer.status_code == 202
    captured_attributes.assert_added("ada@example.com", {"channel": "Facebook"})
    captured_attributes.deliver()
    assert client.get(answer.json()["outcome"]).json()["status"] == "delivered"


def test_what_is_not_valid_is_said(captured_attributes):
    answer = client.post("/sign-ups", json={"email": "ada.example.com", "channel": "Facebook"})
    assert answer.status_code == 422
    assert 'email: has no "@"' in answer.json()["errors"][0]
    captured_attributes.assert_nothing_added()
