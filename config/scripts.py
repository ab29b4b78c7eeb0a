"""Lua scripts: one file a transition, loaded once, run alone or several in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Generic, TypeVar

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def load_script(client: redis.Redis, package: str, *names: str) -> Script:
    """The script made of the files `names` of `package`, in their order, ready to be called.

    Calling it sends its hash, and its text only to a server that does not know it.
    """
    source = "\n".join(files(package).joinpath(name).read_text("utf-8") for name in names)
    return client.register_script(source)


@dataclass(frozen=True)
class Call(Generic[T]):
    """A script with its arguments. Called, it runs alone."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | float]
    read: Callable[[Any], T]
    """What its answer means."""

    def __call__(self) -> T:
        return self.read(self.script(keys=self.keys, args=self.args))


def together(first: Call[A], second: Call[B], third: Call[C]) -> tuple[A, B, C]:
    """Run scripts one after the other in one round trip, each a step of its own.

    A round trip costs a worker more than what is in it. If a server has forgotten a script, all
    are run again.
    """
    calls: tuple[Call[Any], ...] = (first, second, third)
    client: Any = first.script.registered_client
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    try:
        answers = pipeline.execute()
    except NoScriptError:
        return first(), second(), third()
    return first.read(answers[0]), second.read(answers[1]), third.read(answers[2])
