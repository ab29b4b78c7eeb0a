"""What settings may hold, whether it comes as text of the environment or as a value of code.

Each rule returns the value as it is kept, or raises ValueError with what is accepted. No text
shows the value, which may be secret.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, get_args
from urllib.parse import SplitResult, urlsplit

from .durations import parse_duration
from .embedded import with_password
from .redis_url import parse_redis_url
from .secret import Secret

Duration = float | timedelta | str
"""Seconds, a timedelta, or text such as "5m"."""

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_API_KEY = re.compile(r"[!-9;-~]+")  # printable ASCII; HTTP Basic allows no colon in a user name


class DefaultAddress(Secret):
    """The address of a Redis that nobody named."""


def text(given: object) -> str:
    """Text, of a Secret too."""
    if isinstance(given, Secret):
        return given.reveal()
    if not isinstance(given, str):
        raise ValueError(f"must be text, not {type(given).__name__}")
    return given


def secret(given: object) -> Secret:
    return Secret(text(given))


def whole(least: int, most: int) -> Callable[[object], int]:
    """A whole number."""

    def rule(given: object) -> int:
        shown = given.strip() if isinstance(given, str) else str(given)
        if isinstance(given, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}", shown):
            found = least - 1
        else:
            found = int(shown)
        if not least <= found <= most:
            raise ValueError(f"must be a whole number from {least:,} to {most:,}")
        return found

    return rule


def number(least: float, most: float) -> Callable[[object], float]:
    """A number."""

    def rule(given: Any) -> float:
        try:
            value = math.nan if isinstance(given, bool) else float(given)
        except (TypeError, ValueError):
            value = math.nan
        if not least <= value <= most:  # as NaN is not
            raise ValueError(f"must be a number from {least:g} to {most:,g}")
        return value

    return rule


def yes(given: object) -> bool:
    """True or false, or a word for it."""
    shown = str(given).strip().lower()
    if shown in ("true", "yes", "on", "1", "t", "y"):
        return True
    if shown in ("false", "no", "off", "0", "f", "n"):
        return False
    raise ValueError("must be true or false")


def one_of(words: Any) -> Callable[[object], Any]:
    """One of the words of a Literal."""

    def rule(given: object) -> Any:
        if given not in get_args(words):
            raise ValueError(f"must be one of {', '.join(get_args(words))}")
        return given

    return rule


def duration(*, at_least: float) -> Callable[[object], float]:
    """Seconds."""

    def rule(given: object) -> float:
        if isinstance(given, timedelta):
            seconds = given.total_seconds()
        else:
            seconds = math.nan if isinstance(given, bool) else parse_duration(str(given))
        if not at_least <= seconds < 3.2e9:  # a century; also refuses NaN and infinity
            raise ValueError(f"must be at least {at_least:g} seconds and finite")
        return seconds

    return rule


def whole_seconds(*, at_least: float) -> Callable[[object], int]:
    """Seconds without a fraction."""
    rule = duration(at_least=at_least)
    return lambda given: int(rule(given))


def delays(*, least: int) -> Callable[[object], tuple[float, ...]]:
    """Durations, in text with commas between; at least so many."""

    def rule(given: object) -> tuple[float, ...]:
        parts = given.split(",") if isinstance(given, str) else given
        if not isinstance(parts, Iterable):
            raise ValueError('must be durations, such as "5m,1h"')
        found = tuple(map(duration(at_least=0), parts))
        if len(found) < least:
            raise ValueError("must be one duration at least")
        return found

    return rule


def account(given: object) -> str:
    """An account's name."""
    if not isinstance(given, str) or not _ACCOUNT.fullmatch(given):
        raise ValueError(
            "an account's name has 1 to 32 of a-z, 0-9, '_' and '-', and starts with a letter or "
            "digit"
        )
    return given


def accounts(given: object) -> tuple[str, ...]:
    """Some accounts' names, in text with commas between."""
    if isinstance(given, str):
        given = [name for part in given.split(",") if (name := part.strip())]
    if not isinstance(given, Iterable):
        raise ValueError("must be the names of accounts")
    return tuple(map(account, given))


def api_key(given: object) -> Secret:
    """An API key."""
    if not _API_KEY.fullmatch(text(given)):
        raise ValueError("an API key is printable ASCII without spaces or ':'")
    return secret(given)


def api_keys(given: object) -> dict[str, Secret]:
    """API keys by the names of their accounts."""
    if not isinstance(given, Mapping):
        raise ValueError("must be a mapping of an account's name to its API key")
    return {account(name): api_key(key) for name, key in given.items()}


def flower_basic_auth(given: object) -> Secret:
    """A login for Flower."""
    user, _, password = text(given).partition(":")
    if not user or not password or "," in text(given):
        raise ValueError("must be user:password, without a comma")
    return secret(given)


def redis_url(given: object) -> Secret:
    """An address of Redis, with the password of the embedded one where `courier up` runs it."""
    url = with_password(parse_redis_url(text(given))).url()
    return DefaultAddress(url.reveal()) if isinstance(given, DefaultAddress) else url


def api_url(given: object) -> str:
    """Where ChartMogul answers, without a slash at the end."""
    url = text(given)
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or set("?#") & set(url):
        raise ValueError("must look like https://api.chartmogul.com/v1")
    try:
        parts.hostname.encode("idna")  # as Python writes a host that is looked up
        parts.path.encode("ascii")
    except UnicodeError:
        raise ValueError("its host or path has a character that no address has") from None
    if parts.username or parts.password:
        raise ValueError("put the key into {api_keys}, not here")
    return url.rstrip("/")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port  # a property that raises when the port is no number
    except ValueError:
        raise ValueError("not a URL: its host or port cannot be read") from None
    # What urlsplit drops or passes, the HTTP library does not.
    if port == 0 or re.search(r"[\s\x00-\x20\\]", url):
        raise ValueError("not a URL: it holds a blank, a '\\' or the port 0")
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
