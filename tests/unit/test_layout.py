"""A worker reads only what it knows."""

from __future__ import annotations

import pytest
import redis

from attribute_courier.jobs.errors import OtherLayout
from attribute_courier.state.keys import Keys
from attribute_courier.state.layout import LAYOUT, check_layout

KEYS = Keys("default")


def test_the_first_worker_stamps_the_account(client: redis.Redis) -> None:
    check_layout(client, KEYS)
    assert client.get(KEYS.of("layout")) == LAYOUT
    check_layout(client, KEYS)


def test_another_layout_is_refused_in_words_and_left_alone(client: redis.Redis) -> None:
    client.set(KEYS.of("layout"), "7")
    with pytest.raises(OtherLayout, match=r"account default: .* have layout '7'.* reads '1'"):
        check_layout(client, KEYS)
    assert client.get(KEYS.of("layout")) == "7"
