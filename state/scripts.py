"""Lua scripts: one file a transition, each run in one step by Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import NoScriptError

from .shards import client_of

_PACKAGE = "attribute_courier.state.lua"
_INCLUDE = "-- include: "


class Script:
    """The script `lua/<name>.lua` for one account.

    Its arguments travel by name, as one JSON object (`arg` in Lua); what may be any bytes follows
    as plain arguments. It may run twice: redis-py repeats a command whose answer was lost.

    Args:
        client: a connection with `decode_responses`.
        prefix: of the account's keys.
        name: of the file, without its ending.
    """

    def __init__(self, client: redis.Redis, prefix: str, name: str) -> None:
        self._client = client_of(client, prefix)
        self._prefix = prefix
        self._script = self._client.register_script(source(name))

    def __call__(self, *raw: str, **arg: object) -> Any:
        """Run it. Its text is sent only to a server that does not know it.

        Raises:
            redis.RedisError: Redis does not answer, or answers with an error.
        """
        args: list[str | bytes] = [self._prefix, _encoded(arg), *map(as_bytes, raw)]
        try:
            return self._client.evalsha(self._script.sha, 1, *args)
        except NoScriptError:
            # Loading it first, as redis-py does, would be a round trip more.
            return self._client.eval(str(self._script.script), 1, *args)

    def batch(self, args: Sequence[Mapping[str, object]]) -> list[Any]:
        """Run it once for each of `args`, one after the other, in one round trip.

        Returns:
            Their answers; for one that Redis answered with an error, that error.

        Raises:
            redis.RedisError: Redis does not answer, or answers all of them with errors.
        """
        answers = self._run_batch(args)
        if any(isinstance(answer, NoScriptError) for answer in answers):  # then none of them ran
            self._client.script_load(str(self._script.script))
            answers = self._run_batch(args)
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        return answers

    def _run_batch(self, args: Sequence[Mapping[str, object]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for arg in args:
            pipeline.evalsha(self._script.sha, 1, self._prefix, _encoded(arg))
        return pipeline.execute(raise_on_error=False) if args else []


@cache
def source(name: str) -> str:
    """The text of a script, with the files in front that its `include` line names.

    `-- include: common clock` stands for `_common.lua` and `_clock.lua`.
    """
    text = _read(name)
    line = next(line for line in text.splitlines() if line.startswith(_INCLUDE))
    parts = [_read(f"_{each}") for each in line.removeprefix(_INCLUDE).split()]
    return "\n".join([*parts, text])


def _read(name: str) -> str:
    return files(_PACKAGE).joinpath(f"{name}.lua").read_text("utf-8")


def as_bytes(text: str) -> bytes:
    """Text for Redis. Bytes that were no UTF-8 when they came from there go back as they were."""
    return text.encode(errors="surrogateescape")


def _encoded(arg: Mapping[str, object]) -> bytes:
    return as_bytes(_ENCODER.encode(arg))


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
