"""Emails: what can be one, which spellings are the same one, and how one is shown."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from base64 import urlsafe_b64encode

MAX_EMAIL_CHARACTERS = 254
"""RFC 5321, 4.5.3.1.3: the longest address that mail can be sent to."""


def trimmed(text: str) -> str:
    """The text without what cannot be seen around it: blanks, zero-width characters, a BOM.

    Copying from a web page or a spreadsheet brings them along. They are no part of any email.
    """
    if text and "!" <= text[0] <= "~" and "!" <= text[-1] <= "~":  # most texts
        return text
    text = text.strip()
    start, end = 0, len(text)
    while start < end and _is_invisible(text[start]):
        start += 1
    while start < end and _is_invisible(text[end - 1]):
        end -= 1
    return text[start:end]


def email_fault(email: str) -> str | None:
    """Why a trimmed text cannot be an email, in words; None if it can be one.

    Addresses that some mail server uses are accepted, also where RFC 5321 does not allow them:
    docomo's dots (`a..b@`, `.a@`, `a.@`), letters of any script, underscores in a domain. Refused
    is what is nobody's address: no "@" or two that are not quoted, blanks, separators or invisible
    characters in it, a domain of one word.
    """
    if len(email) <= MAX_EMAIL_CHARACTERS and _PLAIN_EMAIL.fullmatch(email):
        return None
    if not email:
        return "is empty; an email is expected, such as ada@example.com"
    if len(email) > MAX_EMAIL_CHARACTERS:
        return f"has {len(email)} characters; an email has at most {MAX_EMAIL_CHARACTERS}"
    for position, character in enumerate(email, start=1):
        if character != " " and not character.isprintable():
            return (
                f"has an invisible character, U+{ord(character):04X}, at position {position}; "
                "an email has none"
            )
    local, at, domain = email.rpartition("@")
    if not at:
        return 'has no "@"; an email is expected, such as ada@example.com'
    fault = _local_fault(local) or _domain_fault(domain)
    return f"{fault}; an email is expected, such as ada@example.com" if fault else None


def normalized_email(email: str) -> str:
    """An email's identity: two spellings are one email where this makes them equal.

    For an email and key the newest job wins over all spellings. ChartMogul is sent the spelling of
    the newest job, only trimmed.

    - What cannot be seen around it is no part of it.
    - **Case does not count**, before "@" neither. No mailbox provider of size tells `Ada@` from
      `ada@`, and ChartMogul's rule is not known. If it ignores case and the courier did not, an
      older value could silently stand over a newer one. If it minds case and the courier does not,
      a job with the wrong spelling is `unmatched`, as it would be anyhow, and one can see it.
    - A domain in Unicode is the same as in Punycode (IDNA 2008, as browsers and registries have it:
      `straße.de` is not `strasse.de`). A name that IDNA does not allow, such as one of emoji, has
      the Punycode of its letters.
    - Letters with accents are the same in one code point or in several (Unicode NFC).
    - Nothing else is the same: dots, `+tags` and quotes count, since providers differ there.
    """
    email = trimmed(email)
    if email.isascii():
        return email.lower()
    local, at, domain = email.rpartition("@")
    return f"{_folded(local)}{at}{_ascii_domain(domain)}"


def mailbox_id_of(email: str) -> str:
    """The id of an email's mailbox: 22 url-safe characters that do not show the email.

    Spellings of one email, which `normalized_email` makes equal, have the same one.
    """
    content = normalized_email(email).encode(errors="surrogatepass")
    return urlsafe_b64encode(hashlib.sha256(content).digest()[:16]).rstrip(b"=").decode()


def redacted_email(email: object) -> str:
    """An email as people may see it where it must stay private: `a***@example.com`.

    Of anything that does not look like an email, nothing is shown.
    """
    if not isinstance(email, str) or not email.isprintable():
        return "***"
    local, at, domain = email.strip().rpartition("@")
    return f"{local[:1]}***@{domain}" if at else "***"


def email_hash(email: str, key: bytes) -> str:
    """What stands for an email in logs: 16 hexadecimal digits, the same for all its spellings.

    Without the key, nobody can tell whose it is, not even by trying every email of a list.
    """
    content = normalized_email(email).encode(errors="surrogatepass")
    return hmac.digest(key, content, "sha256")[:8].hex()


def describe(email: str, attributes: int, hashed: str = "") -> str:
    """What is for an email, in a line for people: `a***@example.com · 2 attributes`.

    Args:
        hashed: the email's hash, by which one finds it in the log.
    """
    # Of what made no job, the attributes are not known.
    count = f" · {attributes} {'attribute' if attributes == 1 else 'attributes'}"
    return redacted_email(email) + (count if attributes else "") + (hashed and f" · {hashed}")


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in {"Cc", "Cf"}


def _local_fault(local: str) -> str | None:
    if not local:
        return 'has nothing before "@"'
    if len(local) > 1 and local[0] == local[-1] == '"':
        if _QUOTED.fullmatch(local):
            return None
        return "has a quote out of place"
    if found := _NOT_IN_LOCAL.search(local):
        return f'has {_SHOWN.get(found[0], found[0])} in the part before "@"'
    return None


def _domain_fault(domain: str) -> str | None:
    if not domain:
        return 'has nothing after "@"'
    if _ADDRESS_LITERAL.fullmatch(domain):
        return None
    if found := _NOT_IN_DOMAIN.search(domain):
        return f'has {_SHOWN.get(found[0], found[0])} in the part after "@"'
    labels = _DOTS.split(domain)
    if len(labels) < 2:
        return 'has no dot after "@"'
    for label in labels:
        if not label:
            return 'has a dot too many after "@"'
        if len(label) > 63 or label[0] == "-" or label[-1] == "-":
            return 'has a part after "@" that is too long, or begins or ends with "-"'
    return None


def _folded(text: str) -> str:
    # Not `casefold`, which makes one of "straße" and "strasse": these may be two people.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def _ascii_domain(domain: str) -> str:
    folded = _folded(domain)
    if folded.isascii() or len(folded) > MAX_EMAIL_CHARACTERS:
        return folded
    # Imported where it is needed: most emails are ASCII, and its tables take a while to load.
    # Python's own `encodings.idna` has IDNA 2003, which takes straße.de for strasse.de.
    import idna

    try:
        return idna.encode(folded, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        pass
    labels = _DOTS.split(unicodedata.normalize("NFKC", folded).lower())
    return ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels
    )


_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""What separates the parts of a domain: IDNA has three more dots than ASCII (UTS 46)."""
_PLAIN_EMAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@"
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)+"')
_NOT_IN_LOCAL = re.compile(r'[\s@<>()\[\],;:\\"]')
_NOT_IN_DOMAIN = re.compile(r"[\s\x21-\x2c\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7e]")
_ADDRESS_LITERAL = re.compile(r"\[[0-9A-Za-z.:-]+\]")
_SHOWN = {" ": "a blank", "@": 'another "@"', ",": "a comma"}
