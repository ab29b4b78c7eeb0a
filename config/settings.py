"""The settings, read once from the environment. docs/settings.md has the table of variables."""

from __future__ import annotations

import base64
import ipaddress
import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from .durations import parse_duration
from .embedded import with_password
from .environment import near_misses
from .errors import SettingsError
from .redis_url import RedisAddress, parse_redis_url
from .secret import Secret

Confirm = Literal["echo", "match", "status"]
LogFormat = Literal["plain", "json"]

VARIABLES = (
    "CHARTMOGUL_API_KEY",
    "CHARTMOGUL_API_URL",
    "COURIER_ACCOUNT",
    "COURIER_ACCOUNTS",
    "COURIER_ALLOW_EVICTION",
    "COURIER_ALLOW_HTTP",
    "COURIER_BULK_SHARE",
    "COURIER_CONCURRENCY",
    "COURIER_CONFIRM",
    "COURIER_ENQUEUE_TIMEOUT",
    "COURIER_FLOWER_BASIC_AUTH",
    "COURIER_GIVE_UP_AFTER",
    "COURIER_HOOK_BROKER_URL",
    "COURIER_HOOK_EMAIL",
    "COURIER_HOOK_QUEUE",
    "COURIER_HOOK_RETENTION",
    "COURIER_HOOK_SECRET",
    "COURIER_HOOK_STATUSES",
    "COURIER_HOOK_TASK",
    "COURIER_HOOK_TIMEOUT",
    "COURIER_HOOK_URL",
    "COURIER_KEEP_DELIVERED",
    "COURIER_LOG_FORMAT",
    "COURIER_MAX_ATTRIBUTES",
    "COURIER_MAX_PARALLEL",
    "COURIER_MAX_REQUEST_BYTES",
    "COURIER_OUTBOX_URL",
    "COURIER_PROBE_DELAYS",
    "COURIER_RATE_LIMIT",
    "COURIER_REDIS_URL",
    "COURIER_RETENTION",
    "COURIER_STRICT_TYPES",
    "COURIER_TIMEOUT",
    "COURIER_UNCONFIRMED_DELAYS",
    "COURIER_UNMATCHED_DELAYS",
    "COURIER_WITH_ASSOCIATED_EMAILS",
)
"""All that is read, but the API keys of further accounts, and of files (`…_FILE`)."""

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
HOOK_BROKERS = ("redis", "rediss", "amqp", "amqps")
"""Kinds of brokers to which a hook's tasks are sent."""

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_API_KEY = re.compile(r"[!-9;-~]+")  # printable ASCII; HTTP Basic allows no colon in a user name

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the environment decides; immutable once read."""

    redis_url: Secret
    """Redis, for the state and for Celery's messages. Secret: it may hold a password."""
    api_url: str
    """Where ChartMogul answers, without a slash at the end."""
    accounts: tuple[str, ...]
    """Names of the ChartMogul accounts that are served."""
    default_account: str
    """The account of a job that names none."""
    rate_limit: float
    """Requests a second that an account may spend here (ChartMogul allows 40 for everything)."""
    max_parallel: int
    """Requests of an account in flight at once (ChartMogul allows 20)."""
    max_attributes: int
    """Attributes in one request; more of one email's go in several."""
    max_request_bytes: int
    """Bytes of one request's body."""
    timeout_s: float
    """Seconds that one request may take from its claim to the last byte."""
    enqueue_timeout_s: float
    """Seconds after which `add_attributes` gives up on a Redis that does not answer."""
    retention_s: int
    """Seconds that outcomes and delivered versions are kept."""
    outcome_retention_s: int
    """Seconds that outcomes which ended well are kept; not longer than `retention_s`."""
    confirm: Confirm
    """What shows that a value was delivered."""
    with_associated_emails: bool
    """Whether customers match through their contacts' addresses, too."""
    unmatched_delays_s: tuple[float, ...]
    """Seconds before each further try for an email that no customer has."""
    unconfirmed_delays_s: tuple[float, ...]
    """Seconds before each further try for values that the answer does not show."""
    probe_delays_s: tuple[float, ...]
    """Seconds before each ping of an account with a faulty key or plan; the last one repeats."""
    give_up_after_s: float
    """Seconds of server failures after which a job is `failed`."""
    bulk_share: float
    """Share of the requests that bulk jobs get while live ones wait, too."""
    strict_types: bool
    """Whether a job that uses another type for a key than before is invalid."""
    concurrency: int
    """Threads of one worker process."""
    allow_eviction: bool = False
    """Whether a worker starts on a Redis that throws keys, and so jobs, away when it is full."""
    log_format: LogFormat = "plain"
    """How a worker writes its log."""
    hook_url: Secret | None = None
    """The webhook that is told of settled jobs. Secret: it may hold a password or a token."""
    hook_secrets: tuple[Secret, ...] = ()
    """Keys with which its messages are signed, as `whsec_<base64>`."""
    hook_task: str = ""
    """The Celery task of an application that is told of settled jobs."""
    hook_broker_url: Secret | None = None
    """The broker of that application."""
    hook_queue: str = "celery"
    """The queue of that task."""
    hook_statuses: frozenset[str] = frozenset(SETTLED)
    """Of jobs that hooks tell of."""
    hook_email: bool = False
    """Whether hooks tell the email."""
    hook_retention_s: float = 259_200
    """Seconds after which what a receiver did not take is dropped."""
    hook_timeout_s: float = 10
    """Seconds that a receiver may take for one event."""
    outbox_url: Secret | None = None
    """The database whose outbox a worker relays, as SQLAlchemy takes it."""
    flower_basic_auth: Secret | None = None
    """`user:password` for Flower; it listens beyond loopback only with one."""
    api_keys: Mapping[str, Secret] = field(default_factory=dict)
    """Account → API key. Producers need none."""

    def api_key(self, account: str) -> Secret:
        """The account's API key.

        Raises:
            SettingsError: there is none; the text names the variable to set.
        """
        try:
            return self.api_keys[account]
        except KeyError:
            names = " or ".join(reversed(_key_variables(account, self.default_account)))
            raise SettingsError(f"no API key for the account {account!r}: set {names}") from None

    @property
    def has_hooks(self) -> bool:
        """Whether anybody is told of settled jobs."""
        return bool(self.hook_url or self.hook_task)

    @cached_property
    def redis(self) -> RedisAddress:
        """Where Redis answers, taken apart."""
        return parse_redis_url(self.redis_url.reveal())

    @property
    def redis_address(self) -> str:
        """The Redis URL without user and password, for people."""
        return self.redis.shown()


