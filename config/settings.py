"""The settings, read once from the environment. README.md has the table of variables."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import SplitResult, urlsplit, urlunsplit

from environs import Env, EnvError
from environs.fields import TimeDelta
from marshmallow import ValidationError, validate

from .errors import SettingsError
from .secret import Secret

Confirm = Literal["echo", "match", "status"]

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_API_KEY = re.compile(r"[!-9;-~]+")  # printable ASCII; HTTP Basic allows no colon in a user name

T = TypeVar("T")


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
    timeout_s: float
    """Seconds that one request may take from its claim to the last byte."""
    enqueue_timeout_s: float
    """Seconds after which `add_attributes` gives up on a Redis that does not answer."""
    retention_s: int
    """Seconds that outcomes and delivered versions are kept."""
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

    def redis_is_silent(self, error: Exception) -> str:
        """What to tell when Redis does not answer, and what to do."""
        return (
            f"Redis at {self.redis_address} does not answer "
            f"({type(error).__name__}); check COURIER_REDIS_URL"
        )

    @property
    def redis_address(self) -> str:
        """The Redis URL without its password, for people."""
        parts = urlsplit(self.redis_url.reveal())
        netloc = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def load_settings() -> Settings:
    """Read the settings from the process's environment. A variable that is empty counts as unset.

    Raises:
        SettingsError: a variable's value is not valid. The text names the variable and does not
            show its value, which may be secret.
    """
    env = Env()
    try:
        default_account, accounts = _accounts()
        max_parallel = _read(env.int, "COURIER_MAX_PARALLEL", 20, validate=validate.Range(1, 1000))
        return Settings(
            redis_url=_redis_url(),
            api_url=_api_url(allow_http=_read(env.bool, "COURIER_ALLOW_HTTP", False)),
            accounts=accounts,
            default_account=default_account,
            rate_limit=_read(
                env.float, "COURIER_RATE_LIMIT", 39.2, validate=validate.Range(0.01, 10_000)
            ),
            max_parallel=max_parallel,
            timeout_s=_seconds(env, "COURIER_TIMEOUT", 10, at_least=0.1),
            enqueue_timeout_s=_seconds(env, "COURIER_ENQUEUE_TIMEOUT", 2, at_least=0.1),
            retention_s=int(_seconds(env, "COURIER_RETENTION", 30 * 86_400, at_least=60)),
            confirm=_read(
                env.str, "COURIER_CONFIRM", "echo", validate=validate.OneOf(get_args(Confirm))
            ),
            with_associated_emails=_read(env.bool, "COURIER_WITH_ASSOCIATED_EMAILS", False),
            unmatched_delays_s=_delays(
                env, "COURIER_UNMATCHED_DELAYS", (300, 3_600, 21_600, 86_400)
            ),
            unconfirmed_delays_s=_delays(env, "COURIER_UNCONFIRMED_DELAYS", (60,)),
            probe_delays_s=_delays(env, "COURIER_PROBE_DELAYS", (60, 120, 240, 480, 900)),
            give_up_after_s=_seconds(env, "COURIER_GIVE_UP_AFTER", 86_400, at_least=1),
            bulk_share=_read(
                env.float, "COURIER_BULK_SHARE", 0.1, validate=validate.Range(0.01, 0.9)
            ),
            strict_types=_read(env.bool, "COURIER_STRICT_TYPES", False),
            # Enough for all the requests that the accounts allow, and four to accept jobs.
            concurrency=_read(
                env.int,
                "COURIER_CONCURRENCY",
                min(max_parallel * len(accounts) + 4, 200),
                validate=validate.Range(2, 1000),
            ),
            flower_basic_auth=_flower_basic_auth(),
            api_keys=_api_keys(accounts, default_account),
        )
    except EnvError as error:
        # environs: Environment variable "NAME" invalid: ['reason']
        found = re.fullmatch(r'Environment variable "(\w+)" invalid: (.*)', str(error))
        text = f"{found[1]}: {found[2].strip('[]')}" if found else str(error)
        raise SettingsError(text) from None


def _read(method: Callable[..., Any], name: str, default: T, **options: Any) -> T:
    if not os.environ.get(name):
        return default
    value: T = method(name, **options)
    return value


def _seconds(env: Env, name: str, default: float, *, at_least: float) -> float:
    if not os.environ.get(name):
        return default
    return _duration(env.str(name), name, at_least)


def _delays(env: Env, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    if not os.environ.get(name):
        return default
    parts: list[str] = env.list(name)
    return tuple(_duration(part, name, 0) for part in parts)


def _duration(text: str, name: str, at_least: float) -> float:
    """`90`, `1.5`, `30s`, `5m`, `1h30m`, `30d` → seconds."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            delta: timedelta = TimeDelta().deserialize(text)
        except (ValidationError, OverflowError):
            raise SettingsError(
                f"{name}: not a duration; write seconds (2.5) or 500ms, 30s, 5m, 1h30m, 30d"
            ) from None
        seconds = delta.total_seconds()
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
    if not text:
        return None
    if not _API_KEY.fullmatch(text):
        raise SettingsError(f"{variable}: an API key is printable ASCII without spaces or ':'")
    return Secret(text)


def _flower_basic_auth() -> Secret | None:
    text = os.environ.get("COURIER_FLOWER_BASIC_AUTH")
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password or "," in text:
        raise SettingsError("COURIER_FLOWER_BASIC_AUTH: must be user:password, without a comma")
    return Secret(text)


def _redis_url() -> Secret:
    url = os.environ.get("COURIER_REDIS_URL") or "redis://localhost:6379/0"
    parts = _split(url, "COURIER_REDIS_URL")
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise SettingsError(
            "COURIER_REDIS_URL: must look like redis://[:password@]host:6379/0 (rediss:// for TLS)"
        )
    return Secret(url)


def _api_url(*, allow_http: bool) -> str:
    url = os.environ.get("CHARTMOGUL_API_URL") or "https://api.chartmogul.com/v1"
    parts = _split(url, "CHARTMOGUL_API_URL")
    if parts.scheme not in ("http", "https") or not parts.hostname or set("?#") & set(url):
        raise SettingsError("CHARTMOGUL_API_URL: must look like https://api.chartmogul.com/v1")
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
        _ = parts.port  # a property that raises when the port is no number
    except ValueError:
        raise SettingsError(f"{name}: not a URL") from None
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
