"""ChartMogul's words without what is private, fit for a log, a pause's reason or an outcome.

An error can repeat what was sent: the API key, the email, the values; as they are, or written as
in a URL, in HTML or in JSON. Escape sequences of terminals and invisible characters go too.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import unquote

from ..config.secret import Secret
from ..jobs.text import printable

MAX_CHARACTERS = 300
"""Characters of a message that are kept."""
MAX_READ = 10_000
"""Characters of a message that are looked at."""

_MASK = "***"
_LONGEST_SECRET = 300
_ROUNDS = 4
"""How often text is decoded that was encoded more than once, such as `%2540`."""
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_JSON_ESCAPE = re.compile(
    r"\\+(?:u([0-9a-f]{4})|u\{([0-9a-f]{1,5})\}|x([0-9a-f]{2})|([\"'/ntr]))", re.IGNORECASE
)
_CREDENTIALS = r"\b(?:basic|bearer)\s+[\w+/=.~-]{8,}"
_AT = r"\s?(?:[@＠]|=40|[\[(]\s?at\s?[\])])\s?"
"""Also as quoted-printable has it, and as people write it who hide an email."""
_PIECE = 8
"""Characters of a long key that are a secret already: whoever shortens it shows some."""
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}:[0-9]{2}:[0-9]{2})")


def masked(message: str, *, email: str, values: Iterable[object], api_key: Secret) -> str:
    """One printable line of at most 300 characters.

    "***" stands for the email, for each of the values where it is a word of its own, and for the
    API key or a piece of it, also as the header `Authorization` has it. Upper and lower case are
    one, and text that was encoded for a URL, for HTML or for JSON is read as what it means. The
    email and the key are found in base64 and hex, too.
    """
    text = _line(message[:MAX_READ])
    if not text:
        return text
    key = _key_pattern(api_key.reveal())
    emails = list(_email_patterns(email))
    words = sorted({*_words(values)} - {""}, key=len, reverse=True)

    def mask(text: str) -> str:
        folded = text.casefold()
        # A pattern of 250 values takes long to compile; most messages repeat one at most.
        near = [_as_word(word) for word in words if _beginning(word) in folded]
        # The longest first, since one may be a part of another.
        found = re.compile("|".join([*emails, *near]) or _CREDENTIALS, re.IGNORECASE)
        return found.sub(_MASK, key.sub(_MASK, text))

    text = mask(text)
    decoded = text
    for _ in range(_ROUNDS):
        further = _line(_decoded(decoded))
        if further == decoded:
            break
        decoded = mask(further)
        if decoded != further:
            text = decoded
    if len(message) > MAX_READ:
        text = text[:-_LONGEST_SECRET]  # it may end within an email or a value
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


@lru_cache(maxsize=64)
def _key_pattern(api_key: str) -> re.Pattern[str]:
    patterns = [_CREDENTIALS]
    if len(api_key) >= 2 * _PIECE:
        pieces = {api_key[at : at + _PIECE] for at in range(len(api_key) - _PIECE + 1)}
        patterns.append(rf"(?:{'|'.join(map(re.escape, sorted(pieces)))})[\w*…-]*")
    elif api_key:
        patterns.append(re.escape(api_key))
    return re.compile("|".join([*patterns, *_encoded(api_key)]), re.IGNORECASE)


def _email_patterns(email: str) -> Iterator[str]:
    local, _, domain = _line(email).rpartition("@")
    if not local:
        if domain:
            yield _spaced(domain)
        return
    # Whatever stands after the "@": the domain may be written in punycode, or be cut off.
    yield rf"(?<![\w.+-]){_spaced(local)}{_AT}[\w.…=-]*"
    yield _spaced(f"{local}@{domain}")
    yield from _encoded(email)


def _encoded(secret: str) -> Iterator[str]:
    """Patterns for a text in hex and in base64, whatever stands before and after it there."""
    content = secret.encode(errors="surrogatepass")
    if len(content) < 3:
        return
    yield content.hex()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + content).decode()
        # Of the first and last characters some bits belong to what stands beside it.
        whole = encoded[(0, 2, 3)[before] : (before + len(content)) * 8 // 6]
        pattern = re.escape(whole).replace(r"\+", "[+-]").replace("/", "[/_]")
        yield rf"[\w+/-]{{0,4}}{pattern}[\w+/=-]*"


def _words(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        text = _line(str(value))
        yield text
        if time := _TIME.match(text):  # ChartMogul writes it in another way
            yield from (f"{time[1]}T{time[2]}", f"{time[1]} {time[2]}")


def _as_word(text: str) -> str:
    """A pattern for a text where it is not a part of a longer word: "on" is not in "reason"."""
    before = r"(?<!\w)" if re.match(r"\w", text) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", text) else ""
    return before + _spaced(text) + after


def _spaced(text: str) -> str:
    """A pattern for a text; in a URL a space may be a "+", and a "+" read as a space."""
    return re.sub(r"\\\+|\\ ", "[ +]", re.escape(text))


def _beginning(text: str) -> str:
    return re.split(r"[ +]", text, maxsplit=1)[0].casefold()


def _line(text: str) -> str:
    """One line, without escape sequences and without characters that show nothing."""
    text = unicodedata.normalize("NFC", _ESCAPE_SEQUENCE.sub("", text))
    if not text.isprintable():
        text = printable("".join(char for char in text if char.isprintable() or char.isspace()))
    return " ".join(text.split())


def _decoded(text: str) -> str:
    text = _JSON_ESCAPE.sub(_character, unquote(html.unescape(text)))
    # Two escapes of JSON make one character beyond U+FFFF.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: re.Match[str]) -> str:
    if code := escape[1] or escape[2] or escape[3]:
        return chr(int(code, 16))
    return escape[4] if escape[4] in "\"'/" else " "