def load_settings(*, strict: bool = True) -> Settings:
    """Read the settings from the process's environment. A variable that is empty counts as unset.

    Args:
        strict: whether a variable whose name is nearly one of ours is an error, as it is to the
            worker and the command line. An application is only warned, in its log.

    Raises:
        SettingsError: a variable's value is not valid. The text names the variable and does not
            show its value, which may be secret.
    """
    default_account, accounts = _accounts()
    _look_for_slips(accounts, default_account, strict=strict)
    max_parallel = _whole("COURIER_MAX_PARALLEL", 20, 1, 1000)
    retention_s = int(_seconds("COURIER_RETENTION", 30 * 86_400, at_least=60))
    kept_s = int(_seconds("COURIER_KEEP_DELIVERED", retention_s, at_least=60))
    if kept_s > retention_s:
        raise SettingsError("COURIER_KEEP_DELIVERED: must not be longer than COURIER_RETENTION")
    # So what is told of a job is there as long as it may be told.
    hook_retention_s = _seconds("COURIER_HOOK_RETENTION", min(259_200, kept_s), at_least=1)
    if hook_retention_s > kept_s:
        raise SettingsError(
            "COURIER_HOOK_RETENTION: must not be longer than COURIER_KEEP_DELIVERED"
        )
    # Enough for all the requests that the accounts allow, for stints of delivery that wait for
    # their time, and for jobs that are being accepted.
    threads = min((max_parallel + 10) * len(accounts), 200)
    return Settings(
        redis_url=_redis_address().url(),
        api_url=_api_url(allow_http=_yes("COURIER_ALLOW_HTTP")),
        accounts=accounts,
        default_account=default_account,
        rate_limit=_number("COURIER_RATE_LIMIT", 39.2, 0.01, 10_000),
        max_parallel=max_parallel,
        max_attributes=_whole("COURIER_MAX_ATTRIBUTES", 250, 1, 10_000),
        max_request_bytes=_whole("COURIER_MAX_REQUEST_BYTES", 65_536, 1_024, 16_777_216),
        timeout_s=_seconds("COURIER_TIMEOUT", 10, at_least=0.1),
        enqueue_timeout_s=_seconds("COURIER_ENQUEUE_TIMEOUT", 2, at_least=0.1),
        retention_s=retention_s,
        outcome_retention_s=kept_s,
        confirm=_one_of("COURIER_CONFIRM", Confirm, "echo"),
        with_associated_emails=_yes("COURIER_WITH_ASSOCIATED_EMAILS"),
        unmatched_delays_s=_delays("COURIER_UNMATCHED_DELAYS", (300, 3_600, 21_600, 86_400)),
        unconfirmed_delays_s=_delays("COURIER_UNCONFIRMED_DELAYS", (60,)),
        probe_delays_s=_delays("COURIER_PROBE_DELAYS", (60, 120, 240, 480, 900)),
        give_up_after_s=_seconds("COURIER_GIVE_UP_AFTER", 86_400, at_least=1),
        bulk_share=_number("COURIER_BULK_SHARE", 0.1, 0.01, 0.9),
        strict_types=_yes("COURIER_STRICT_TYPES"),
        concurrency=_whole("COURIER_CONCURRENCY", threads, 2, 1000),
        allow_eviction=_yes("COURIER_ALLOW_EVICTION"),
        log_format=_one_of("COURIER_LOG_FORMAT", LogFormat, "plain"),
        hook_url=_hook_url(allow_http=_yes("COURIER_ALLOW_HTTP")),
        hook_secrets=_hook_secrets(),
        hook_task=_word("COURIER_HOOK_TASK", ""),
        hook_broker_url=_hook_broker_url(),
        hook_queue=_word("COURIER_HOOK_QUEUE", "celery"),
        hook_statuses=_hook_statuses(),
        hook_email=_yes("COURIER_HOOK_EMAIL"),
        hook_retention_s=hook_retention_s,
        hook_timeout_s=_seconds("COURIER_HOOK_TIMEOUT", 10, at_least=0.1),
        outbox_url=_outbox_url(),
        flower_basic_auth=_flower_basic_auth(),
        api_keys=_api_keys(accounts, default_account),
    )


