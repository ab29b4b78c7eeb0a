"""Lua scripts: one file a transition, loaded once, run alone or several in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Generic, TypeVar

import redis
from redis.commands.core import Script

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

_IN_TURN = """
local place = 1
local function own_arguments()
  local count, found = tonumber(ARGV[place]), {}
  for i = 1, count do
    found[i] = ARGV[place + i]
  end
  place = place + count + 1
  return found
end
"""


PACKAGE = "attribute_courier.state.lua"
SHARED = ("common.lua", "pace.lua")


def transition(client: redis.Redis, name: str) -> Script:
    """The script `lua/<name>.lua`, ready to be called."""
    return load_script(client, PACKAGE, *SHARED, f"{name}.lua")


def load_script(client: redis.Redis, package: str, *names: str) -> Script:
    """The script made of the files `names` of `package`, in their order, ready to be called.

    Calling it sends its hash, and its text only to a server that does not know it.
    """
    return client.register_script("\n".join(_text(package, name) for name in names))


@dataclass(frozen=True, repr=False)
class Call(Generic[T]):
    """A script with its arguments. Called, it runs alone."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | float]
    read: Callable[[Any], T]
    """What its answer means."""

    def __call__(self) -> T:
        return self.read(self.script(keys=self.keys, args=self.args))


class InTurn:
    """Three scripts as one, which runs them one after the other: nothing else comes between.

    A round trip costs a worker more than what is in it.

    Args:
        shared: files that are put in front, once.
        names: files, one for each script.
    """

    def __init__(
        self,
        client: redis.Redis,
        package: str,
        *,
        shared: Sequence[str],
        names: tuple[str, str, str],
    ) -> None:
        parts = [_text(package, name) for name in shared] + [_IN_TURN]
        for number, name in enumerate(names):
            parts.append(f"local function script_{number}(ARGV)\n{_text(package, name)}\nend")
        # Nothing, as an answer, would end the list.
        answers = ", ".join(f"script_{n}(own_arguments()) or false" for n in range(len(names)))
        self._script = client.register_script("\n".join([*parts, f"return {{ {answers} }}"]))

    def __call__(self, first: Call[A], second: Call[B], third: Call[C]) -> tuple[A, B, C]:
        """Run what is called, in the order of `names`."""
        args: list[str | float] = []
        for part in (first.args, second.args, third.args):
            args += [len(part), *part]
        answers = self._script(keys=first.keys, args=args)
        return first.read(answers[0]), second.read(answers[1]), third.read(answers[2])


def _text(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text("utf-8")
