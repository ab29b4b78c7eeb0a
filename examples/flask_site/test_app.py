"""`python -m pytest` runs these. No job leaves the process, and nothing needs Redis."""

from app import create_app


def test_a_sign_up_is_told(captured_attributes):
    client = create_app().test_client()
    answer = client.post("/sign-ups", json={"email": "ada@example.com", "channel": "Facebook"})
    assert answer.status_code == 202
    captured_attributes.assert_added("ada@example.com", {"channel": "Facebook"})
    captured_attributes.deliver()
    assert client.get(answer.json["outcome"]).json["status"] == "delivered"


def test_what_is_not_valid_is_said(captured_attributes):
    answer = create_app().test_client().post("/sign-ups", json={"email": "ada.example.com"})
    assert answer.status_code == 400
    assert 'email: has no "@"' in answer.json["errors"][0]
    captured_attributes.assert_nothing_added()
