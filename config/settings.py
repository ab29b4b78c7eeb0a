"""The settings: each with its variable, its default and its rule, in one place.

docs/settings.md has the table of variables.
"""

from __future__ import annotations

# ruff: noqa: RUF009  (a Setting is a descriptor, and each field has its own)
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from . import rules
from .environment import near_misses
from .errors import SettingsError
from .redis_url import RedisAddress, parse_redis_url
from .rules import DefaultAddress, Duration
from .rules import is_loopback as is_loopback
from .secret import Secret
from .setting import Fault, Setting

Confirm = Literal["echo", "match", "status"]
LogFormat = Literal["plain", "json"]

HOOK_RETENTION_S = 259_200
"""What hooks are kept for, unless it is given or outcomes are kept for a shorter time."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set; each has a default. Immutable once made.

    Durations are seconds, a `timedelta`, or text such as "5m". `load_settings` makes the settings
    of the environment; these here know nothing of it.

    >>> Settings(redis_url="redis://redis.example:6379/0", enqueue_timeout_s="500ms")

    Raises:
        SettingsError: a value is not accepted. The text names it and does not show it.
    """

    redis_url: Setting[str | Secret, Secret] = Setting(
        "COURIER_REDIS_URL", DefaultAddress("redis://localhost:6379/0"), rules.redis_url
    )
    """Redis, where the state is. Secret: it may hold a password."""
    broker_url: Setting[str | Secret | None, Secret | None] = Setting(
        "COURIER_BROKER_URL", None, rules.broker_url
    )
    """Celery's broker, for messages and events; `redis_url` unless given. Secret, too."""
    enabled: Setting[bool, bool] = Setting("COURIER_ENABLED", True, rules.yes)
    """Whether jobs are handed over; if not, producers check and drop them."""
    api_url: Setting[str, str] = Setting(
        "CHARTMOGUL_API_URL", "https://api.chartmogul.com/v1", rules.api_url
    )
    """Where ChartMogul answers, without a slash at the end."""
    allow_http: Setting[bool, bool] = Setting("COURIER_ALLOW_HTTP", False, rules.yes)
    """Whether `api_url` may be plain http to another machine."""
    accounts: Setting[Iterable[str], tuple[str, ...]] = Setting(
        "COURIER_ACCOUNTS", (), rules.accounts
    )
    """Names of the ChartMogul accounts that are served; the default one comes first."""
    default_account: Setting[str | None, str] = Setting("COURIER_ACCOUNT", None, rules.account)
    """The account of a job that names none: the first of `accounts`, or "default"."""
    rate_limit: Setting[float, float] = Setting(
        "COURIER_RATE_LIMIT", 39.2, rules.number(0.01, 10_000)
    )
    """Requests a second that an account may spend here (ChartMogul allows 40 for everything)."""
    max_parallel: Setting[int, int] = Setting("COURIER_MAX_PARALLEL", 20, rules.whole(1, 1000))
    """Requests of an account in flight at once (ChartMogul allows 20)."""
    max_attributes: Setting[int, int] = Setting(
        "COURIER_MAX_ATTRIBUTES", 250, rules.whole(1, 10_000)
    )
    """Attributes in one request; more of one email's go in several."""
    max_request_bytes: Setting[int, int] = Setting(
        "COURIER_MAX_REQUEST_BYTES", 65_536, rules.whole(1_024, 16_777_216)
    )
    """Bytes of one request's body."""
    timeout_s: Setting[Duration, float] = Setting(
        "COURIER_TIMEOUT", 10, rules.duration(at_least=0.1)
    )
    """Seconds that one request may take from its claim to the last byte."""
    enqueue_timeout_s: Setting[Duration, float] = Setting(
        "COURIER_ENQUEUE_TIMEOUT", 2, rules.duration(at_least=0.1)
    )
    """Seconds after which `add_attributes` gives up on a Redis that does not answer."""
    retention_s: Setting[Duration, int] = Setting(
        "COURIER_RETENTION", 30 * 86_400, rules.whole_seconds(at_least=60)
    )
    """Seconds that outcomes and delivered versions are kept."""
    outcome_retention_s: Setting[Duration | None, int] = Setting(
        "COURIER_KEEP_DELIVERED", None, rules.whole_seconds(at_least=60)
    )
    """Seconds that outcomes which ended well are kept; not longer than `retention_s`, which it is
    unless given."""
    confirm: Setting[Confirm, Confirm] = Setting("COURIER_CONFIRM", "echo", rules.one_of(Confirm))
    """What shows that a value was delivered."""
    with_associated_emails: Setting[bool, bool] = Setting(
        "COURIER_WITH_ASSOCIATED_EMAILS", False, rules.yes
    )
    """Whether customers match through their contacts' addresses, too."""
    unmatched_delays_s: Setting[Iterable[Duration], tuple[float, ...]] = Setting(
        "COURIER_UNMATCHED_DELAYS", (300, 3_600, 21_600, 86_400), rules.delays(least=0)
    )
    """Seconds before each further try for an email that no customer has."""
    unconfirmed_delays_s: Setting[Iterable[Duration], tuple[float, ...]] = Setting(
        "COURIER_UNCONFIRMED_DELAYS", (60,), rules.delays(least=0)
    )
    """Seconds before each further try for values that the answer does not show."""
    probe_delays_s: Setting[Iterable[Duration], tuple[float, ...]] = Setting(
        "COURIER_PROBE_DELAYS", (60, 120, 240, 480, 900), rules.delays(least=1)
    )
    """Seconds before each ping of an account with a faulty key or plan; the last one repeats."""
    give_up_after_s: Setting[Duration, float] = Setting(
        "COURIER_GIVE_UP_AFTER", 86_400, rules.duration(at_least=1)
    )
    """Seconds of server failures after which a job is `failed`."""
    bulk_share: Setting[float, float] = Setting("COURIER_BULK_SHARE", 0.1, rules.number(0.01, 0.9))
    """Share of the requests that bulk jobs get while live ones wait, too."""
    strict_types: Setting[bool, bool] = Setting("COURIER_STRICT_TYPES", False, rules.yes)
    """Whether a job that uses another type for a key than before is invalid."""
    concurrency: Setting[int | None, int] = Setting(
        "COURIER_CONCURRENCY", None, rules.whole(2, 1000)
    )
    """Threads of one worker process: enough for `max_parallel` and `accounts` unless given."""
    allow_eviction: Setting[bool, bool] = Setting("COURIER_ALLOW_EVICTION", False, rules.yes)
    """Whether a worker starts on a Redis that throws keys, and so jobs, away when it is full."""
    log_format: Setting[LogFormat, LogFormat] = Setting(
        "COURIER_LOG_FORMAT", "plain", rules.one_of(LogFormat)
    )
    """How a worker writes its log."""
    hook_url: Setting[str | Secret | None, Secret | None] = Setting(
        "COURIER_HOOK_URL", None, rules.hook_url
    )
    """The webhook that is told of settled jobs. Secret: it may hold a password or a token."""
    hook_secrets: Setting[str | Secret | Iterable[str | Secret], tuple[Secret, ...]] = Setting(
        "COURIER_HOOK_SECRET", (), rules.hook_secrets
    )
    """Keys with which its messages are signed, as `whsec_<base64>`."""
    hook_task: Setting[str, str] = Setting("COURIER_HOOK_TASK", "", rules.word)
    """The Celery task of an application that is told of settled jobs."""
    hook_broker_url: Setting[str | Secret | None, Secret | None] = Setting(
        "COURIER_HOOK_BROKER_URL", None, rules.hook_broker_url
    )
    """The broker of that application."""
    hook_queue: Setting[str, str] = Setting("COURIER_HOOK_QUEUE", "celery", rules.word)
    """The queue of that task."""
    hook_statuses: Setting[str | Iterable[str], frozenset[str]] = Setting(
        "COURIER_HOOK_STATUSES", "all", rules.hook_statuses
    )
    """Of jobs that hooks tell of."""
    hook_email: Setting[bool, bool] = Setting("COURIER_HOOK_EMAIL", False, rules.yes)
    """Whether hooks tell the email."""
    hook_retention_s: Setting[Duration | None, float] = Setting(
        "COURIER_HOOK_RETENTION", None, rules.duration(at_least=1)
    )
    """Seconds after which what a receiver did not take is dropped: three days unless given, and
    not longer than `outcome_retention_s`."""
    hook_timeout_s: Setting[Duration, float] = Setting(
        "COURIER_HOOK_TIMEOUT", 10, rules.duration(at_least=0.1)
    )
    """Seconds that a receiver may take for one event."""
    outbox_url: Setting[str | Secret | None, Secret | None] = Setting(
        "COURIER_OUTBOX_URL", None, rules.outbox_url
    )
    """The database whose outbox a worker relays, as SQLAlchemy takes it."""
    flower_basic_auth: Setting[str | Secret | None, Secret | None] = Setting(
        "COURIER_FLOWER_BASIC_AUTH", None, rules.flower_basic_auth
    )
    """`user:password` for Flower; it listens beyond loopback only with one."""
    api_keys: Setting[Mapping[str, str | Secret] | None, Mapping[str, Secret]] = Setting(
        "CHARTMOGUL_API_KEY", None, rules.api_keys
    )
    """Account → API key. Producers need none."""

    def __post_init__(self) -> None:
        """What depends on several settings."""
        default = self.default_account or next(iter(self.accounts), "default")
        accounts = tuple(dict.fromkeys([default, *self.accounts]))
        # Enough for all the requests that the accounts allow, for stints of delivery that wait for
        # their time, and for jobs that are being accepted.
        threads = min((self.max_parallel + 10) * len(accounts), 200)
        self.__dict__.update(
            default_account=default,
            accounts=accounts,
            concurrency=self.concurrency or threads,
            outcome_retention_s=self.outcome_retention_s or self.retention_s,
            api_keys=MappingProxyType(dict(self.api_keys or {})),
        )
        if self.hook_retention_s is None:
            # What is told of a job is there as long as it may be told.
            self.__dict__["hook_retention_s"] = min(HOOK_RETENTION_S, self.outcome_retention_s)
        if self.outcome_retention_s > self.retention_s:
            raise Fault("outcome_retention_s", "must not be longer than {retention_s}")
        if self.hook_retention_s > self.outcome_retention_s:
            raise Fault("hook_retention_s", "must not be longer than {outcome_retention_s}")
        if strangers := sorted(self.api_keys.keys() - set(accounts)):
            raise Fault("api_keys", f"{{accounts}} does not name {', '.join(strangers)}")
        self._check_for_plain_http("api_url", self.api_url, "send the API key in the clear")
        if self.hook_url is not None:
            shows = "show what became of jobs to the network"
            self._check_for_plain_http("hook_url", self.hook_url.reveal(), shows)

    def _check_for_plain_http(self, name: str, url: str, harm: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "http" and not self.allow_http and not is_loopback(parts.hostname or ""):
            raise Fault(
                name,
                f"plain http would {harm}; "
                "use https, or set {allow_http} to true if the network is yours",
            )

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

    @cached_property
    def broker(self) -> RedisAddress | None:
        """The Redis that carries the messages, taken apart; None where another broker does."""
        if self.broker_url is None:
            return self.redis
        url = self.broker_url.reveal()
        return parse_redis_url(url) if rules.is_redis(url) else None

    @property
    def messages_url(self) -> Secret:
        """Where Celery's messages go, with everything in it."""
        return self.broker_url or self.redis_url

    @property
    def broker_address(self) -> str:
        """The same without user and password, for people."""
        if self.broker is not None:
            return self.broker.shown()
        return rules.shown_broker(self.messages_url.reveal())

    @property
    def own_broker(self) -> bool:
        """Whether the messages go another way than to the Redis that holds the state."""
        return self.broker != self.redis

    def of_broker(self) -> Settings:
        """These settings, with the broker's Redis in place of the one with the state."""
        return replace(self, redis_url=self.messages_url, broker_url=None)

    @property
    def names_redis(self) -> bool:
        """Whether anybody said where Redis is; else the default address is taken."""
        return not isinstance(self.redis_url, DefaultAddress)


_VARIABLE_OF: dict[str, str] = {
    each.name: vars(Settings)[each.name].variable for each in fields(Settings)
}

_IN_FILES: dict[str, tuple[str, Callable[[object], Any]]] = {
    "COURIER_BROKER_URL": ("broker_url", rules.broker_url),
    "COURIER_HOOK_SECRET": ("hook_secrets", rules.hook_secrets),
}
"""Variables with a `…_FILE` beside them → their field and rule; API keys have one, too."""

VARIABLES = tuple(sorted(_VARIABLE_OF.values()))
"""All that is read, but the API keys of further accounts, and of files (`…_FILE`)."""


class Variables:
    """Where the values of variables come from: what an application's framework sets goes first.

    Args:
        framework: variable, without `COURIER_` → value.
        name: what the framework calls the mapping.
    """

    def __init__(self, framework: Mapping[str, object], name: str) -> None:
        self._framework = framework
        self._name = name

    def get(self, variable: str) -> object:
        """A variable's value; None if it is unset or empty."""
        found = self._framework.get(self._key(variable))
        return os.environ.get(variable) or None if found in (None, "") else found

    def called(self, variable: str) -> str:
        """What the variable is called where its value comes from."""
        key = self._key(variable)
        return f'{self._name}["{key}"]' if self._framework.get(key) not in (None, "") else variable

    def check(self, known: Iterable[str]) -> None:
        """Raise SettingsError for what the framework sets and is none of ours."""
        keys = {self._key(variable) for variable in known}
        for key in self._framework:
            if key in keys:
                continue
            near = near_misses([f"COURIER_{key}", str(key)], known).values()
            right = key if key in known else next(iter(near), None)
            hint = f": did you mean {self._key(right)}?" if right else ""
            raise SettingsError(f'{self._name}["{key}"] is no setting{hint}')

    @staticmethod
    def _key(variable: str) -> str:
        return variable.removeprefix("COURIER_")


def load_settings(
    *, strict: bool = True, framework: Mapping[str, object] | None = None, framework_name: str = ""
) -> Settings:
    """Read the settings from the process's environment. A variable that is empty counts as unset.

    Args:
        strict: whether a variable whose name is nearly one of ours is an error, as it is to the
            worker and the command line. An application is only warned, in its log.
        framework: what goes before the environment: variable, without `COURIER_` → value.
        framework_name: what errors call it.

    Raises:
        SettingsError: a variable's value is not valid. The text names the variable and does not
            show its value, which may be secret.
    """
    variables = Variables(framework or {}, framework_name)
    values = {name: variables.get(variable) for name, variable in _VARIABLE_OF.items()}
    given: dict[str, Any] = {name: each for name, each in values.items() if each is not None}
    try:
        served = Settings(
            **{name: given[name] for name in ("accounts", "default_account") if name in given}
        )
        keys = _key_variables_of(served)
        in_files = [*keys, "CHARTMOGUL_API_KEY", *_IN_FILES]
        known = [*VARIABLES, *keys, *(f"{name}_FILE" for name in in_files)]
        variables.check(known)
        _look_for_slips(known, strict=strict)
        for variable, (field, rule) in _IN_FILES.items():
            if (found := _from_file(variable, rule, variables)) is not None:
                given[field] = found
        return Settings(**given | {"api_keys": _api_keys(served, variables)})
    except Fault as fault:
        text = fault.said(lambda name: variables.called(_VARIABLE_OF[name]))
        raise SettingsError(text) from None


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


def _look_for_slips(known: Iterable[str], *, strict: bool) -> None:
    slips = near_misses(os.environ, known)
    if not slips:
        return
    text = "; ".join(
        f"{name} is no setting: did you mean {right}?" for name, right in slips.items()
    )
    if strict:
        raise SettingsError(f"{text} Rename or unset it")
    log.warning("%s", text)


def _key_variables(account: str, default_account: str) -> list[str]:
    named = "CHARTMOGUL_API_KEY_" + account.upper().replace("-", "_")
    return [named, "CHARTMOGUL_API_KEY"] if account == default_account else [named]


def _key_variables_of(settings: Settings) -> list[str]:
    """Of all accounts, the variables that may hold their API keys."""
    default = settings.default_account
    variables = [v for name in settings.accounts for v in _key_variables(name, default)]
    if len({*variables, *(f"{v}_FILE" for v in variables)}) < 2 * len(variables):
        raise Fault(
            "accounts",
            "two accounts would have their API keys in one variable, as eu-1 and eu_1 would in "
            "CHARTMOGUL_API_KEY_EU_1; rename one",
        )
    return variables


def _api_keys(settings: Settings, variables: Variables) -> dict[str, Secret]:
    keys = {}
    for account in settings.accounts:
        for variable in _key_variables(account, settings.default_account):
            key = _from_file(variable, rules.api_key, variables)
            if key is not None:
                keys[account] = key
                break
    return keys


def _from_file(variable: str, rule: Callable[[object], T], variables: Variables) -> T | None:
    """What a variable holds, or the file that another one names; None where neither is set."""
    given = variables.get(variable)
    if given is None and (path := variables.get(f"{variable}_FILE")):
        variable = f"{variable}_FILE"
        try:
            given = Path(str(path)).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text file"
            called = variables.called(variable)
            raise SettingsError(f"{called}: cannot read {path}: {reason}") from None
        if not given:
            raise SettingsError(f"{variables.called(variable)}: {path} is empty")
    if given is None:
        return None
    try:
        return rule(given)
    except ValueError as error:
        raise SettingsError(f"{variables.called(variable)}: {error}") from None
