"""Lua scripts: one file a transition, loaded once."""

from __future__ import annotations

from importlib.resources import files

import redis
from redis.commands.core import Script


def load_script(client: redis.Redis, package: str, *names: str) -> Script:
    """The script made of the files `names` of `package`, in their order, ready to be called.

    Calling it sends its hash, and its text only to a server that does not know it.
    """
    source = "\n".join(files(package).joinpath(name).read_text("utf-8") for name in names)
    return client.register_script(source)
