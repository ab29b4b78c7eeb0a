"""What goes to Redis and comes from it, on our own connections."""

from __future__ import annotations

import pytest
import redis

from attribute_courier.config import load_settings
from attribute_courier.config.connections import connect_briefly, connect_patiently
from attribute_courier.sandbox import EmbeddedRedis


@pytest.mark.parametrize("connect", [connect_patiently, connect_briefly])
def test_bytes_that_are_no_text_come_through_and_go_back_as_they_were(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, connect: type[redis.Redis]
) -> None:
    """Whoever publishes a job may give it any id; it must be possible to remove it."""
    monkeypatch.setenv("COURIER_REDIS_URL", server.url)
    with redis.Redis.from_url(server.url) as raw:
        raw.hset("inbox", b"\xff\xfe id", "\u00e9".encode())
        client = connect(load_settings())
        assert client.hgetall("inbox") == {"\udcff\udcfe id": "é"}
        client.hset("inbox", "\udcff\udcfe id", "ü")
        pipeline = client.pipeline(transaction=False)
        pipeline.hset("inbox", "\udcff", "é")
        pipeline.execute()
        client.close()
        assert raw.hgetall("inbox") == {b"\xff\xfe id": "ü".encode(), b"\xff": "é".encode()}
