"""What the body of an answer holds: customers, their attributes, or the words of an error.

Bodies are read leniently. Error bodies have at least four shapes (reference: status codes), and a
proxy may answer with a page, a text or nothing.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from .chartmogul import MAX_BODY
from .masking import MAX_READ

_PARTS = ("message", "error", "errors", "error_details", "detail", "details")
_PARAMS = ("param", "field", "attribute", "key")
CODES = ("code", "status", "status_code", "statusCode")
_MAX_WRAPPERS = 4
"""Objects and lists that customers may be wrapped in."""
_MAX_DEPTH = 20
_MAX_PHRASES = 100


def customers(document: object, depth: int = 0) -> list[Any]:
    """The customers of an answer: its `entries`, or what has `attributes`, wherever it stands."""
    match document:
        case {"entries": [*entries]}:
            return entries
        case {"attributes": {}}:
            return [document]
        case dict() if depth < _MAX_WRAPPERS:
            inner = [part for name, part in document.items() if name not in _PARTS]
        case list() if depth < _MAX_WRAPPERS:
            inner = document
        case _:
            return []
    return [customer for part in inner for customer in customers(part, depth + 1)]


def custom_of(entry: object) -> Mapping[str, Any]:
    """A customer's custom attributes, by key.

    They come as an object of values, or of objects with a `value`, or as a list, as the vendor's
    PHP client tests it.
    """
    match entry:
        case {"attributes": {"custom": dict() as custom}}:
            return {
                key: value["value"] if isinstance(value, dict) and "value" in value else value
                for key, value in custom.items()
            }
        case {"attributes": {"custom": [*custom]}}:
            return {
                each["key"]: each["value"]
                for each in custom
                if isinstance(each, dict) and isinstance(each.get("key"), str) and "value" in each
            }
    return {}


def document_of(body: bytes) -> object:
    """The body's JSON; of a body larger than we read, what came whole. None for anything else."""
    try:
        return _json(body)
    except (ValueError, RecursionError):
        return _begun(body.decode(errors="ignore")) if len(body) >= MAX_BODY else None


def _json(body: bytes) -> object:
    document: object
    try:
        document = json.loads(body)
    except UnicodeDecodeError:  # a name in another encoding spoils nothing else
        document = json.loads(body.decode(errors="replace"))
    return document


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[][{},]', re.DOTALL)


def _begun(text: str) -> object:
    """The JSON of a text that breaks off, up to the last value that is whole."""
    open_: list[str] = []
    end, closing = 0, ""
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "{":
                open_.append("}")
            case "[":
                open_.append("]")
            case "," | "}" | "]" as char:
                if char != "," and open_:
                    open_.pop()
                end, closing = token.start() + (char != ","), "".join(reversed(open_))
        if len(open_) > _MAX_DEPTH:
            return None
    try:
        document: object = json.loads(text[:end] + closing)
    except (ValueError, RecursionError):
        return None
    return document


def is_nothing(body: bytes) -> bool:
    """Whether a body is empty or JSON's null."""
    return body.strip() in (b"", b"null")


def words_of(document: object) -> str | None:
    """The words of an error in any of its shapes; None where it has none.

    Beside customers only what is named as one is an error: all else is theirs.
    """
    if customers(document) or (isinstance(document, dict) and "entries" in document):
        fields = document if isinstance(document, dict) else {}
        document = {name: fields[name] for name in _PARTS if name in fields}
    phrases = dict.fromkeys(islice(_phrases(document, "", 0), _MAX_PHRASES))
    return _cut("; ".join(phrases)) or None


def _phrases(part: object, about: str, depth: int) -> Iterator[str]:
    """Each text within a part of an error, with the name of what it is about before it."""
    if depth > _MAX_DEPTH:
        return
    match part:
        case str() if any(char.isprintable() and char != " " for char in part):
            text = part.strip()
            yield text if not about or about in text else f"{about}: {text}"
        case list():
            for each in part:
                yield from _phrases(each, about, depth + 1)
        case dict():
            named = [part[name] for name in _PARAMS if isinstance(part.get(name), str)]
            about = named[0] if named and named[0] else about
            for name in _PARTS:
                yield from _phrases(part.get(name), about, depth + 1)
            if any(part.get(name) for name in ("message", "error", "errors")):
                return
            for name, value in part.items():
                if name not in (*_PARTS, *_PARAMS, *CODES):
                    yield from _phrases(value, f"{about}.{name}" if about else name, depth + 1)


def errors_in(document: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The objects that may say what went wrong: the document, and those that it names as errors."""
    if isinstance(document, dict):
        yield document
        inner = [document.get("error"), document.get("errors")]
    else:
        inner = document if isinstance(document, list) else []
    if depth < _MAX_WRAPPERS:
        for part in inner:
            yield from errors_in(part, depth + 1)


def with_text(message: str, body: bytes) -> str:
    """The message, and after it the words of a body that is no JSON."""
    text = text_of(body)
    return _cut(f"{message}: {text}") if text else message


def text_of(body: bytes) -> str:
    """The words of a page or text that is no JSON."""
    text = body[: 4 * MAX_READ].decode(errors="replace")
    text = re.sub(r"(?is)<(script|style)\b.*?(</\1\s*>|\Z)|<!--.*?(-->|\Z)|<[^<>]*>", " ", text)
    return _cut(" ".join(html.unescape(text).split()))


def _cut(text: str) -> str:
    # Half of a surrogate pair is JSON, but no text: Redis and terminals do not take it.
    return text[: MAX_READ + 1].encode(errors="replace").decode()
