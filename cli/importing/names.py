"""The names of columns: what is part of them, the keys that they make, how options name them."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable

from ...jobs.attributes import MAX_CHARACTERS, AttributeType
from ...jobs.emails import trimmed
from ...jobs.text import printable

_TYPE_NAMES = frozenset(type_.value for type_ in AttributeType)


def split(name: str) -> tuple[str, AttributeType | None]:
    """A column's name and type: `age:Integer` says both."""
    column, colon, type_ = name.rpartition(":")
    if colon and type_ in _TYPE_NAMES:
        return trimmed(column), AttributeType(type_)
    return name, None


def at(position: int) -> str:
    """How options name the column at a position, from 1, whatever its header says."""
    return f"column:{position}"


def unique_names(header: Iterable[str]) -> tuple[str, ...]:
    """A name for each column of a header that no other has: its own, else its position's."""
    texts = [trimmed(text) for text in header]
    taken: set[str] = set()
    names = []
    for position, text in enumerate(texts, 1):
        name = text
        if not name or name in taken:
            name = at(position)
            while name in taken or name in texts:
                name += "'"
        taken.add(name)
        names.append(name)
    return tuple(names)


def made_key(name: str, taken: Collection[str], otherwise: str = "column") -> str:
    """An attribute key for a column whose name is none: small letters, digits and underscores.

    Args:
        name: as the file has it, without its type.
        taken: keys that it must not be.
        otherwise: the key where nothing of the name can be kept.
    """
    # Letters lose their accents, "ß" becomes "ss"; what has no ASCII letter is left out.
    plain = unicodedata.normalize("NFKD", name.casefold())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    stem = re.sub("[^a-z0-9]+", "_", plain).strip("_")[: MAX_CHARACTERS - 5] or otherwise
    key, number = stem, 1
    while key in taken:
        number += 1
        key = f"{stem}_{number}"
    return key


def quoted(name: str) -> str:
    """A column's name in a text for people."""
    return f'"{printable(name)}"'


def listed(names: Collection[str]) -> str:
    """What columns there are, for an error's text."""
    first = [quoted(name) for name in list(names)[:20]]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"there are {', '.join(first)}{more}"


def option(name: str, value: str) -> str:
    """An option and its value, to be pasted into a shell."""
    return (
        f"{name}={shlex.quote(value)}"
        if value.startswith("-")
        else (f"{name} {shlex.quote(value)}")
    )
