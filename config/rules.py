"""What settings may hold, whether it comes as text of the environment or as a value of code.

Each rule returns the value as it is kept, or raises ValueError with what is accepted. No text
shows the value, which may be secret.
"""

from __future__ import annotations

import base64
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args
from urllib.parse import SplitResult, urlsplit

from .certificates import ca_fault, file_fault
from .durations import parse_duration
from .embedded import with_password
from .redis_url import parse_redis_url
from .secret import Secret

Duration = float | timedelta | str
"""Seconds, a timedelta, or text such as "5m"."""

SETTLED = (
    "delivered",
    "superseded",
    "unchanged",
    "canceled",
    "unmatched",
    "unconfirmed",
    "invalid",
    "refused",
    "failed",
)
"""The statuses of settled jobs, as `jobs.outcome` has them; that room is not known here."""
BETWEEN_BROKERS = re.compile(r";(?=[a-z0-9_+.]+://)", re.IGNORECASE)
"""What stands between several addresses of one broker: the next is tried where one is away."""
HOOK_BROKERS = ("redis", "rediss", "amqp", "amqps")
"""Kinds of brokers to which a hook's tasks are sent."""

_SCHEME = re.compile(r"([a-z][a-z0-9_]*(?:[+.][a-z0-9_]+)*)://", re.IGNORECASE)
_REDIS = ("redis", "rediss", "sentinel", "unix", "socket")
"""How the scheme of a Redis begins."""
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
    address = with_password(parse_redis_url(text(given)))
    url = address.url()
    return DefaultAddress(url.reveal()) if isinstance(given, DefaultAddress) else url


def broker_url(given: object) -> Secret:
    """An address of Celery's broker: a Redis, or whatever else Kombu knows."""
    url = text(given).strip()
    found = _SCHEME.match(url)
    if not found:
        raise ValueError(
            "must look like amqp://user:password@host:5672/vhost, or be another of Kombu's URLs"
        )
    if "cluster" in found[1].lower():
        raise ValueError("Celery has no broker on a Redis Cluster: name one Redis, or RabbitMQ")
    if is_redis(url):
        return redis_url(url)
    if re.search(r"\s", url):
        raise ValueError("holds a blank: remove it, or percent-encode it in the password, as %20")
    if found[1].lower() in ("amqp", "amqps", "pyamqp"):
        _check_login(url)
    return Secret(url)


def is_redis(url: str) -> bool:
    """Whether a broker's URL is an address of Redis."""
    return re.split(r"\W", scheme_of(url))[0] in _REDIS


def scheme_of(url: str) -> str:
    """What stands before "://", in small letters."""
    return url.partition("://")[0].lower()


def shown_broker(url: str) -> str:
    """A broker's URL without user, password and options, for people."""
    shown = []
    for each in BETWEEN_BROKERS.split(url):
        scheme, _, rest = each.partition("://")
        # Not urlsplit: of a password with a '/' it would take a part for the path.
        shown.append(f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}")
    return ", ".join(shown)


def _check_login(url: str) -> None:
    for each in BETWEEN_BROKERS.split(url):
        login = each.partition("://")[2].rpartition("@")[0]
        if set("/?#@") & set(login):
            raise ValueError(
                "the user or password holds '/', '?', '#' or '@': percent-encode these in it "
                "('/' as %2F, '?' as %3F, '#' as %23, '@' as %40)"
            )
        _split(each)


def readable_file(given: object) -> Path:
    """The path of a file that can be read."""
    path = given if isinstance(given, Path) else Path(text(given))
    if fault := file_fault(path):
        raise ValueError(fault)
    return path


def ca_file(given: object) -> Path:
    """The path of a file with CAs."""
    path = readable_file(given)
    if fault := ca_fault(path):
        raise ValueError(fault)
    return path


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


def hook_url(given: object) -> Secret:
    """Where a webhook answers."""
    url = text(given).strip()
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("must look like https://app.example.com/courier-hook")
    if not url.isascii():
        raise ValueError(
            "must be ASCII; percent-encode what is not, and write the host in Punycode"
        )
    return Secret(url)


def hook_secrets(given: object) -> tuple[Secret, ...]:
    """Keys that sign what is sent, in text with commas or blanks between."""
    if isinstance(given, (str, Secret)):
        given = [each for each in re.split(r"[\s,]+", text(given)) if each]
    if not isinstance(given, Iterable):
        raise ValueError("must be keys")
    return tuple(map(_hook_secret, given))


def _hook_secret(given: object) -> Secret:
    shown = text(given)
    try:
        key = base64.b64decode(shown.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not shown.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError(
            "must be whsec_ and 24 to 64 bytes in base64 (docs/hooks.md says how to make one); "
            "several, for a change of keys, have commas between them"
        )
    return Secret(shown)


def hook_broker_url(given: object) -> Secret:
    """The broker of an application."""
    url = text(given).strip()
    parts = _split(url)
    if parts.scheme not in HOOK_BROKERS or not parts.hostname:
        schemes = ", ".join(f"{scheme}://" for scheme in HOOK_BROKERS)
        raise ValueError(f"must begin with {schemes} and name a host")
    return Secret(url)


def hook_statuses(given: object) -> frozenset[str]:
    """Statuses of settled jobs, in text with commas between; or `all`, or `none`."""
    if isinstance(given, str):
        words = {each.strip() for each in given.split(",")} - {""}
        given = {"all": SETTLED, "none": ()}.get(given.strip(), words or {"?"})
    found = frozenset(given) if isinstance(given, Iterable) else frozenset({"?"})
    if not found <= set(SETTLED):
        raise ValueError(f"must be all, none, or some of {', '.join(SETTLED)}, with commas between")
    return found


def word(given: object) -> str:
    """A name without blanks, or nothing."""
    shown = text(given).strip()
    if shown and not re.fullmatch(r"[!-~]{1,255}", shown):
        raise ValueError("must be a name in printable ASCII, without blanks")
    return shown


def outbox_url(given: object) -> Secret:
    """A database, as SQLAlchemy takes it."""
    url = text(given).strip()
    if not re.match(r"[a-z0-9+_]+://", url):
        raise ValueError("must look like postgresql+psycopg://user:password@host/name")
    return Secret(url)


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
