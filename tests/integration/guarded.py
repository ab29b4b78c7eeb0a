"""A courier whose Redis wants a password, for tests of what is shown nowhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.producers import Producer

from ..conftest import Courier

PASSWORD = "s3cr3t-of-redis"


@contextlib.contextmanager
def guarded(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> Iterator[Courier]:
    """The courier with a password from now on; its Redis is open again at the end."""
    url = courier.server.url.replace("redis://", f"redis://:{PASSWORD}@")
    courier.producer.close()
    courier.client.config_set("requirepass", PASSWORD)
    courier.client.close()
    courier.client = redis.Redis.from_url(url, decode_responses=True)
    try:
        monkeypatch.setenv("COURIER_REDIS_URL", url)
        courier.environ["COURIER_REDIS_URL"] = url
        courier.producer = Producer(load_settings())
        yield courier
    finally:
        courier.client.config_set("requirepass", "")