def _look_for_slips(accounts: tuple[str, ...], default_account: str, *, strict: bool) -> None:
    keys = [name for account in accounts for name in _key_variables(account, default_account)]
    in_files = [*keys, "CHARTMOGUL_API_KEY", "COURIER_HOOK_SECRET"]
    known = [*VARIABLES, *keys, *(f"{name}_FILE" for name in in_files)]
    slips = near_misses(os.environ, known)
    if not slips:
        return
    text = "; ".join(
        f"{name} is no setting: did you mean {right}?" for name, right in slips.items()
    )
    if strict:
        raise SettingsError(f"{text} Rename or unset it")
    log.warning("%s", text)


def _text(name: str, default: str) -> str:
    return os.environ.get(name) or default


def _whole(name: str, default: int, least: int, most: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
        raise SettingsError(f"{name}: must be a whole number from {least:,} to {most:,}")
    return int(text)


def _number(name: str, default: float, least: float, most: float) -> float:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:  # as NaN is not
        raise SettingsError(f"{name}: must be a number from {least:g} to {most:,g}")
    return value


def _yes(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text in ("true", "yes", "on", "1", "t", "y"):
        return True
    if text in ("", "false", "no", "off", "0", "f", "n"):
        return False
    raise SettingsError(f"{name}: must be true or false")


def _one_of(name: str, kind: Any, default: str) -> Any:
    text = _text(name, default)
    if text not in get_args(kind):
        raise SettingsError(f"{name}: must be one of {', '.join(get_args(kind))}")
    return text


def _seconds(name: str, default: float, *, at_least: float) -> float:
    text = os.environ.get(name)
    return _duration(text, name, at_least) if text else default


def _delays(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    text = os.environ.get(name)
    return tuple(_duration(part, name, 0) for part in text.split(",")) if text else default


def _duration(text: str, name: str, at_least: float) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None
    if not at_least <= seconds < 3.2e9:  # a century; also refuses NaN and infinity
        raise SettingsError(f"{name}: must be at least {at_least:g} seconds and finite")
    return seconds


def _accounts() -> tuple[str, tuple[str, ...]]:
    further = [name.strip() for name in os.environ.get("COURIER_ACCOUNTS", "").split(",")]
    further = [name for name in further if name]
    default = os.environ.get("COURIER_ACCOUNT") or (further[0] if further else "default")
    accounts = tuple(dict.fromkeys([default, *further]))
    for name in accounts:
        if not _ACCOUNT.fullmatch(name):
            raise SettingsError(
                "COURIER_ACCOUNT, COURIER_ACCOUNTS: an account's name has 1 to 32 of a-z, 0-9, "
                "'_' and '-', and starts with a letter or digit"
            )
    variables = [v for name in accounts for v in _key_variables(name, default)]
    if len({*variables, *(f"{v}_FILE" for v in variables)}) < 2 * len(variables):
        raise SettingsError(
            "COURIER_ACCOUNT, COURIER_ACCOUNTS: two accounts would have their API keys in one "
            "variable, as eu-1 and eu_1 would in CHARTMOGUL_API_KEY_EU_1; rename one"
        )
    return default, accounts


def _key_variables(account: str, default_account: str) -> list[str]:
    named = "CHARTMOGUL_API_KEY_" + account.upper().replace("-", "_")
    return [named, "CHARTMOGUL_API_KEY"] if account == default_account else [named]


def _api_keys(accounts: tuple[str, ...], default_account: str) -> dict[str, Secret]:
    keys = {}
    for account in accounts:
        for variable in _key_variables(account, default_account):
            key = _api_key(variable)
            if key is not None:
                keys[account] = key
                break
    return keys


def _api_key(variable: str) -> Secret | None:
    variable, text = _or_from_file(variable)
    if not text:
        return None
    if not _API_KEY.fullmatch(text):
        raise SettingsError(f"{variable}: an API key is printable ASCII without spaces or ':'")
    return Secret(text)


def _or_from_file(variable: str) -> tuple[str, str]:
    """A secret that a variable holds, or the file that another one names; and which of them."""
    text = os.environ.get(variable, "")
    if not text and (path := os.environ.get(f"{variable}_FILE")):
        variable = f"{variable}_FILE"
        try:
            text = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            raise SettingsError(f"{variable}: cannot read {path}: {reason}") from None
        if not text:
            raise SettingsError(f"{variable}: {path} is empty")
    return variable, text


def _hook_url(*, allow_http: bool) -> Secret | None:
    url = os.environ.get("COURIER_HOOK_URL", "").strip()
    if not url:
        return None
    name = "COURIER_HOOK_URL"
    parts = _split(url, name)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise SettingsError(f"{name}: must look like https://app.example.com/courier-hook")
    if not url.isascii():
        raise SettingsError(
            f"{name}: must be ASCII; percent-encode what is not, and write the host in Punycode"
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise SettingsError(
            f"{name}: plain http would show what became of jobs to the network; use https, or "
            "set COURIER_ALLOW_HTTP=true if the network is yours"
        )
    return Secret(url)


def _hook_secrets() -> tuple[Secret, ...]:
    variable, text = _or_from_file("COURIER_HOOK_SECRET")
    secrets = tuple(Secret(each) for each in re.split(r"[\s,]+", text) if each)
    for secret in secrets:
        try:
            key = base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
        except ValueError:
            key = b""
        if not secret.reveal().startswith("whsec_") or not 24 <= len(key) <= 64:
            raise SettingsError(
                f"{variable}: must be whsec_ and 24 to 64 bytes in base64 (docs/hooks.md says how "
                "to make one); several, for a change of keys, have commas between them"
            )
    return secrets


def _hook_broker_url() -> Secret | None:
    url = os.environ.get("COURIER_HOOK_BROKER_URL", "").strip()
    if not url:
        return None
    parts = _split(url, "COURIER_HOOK_BROKER_URL")
    if parts.scheme not in HOOK_BROKERS or not parts.hostname:
        raise SettingsError(
            f"COURIER_HOOK_BROKER_URL: must begin with {', '.join(f'{s}://' for s in HOOK_BROKERS)}"
            " and name a host"
        )
    return Secret(url)


def _hook_statuses() -> frozenset[str]:
    text = os.environ.get("COURIER_HOOK_STATUSES", "").strip()
    if not text or text == "all":
        return frozenset(SETTLED)
    found = {each.strip() for each in text.split(",")} - {""}
    if found == {"none"}:
        return frozenset()
    if not found or not found <= set(SETTLED):
        raise SettingsError(
            f"COURIER_HOOK_STATUSES: must be all, none, or some of {', '.join(SETTLED)}, "
            "with commas between"
        )
    return frozenset(found)


def _word(name: str, default: str) -> str:
    text = os.environ.get(name, "").strip() or default
    if text and not re.fullmatch(r"[!-~]{1,255}", text):
        raise SettingsError(f"{name}: must be a name in printable ASCII, without blanks")
    return text


def _flower_basic_auth() -> Secret | None:
    text = os.environ.get("COURIER_FLOWER_BASIC_AUTH")
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password or "," in text:
        raise SettingsError("COURIER_FLOWER_BASIC_AUTH: must be user:password, without a comma")
    return Secret(text)


def _outbox_url() -> Secret | None:
    text = os.environ.get("COURIER_OUTBOX_URL", "").strip()
    if text and not re.match(r"[a-z0-9+_]+://", text):
        raise SettingsError(
            "COURIER_OUTBOX_URL: must look like postgresql+psycopg://user:password@host/name"
        )
    return Secret(text) if text else None


def _api_url(*, allow_http: bool) -> str:
    url = os.environ.get("CHARTMOGUL_API_URL") or "https://api.chartmogul.com/v1"
    parts = _split(url, "CHARTMOGUL_API_URL")
    if parts.scheme not in ("http", "https") or not parts.hostname or set("?#") & set(url):
        raise SettingsError("CHARTMOGUL_API_URL: must look like https://api.chartmogul.com/v1")
    try:
        parts.hostname.encode("idna")  # as Python writes a host that is looked up
        parts.path.encode("ascii")
    except UnicodeError:
        raise SettingsError(
            "CHARTMOGUL_API_URL: its host or path has a character that no address has"
        ) from None
    if parts.username or parts.password:
        raise SettingsError("CHARTMOGUL_API_URL: put the key into CHARTMOGUL_API_KEY, not here")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise SettingsError(
            "CHARTMOGUL_API_URL: plain http would send the API key in the clear; "
            "use https, or set COURIER_ALLOW_HTTP=true if the network is yours"
        )
    return url.rstrip("/")


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port  # a property that raises when the port is no number
    except ValueError:
        raise SettingsError(f"{name}: not a URL: its host or port cannot be read") from None
    # What urlsplit drops or passes, the HTTP library does not.
    if port == 0 or re.search(r"[\s\x00-\x20\\]", url):
        raise SettingsError(f"{name}: not a URL: it holds a blank, a '\\' or the port 0")
    return parts


def _redis_address() -> RedisAddress:
    text = _text("COURIER_REDIS_URL", "redis://localhost:6379/0")
    return with_password(parse_redis_url(text))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class SettingsFault:
    """A fault of the environment."""

    variables: tuple[str, ...]
    """Those that are at fault."""
    text: str
    """What is wrong, without the value, which may be secret."""


def load_despite_faults() -> tuple[Settings | None, list[SettingsFault]]:
    """Read the settings as far as they can be read, and all faults, not only the first.

    A variable that is at fault counts as unset, and is: in this process, from now on, since others
    read the environment, too. The settings are None where that does not help.
    """
    faults: list[SettingsFault] = []
    while True:
        try:
            return load_settings(), faults
        except SettingsError as error:
            text = str(error)
        slips = re.findall(r"(\w+) is no setting", text)
        names = slips or re.findall(r"\w+", text.partition(":")[0])
        here = [name for name in names if os.environ.pop(name, None) is not None]
        faults.append(SettingsFault(variables=tuple(here), text=text))
        if not here:
            return None, faults
