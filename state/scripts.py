"""Lua scripts: one file a transition, each run in one step by Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import NoScriptError

from ..config.connections import PATIENT_TIMEOUT_S
from ..config.redis_errors import NotReplicatedError
from ..config.settings import Settings
from .shards import client_of

_PACKAGE = "attribute_courier.state.lua"
_INCLUDE = "-- include: "
_FENCE_TTL_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """Replicas that must acknowledge what was written."""

    count: int
    within_ms: int
    """How long they are waited for."""

    @classmethod
    def of(cls, settings: Settings) -> Replicas | None:
        """As the settings say; None where nobody waits.

        The time is less than what a client waits for one answer: half of the enqueue timeout, or
        the worker's own time.
        """
        if not settings.wait_replicas:
            return None
        within_s = 0.8 * min(settings.enqueue_timeout_s / 2, PATIENT_TIMEOUT_S)
        return cls(count=settings.wait_replicas, within_ms=max(1, int(within_s * 1000)))


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

    def replicated(self, replicas: Replicas, *raw: str, **arg: object) -> Any:
        """Run it, and wait until replicas have all that it wrote, now or the time before.

        Raises:
            NotReplicatedError: it ran; not enough replicas acknowledged it in time.
            redis.RedisError: Redis does not answer, or answers with an error.
        """
        args: list[str | bytes] = [self._prefix, _encoded(arg), *map(as_bytes, raw)]
        answer = self._run_and_wait(replicas, "EVALSHA", self._script.sha, args)
        if isinstance(answer, NoScriptError):
            answer = self._run_and_wait(replicas, "EVAL", str(self._script.script), args)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _run_and_wait(
        self, replicas: Replicas, command: str, script: str, args: Sequence[str | bytes]
    ) -> Any:
        # In one piece: redis-py repeats it as a whole, on one connection, and WAIT counts for what
        # its own connection wrote. A script that is run a second time may write nothing, so that
        # WAIT would not wait at all: the write behind it makes sure.
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command(command, script, 1, *args)
        pipeline.set(f"{self._prefix}replicated", "", px=_FENCE_TTL_MS)
        pipeline.wait(replicas.count, replicas.within_ms)
        answer, fence, acknowledged = pipeline.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            return answer
        for each in (fence, acknowledged):
            if isinstance(each, Exception):
                raise each
        if acknowledged < replicas.count:
            raise NotReplicatedError(acknowledged, replicas.count)
        return answer

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
