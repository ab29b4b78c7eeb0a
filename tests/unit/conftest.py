"""Requests to the stand-in, for its own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
import requests

from attribute_courier.sandbox import DEFAULT_API_KEY, SandboxProcess


class Post(Protocol):
    def __call__(self, email: Any = ..., *custom: Any, **options: Any) -> requests.Response: ...


@pytest.fixture
def http() -> Iterator[requests.Session]:
    """A client with the stand-in's API key."""
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (DEFAULT_API_KEY, "")
        yield session


@pytest.fixture
def post(stand_in: SandboxProcess, http: requests.Session) -> Post:
    """Add attributes to an email's customers: `age` is 8, unless others are given."""

    def post(email: Any = "ada@example.com", *custom: Any, **options: Any) -> requests.Response:
        content = {
            "email": email,
            "custom": list(custom) or [{"type": "Integer", "key": "age", "value": 8}],
        }
        return http.post(f"{stand_in.url}/customers/attributes/custom", json=content, **options)

    return post
