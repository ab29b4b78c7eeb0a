"""The worker's scripts, each with what all of them share in front."""

from __future__ import annotations

import redis
from redis.commands.core import Script

from ..config.scripts import load_script

PACKAGE = "attribute_courier.worker.lua"
SHARED = ("common.lua", "pace.lua")


def transition(client: redis.Redis, name: str) -> Script:
    """The script `lua/<name>.lua`, ready to be called."""
    return load_script(client, PACKAGE, *SHARED, f"{name}.lua")
