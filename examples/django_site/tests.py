"""`python project.py test` runs these. No job leaves the process, and nothing needs Redis."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import TestCase

from attribute_courier.testing import capture


class SignUp(TestCase):
    def sign_up(self, **asked: Any) -> HttpResponse:
        return self.client.post("/sign-ups", asked, "application/json")

    def test_a_sign_up_is_told_when_it_is_committed(self) -> None:
        with capture() as captured, self.captureOnCommitCallbacks(execute=True) as callbacks:
            answer = self.sign_up(email="ada@example.com", channel="Facebook")
            captured.assert_nothing_added()
        assert (answer.status_code, len(callbacks)) == (202, 1)
        captured.assert_added("ada@example.com", {"channel": "Facebook"})

    def test_a_second_sign_up_is_not_told(self) -> None:
        User.objects.create_user("ada@example.com")
        with capture() as captured, self.captureOnCommitCallbacks(execute=True):
            assert self.sign_up(email="ada@example.com", channel="Ads").status_code == 409
        captured.assert_nothing_added()

    def test_what_is_not_valid_is_said(self) -> None:
        answer = self.sign_up(email="ada.example.com", channel="Facebook")
        assert answer.status_code == 400
        assert 'email: has no "@"' in answer.json()["errors"][0]
        assert not User.objects.exists()
