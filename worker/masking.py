"""ChartMogul's words without what is private, fit for a log, a pause's reason or an outcome.

An error can repeat what was sent: the API key, the email, the values; as they are, or written as
in a URL, in HTML or in JSON. Escape sequences of terminals and invisible characters go too.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
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
_JSON_ESCAPE = re.compile(r"\\+(?:u([0-9a-f]{4})|x([0-9a-f]{2})|([\"'/ntr]))", re.IGNORECASE)
_CREDENTIALS = r"\b(?:basic|bearer)\s+[\w+/=.~-]{8,}"


def masked(message: str, *, email: str, values: Iterable[object], api_key: Secret) -> str:
    """One printable line of at most 300 characters.

    "***" stands for the email, for each of the values where it is a word of its own, and for the
    API key, also as the header `Authorization` has it. Upper and lower case are one, and text
    that was encoded for a URL, for HTML or for JSON is read as what it means.
    """
    text = _line(message[:MAX_READ])
    secrets = [*_key_patterns(api_key.reveal()), *_email_patterns(email)]
    words = sorted({_line(str(value)) for value in values} - {""}, key=len, reverse=True)
    text = _mask(text, secrets, words)
    decoded = text
    for _ in range(_ROUNDS):
        further = _line(_decoded(decoded))
        if further == decoded:
            break
        decoded = _mask(further, secrets, words)
        if decoded != further:
            text = decoded
    if len(message) > MAX_READ:
        text = text[:-_LONGEST_SECRET]  # it may end within an email or a value
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def _mask(text: str, secrets: list[str], words: list[str]) -> str:
    folded = text.casefold()
    # A pattern of 250 values takes long to compile; most messages repeat one at most.
    near = [_as_word(word) for word in words if _beginning(word) in folded]
    # The longest first, since one may be a part of another.
    return re.sub("|".join([*secrets, *near]), _MASK, text, flags=re.IGNORECASE)


def _key_patterns(api_key: str) -> Iterator[str]:
    yield _CREDENTIALS
    if not api_key:
        return
    # Also its beginning alone: whoever shortens a key leaves that.
    yield re.escape(api_key[:8]) + r"[\w*…-]*" if len(api_key) >= 16 else re.escape(api_key)
    # Whole groups of base64 are the same whatever follows the key.
    whole = base64.b64encode(api_key.encode()).decode()[: len(api_key) // 3 * 4]
    if whole:
        pattern = re.escape(whole).replace(r"\+", "[+-]").replace("/", "[/_]")
        yield pattern + r"[\w+/=-]*"


def _email_patterns(email: str) -> Iterator[str]:
    local, _, domain = _line(email).rpartition("@")
    if not local:
        if domain:
            yield _spaced(domain)
        return
    # Whatever stands after the "@": the domain may be written in punycode, or be cut off.
    yield rf"(?<![\w.+-]){_spaced(local)}\s?@\s?[\w.…-]*"
    yield _spaced(f"{local}@{domain}")


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
    text = _ESCAPE_SEQUENCE.sub("", text)
    if not text.isprintable():
        text = printable("".join(char for char in text if char.isprintable() or char.isspace()))
    return " ".join(text.split())


def _decoded(text: str) -> str:
    text = _JSON_ESCAPE.sub(_character, unquote(html.unescape(text)))
    # Two escapes of JSON make one character beyond U+FFFF.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    if code:
        return chr(int(code, 16))
    return escape[3] if escape[3] in "\"'/" else " "
