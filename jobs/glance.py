"""Whose a document of the inbox is, without judging whether it makes a job.

Not by the schema: producers need no marshmallow, and what is in the inbox may be broken or in a
newer format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import rules
from .emails import normalized_email
from .errors import InvalidJob
from .job import Lane
from .strict_json import StrictJSONError, parse_json


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What a document says of itself."""

    email: str | None = None
    """None where it names no email in its place."""
    keys: tuple[str, ...] = ()
    """Names of its attributes, as far as they are names."""
    lane: Lane = "live"


def glance(wire: str) -> Glance:
    """What a document says of itself, whatever it is."""
    try:
        document = parse_json(wire)
    except StrictJSONError:
        return Glance()
    if not isinstance(document, Mapping):
        return Glance()
    attributes = document.get("attributes")
    entries = attributes if isinstance(attributes, list) else []
    keys = [each.get("key") for each in entries if isinstance(each, Mapping)]
    return Glance(
        email=_email_of(document),
        keys=tuple(key for key in keys if isinstance(key, str) and _KEY.fullmatch(key)),
        lane="bulk" if document.get("lane") == "bulk" else "live",
    )


def belongs_to(wire: str, email: str) -> bool:
    """Whether a document is about an email.

    Its field `email` decides. A document that has none there, be it in a newer format or broken,
    is about each email that it mentions.

    Args:
        email: as `normalized_email` has it.
    """
    # Nearly all documents of a full inbox are told apart by this.
    if wire.isascii() and "\\" not in wire and email not in wire.lower():
        return False
    try:
        document = parse_json(wire)
    except StrictJSONError:
        return _mentions(_ESCAPE.sub(lambda found: chr(int(found[1], 16)), wire), email)
    named = _email_of(document) if isinstance(document, Mapping) else None
    if named is not None:
        return normalized_email(named) == email
    return any(_mentions(text, email) for text in _texts(document))


def _email_of(document: Mapping[object, object]) -> str | None:
    try:
        return rules.email(document.get("email"))
    except InvalidJob:
        return None


def _mentions(text: str, email: str) -> bool:
    return any(
        normalized_email(each) == email for each in (text, *_ADDRESS.findall(text)) if "@" in each
    )


def _texts(document: object) -> Iterator[str]:
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, Mapping):
            waiting += found.keys()
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


_KEY = re.compile(r"\w{1,255}", re.ASCII)
_ADDRESS = re.compile(r"""[^\s"'<>(),;:\[\]{}\\]+@[^\s"'<>(),;:\[\]{}\\]+""")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
