"""The settings: every variable of the environment, what it may hold, and what is shown of it."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import control

from attribute_courier.config import Secret, Settings, SettingsError, load_settings
from attribute_courier.config.celery import make_celery
from attribute_courier.config.network import check_for_work
from attribute_courier.config.settings import VARIABLES as VARIABLES_READ
from attribute_courier.config.settings import is_loopback
from attribute_courier.jobs.outcome import STATUSES

KEY = "sk-never-shown"
PASSWORD = "hush-never-shown"
HOOK_SECRET = "whsec_" + "QUFB" * 8


def loaded(monkeypatch: pytest.MonkeyPatch, **environ: str) -> Settings:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def error(monkeypatch: pytest.MonkeyPatch, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(monkeypatch, **environ)
    # Nothing of the cause is printed either.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def test_without_any_variable_there_are_defaults() -> None:
    assert load_settings() == Settings(
        redis_url=Secret("redis://localhost:6379/0"),
        enabled=True,
        api_url="https://api.chartmogul.com/v1",
        allow_http=False,
        accounts=("default",),
        default_account="default",
        rate_limit=39.2,
        max_parallel=20,
        max_attributes=250,
        max_request_bytes=65_536,
        timeout_s=10,
        enqueue_timeout_s=2,
        retention_s=30 * 86_400,
        outcome_retention_s=30 * 86_400,
        confirm="echo",
        with_associated_emails=False,
        unmatched_delays_s=(300, 3_600, 21_600, 86_400),
        unconfirmed_delays_s=(60,),
        probe_delays_s=(60, 120, 240, 480, 900),
        give_up_after_s=86_400,
        bulk_share=0.1,
        strict_types=False,
        concurrency=30,
        hook_url=None,
        hook_secrets=(),
        hook_task="",
        hook_broker_url=None,
        hook_queue="celery",
        hook_statuses=frozenset(STATUSES) - {"pending"},
        hook_email=False,
        hook_retention_s=3 * 86_400,
        hook_timeout_s=10,
        flower_basic_auth=None,
        api_keys={},
    )


VARIABLES: list[tuple[str, str, str, Any]] = [
    ("COURIER_REDIS_URL", "rediss://:pw@host:7000/3", "redis_url", Secret("rediss://:pw@host:7000/3")),
    ("COURIER_BROKER_URL", "amqp://u:pw@mq/v", "broker_url", Secret("amqp://u:pw@mq/v")),
    ("COURIER_ENABLED", "false", "enabled", False),
    ("COURIER_ALLOW_HTTP", "true", "allow_http", True),
    ("CHARTMOGUL_API_URL", "https://example.com/api/", "api_url", "https://example.com/api"),
    ("COURIER_ACCOUNT", "eu", "default_account", "eu"),
    ("COURIER_ACCOUNTS", "eu, us", "accounts", ("eu", "us")),
    ("COURIER_RATE_LIMIT", "12.5", "rate_limit", 12.5),
    ("COURIER_MAX_PARALLEL", "5", "max_parallel", 5),
    ("COURIER_TIMEOUT", "30s", "timeout_s", 30),
    ("COURIER_ENQUEUE_TIMEOUT", "500ms", "enqueue_timeout_s", 0.5),
    ("COURIER_RETENTION", "90d", "retention_s", 90 * 86_400),
    ("COURIER_KEEP_DELIVERED", "7d", "outcome_retention_s", 7 * 86_400),
    ("COURIER_MAX_ATTRIBUTES", "100", "max_attributes", 100),
    ("COURIER_MAX_REQUEST_BYTES", "32768", "max_request_bytes", 32_768),
    ("COURIER_CONFIRM", "match", "confirm", "match"),
    ("COURIER_WITH_ASSOCIATED_EMAILS", "true", "with_associated_emails", True),
    ("COURIER_UNMATCHED_DELAYS", "1s,2m,3h", "unmatched_delays_s", (1, 120, 10_800)),
    ("COURIER_UNCONFIRMED_DELAYS", "0", "unconfirmed_delays_s", (0,)),
    ("COURIER_PROBE_DELAYS", "30s,5m", "probe_delays_s", (30, 300)),
    ("COURIER_GIVE_UP_AFTER", "1h30m", "give_up_after_s", 5_400),
    ("COURIER_BULK_SHARE", "0.25", "bulk_share", 0.25),
    ("COURIER_STRICT_TYPES", "true", "strict_types", True),
    ("COURIER_ALLOW_EVICTION", "true", "allow_eviction", True),
    ("COURIER_CONCURRENCY", "7", "concurrency", 7),
    ("COURIER_LOG_FORMAT", "json", "log_format", "json"),
    ("COURIER_HOOK_URL", "https://a.example/h", "hook_url", Secret("https://a.example/h")),
    ("COURIER_HOOK_SECRET", HOOK_SECRET, "hook_secrets", (Secret(HOOK_SECRET),)),
    ("COURIER_HOOK_TASK", "shop.on_outcome", "hook_task", "shop.on_outcome"),
    ("COURIER_HOOK_BROKER_URL", "amqp://mq", "hook_broker_url", Secret("amqp://mq")),
    ("COURIER_HOOK_QUEUE", "outcomes", "hook_queue", "outcomes"),
    ("COURIER_HOOK_STATUSES", "failed, refused", "hook_statuses", frozenset({"failed", "refused"})),
    ("COURIER_HOOK_EMAIL", "true", "hook_email", True),
    ("COURIER_HOOK_RETENTION", "1d", "hook_retention_s", 86_400),
    ("COURIER_HOOK_TIMEOUT", "3s", "hook_timeout_s", 3),
    ("COURIER_OUTBOX_URL", "sqlite:///a.db", "outbox_url", Secret("sqlite:///a.db")),
    ("COURIER_FLOWER_BASIC_AUTH", "ada:a:b", "flower_basic_auth", Secret("ada:a:b")),
    ("CHARTMOGUL_API_KEY", "key", "api_keys", {"default": Secret("key")}),
]  # fmt: skip


@pytest.mark.parametrize(("variable", "text", "field", "value"), VARIABLES)
def test_each_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, field: str, value: Any
) -> None:
    assert getattr(loaded(monkeypatch, **{variable: text}), field) == value


def test_each_field_has_a_variable() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert fields == {field for _, _, field, _ in VARIABLES}


@pytest.mark.parametrize(
    "variable",
    [
        *(each[0] for each in VARIABLES),
        "CHARTMOGUL_API_KEY_FILE",
        "COURIER_BROKER_URL_FILE",
        "COURIER_HOOK_SECRET_FILE",
    ],
)
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert loaded(monkeypatch, **{variable: ""}) == load_settings()


def test_outcomes_that_ended_well_are_kept_as_long_as_the_others_unless_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert loaded(monkeypatch, COURIER_RETENTION="9d").outcome_retention_s == 9 * 86_400


def test_every_variable_that_is_read_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not listed would be refused, or its slips would not be noticed."""
    listed = {
        *VARIABLES_READ,
        "CHARTMOGUL_API_KEY_FILE",
        "COURIER_BROKER_URL_FILE",
        "COURIER_HOOK_SECRET_FILE",
    }
    assert {each[0] for each in VARIABLES} == set(VARIABLES_READ)
    for name in listed:
        monkeypatch.setenv(name, "")
    assert load_settings() == load_settings(strict=False)


class TestASlipOfThePen:
    @pytest.mark.parametrize(
        ("name", "ours"),
        [
            ("COURIER_REDIS_ULR", "COURIER_REDIS_URL"),
            ("COURIER_REDISURL", "COURIER_REDIS_URL"),
            ("COURIER_REDIS_URI", "COURIER_REDIS_URL"),
            ("COURIER_RATELIMIT", "COURIER_RATE_LIMIT"),
            ("COURIER_CONCURENCY", "COURIER_CONCURRENCY"),
            ("COURIER_TIMEOT", "COURIER_TIMEOUT"),
            ("courier_redis_url", "COURIER_REDIS_URL"),
            ("CHARTMOGUL_APIKEY", "CHARTMOGUL_API_KEY"),
            ("CHARTMOGUL_API_KEYS", "CHARTMOGUL_API_KEY"),
            ("CHARTMOGUL_APIURL", "CHARTMOGUL_API_URL"),
            ("CHARTMOGUL_API_KEY_FLIE", "CHARTMOGUL_API_KEY_FILE"),
        ],
    )
    def test_is_an_error_that_names_the_right_variable(
        self, monkeypatch: pytest.MonkeyPatch, name: str, ours: str
    ) -> None:
        message = error(monkeypatch, **{name: PASSWORD})
        assert f"{name} is no setting: did you mean {ours}?" in message
        assert PASSWORD not in message

    def test_is_a_warning_in_an_application(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("COURIER_REDIS_ULR", PASSWORD)
        assert load_settings(strict=False).redis.port == 6379
        assert "did you mean COURIER_REDIS_URL?" in caplog.text
        assert PASSWORD not in caplog.text

    @pytest.mark.parametrize(
        "name",
        [
            "COURIER_PORT",
            "COURIER_PORT_6379_TCP",
            "COURIER_PORT_6379_TCP_ADDR",
            "COURIER_SERVICE_HOST",
            "COURIER_SERVICE_PORT",
            "COURIER_SERVICE_PORT_HTTP",
            "COURIER_REDIS_SERVICE_HOST",
            "COURIER_REDIS_PORT",
            "COURIER_ACCOUNT_SERVICE_HOST",
            "COURIER_LOG_LEVEL",
            "COURIER_CONFIG",
            "COURIER_API_KEY",
            "COURIER_AUTH_TOKEN",
            "COURIER_URL",
            "COURIERS",
            "CHARTMOGUL_API_KEY_US",
            "CHARTMOGUL_API_KEY_EUR",
            "CHARTMOGUL_DATA_SOURCE",
            "REDIS_URL",
        ],
    )
    def test_is_no_other_variable(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        name: str,
    ) -> None:
        """Kubernetes makes some for each service; an account may be served elsewhere."""
        monkeypatch.setenv(name, "x")
        load_settings()
        load_settings(strict=False)
        assert not caplog.text


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings().rate_limit = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("1e2", 100),
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5_400),
        ("2d", 172_800),
        ("1w", 604_800),
    ],
)
def test_a_duration_is_seconds_or_has_units(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    assert loaded(monkeypatch, COURIER_TIMEOUT=text).timeout_s == seconds


BAD = {
    "COURIER_REDIS_URL": [
        f"http://{PASSWORD}",
        f"{PASSWORD}",
        f"redis://:{PASSWORD}@",
        f"redis://:{PASSWORD}@host:port/0",
        f"redis://[{PASSWORD}",
    ],
    "CHARTMOGUL_API_URL": [
        "api.chartmogul.com",
        "ftp://api.chartmogul.com",
        "https://",
        "https://host:port/v1",
        f"https://{PASSWORD}@host/v1",
        f"https://user:{PASSWORD}@host/v1",
        f"https://host/v1?key={PASSWORD}",
        f"https://host/v1#{PASSWORD}",
        "https://host/v1?",
        "http://api.chartmogul.com/v1",
        "http://10.0.0.1/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "https://api.chartmogul.com:0/v1",
        "https://api.chartmogul.com/v1\n",
        "https://api chartmogul.com/v1",
        "https://[api]/v1",
        "https://api..chartmogul.com/v1",
        f"https://{'a' * 64}.com/v1",
        "https://api.chartmogul.com/vü",
        "https://api.chartmogul.com/v1\u200b",
    ],
    "COURIER_ACCOUNT": ["EU", "-eu", "e u", "eu}", "é", "x" * 33, "eu:us"],
    "COURIER_ACCOUNTS": ["eu,US", "eu us", "eu,{us}"],
    "COURIER_RATE_LIMIT": ["0", "-1", "fast", "nan", "inf", "10001"],
    "COURIER_MAX_PARALLEL": ["0", "1.5", "many", "1001"],
    "COURIER_TIMEOUT": ["0", "-1", "soon", "nan", "inf", "10 parsecs", "99999999999d", "1e400"],
    "COURIER_ENQUEUE_TIMEOUT": ["0", "x", "0.05"],
    "COURIER_RETENTION": ["59", "x", "-1d"],
    "COURIER_KEEP_DELIVERED": ["59", "x", "31d"],
    "COURIER_MAX_ATTRIBUTES": ["0", "x", "10001", "1e2"],
    "COURIER_MAX_REQUEST_BYTES": ["1023", "64k", "16777217"],
    "COURIER_CONFIRM": ["yes", "ECHO", "echo,match"],
    "COURIER_WITH_ASSOCIATED_EMAILS": ["maybe", "2"],
    "COURIER_ALLOW_HTTP": ["maybe"],
    "COURIER_ENABLED": ["maybe", "2"],
    "COURIER_UNMATCHED_DELAYS": ["x", "1,x", "1,,2", "-1", "inf", ","],
    "COURIER_UNCONFIRMED_DELAYS": ["x", "1;2"],
    "COURIER_GIVE_UP_AFTER": ["0", "x"],
    "COURIER_CONCURRENCY": ["1", "0", "x", "1001"],
    "COURIER_FLOWER_BASIC_AUTH": [PASSWORD, f":{PASSWORD}", "ada:", f"ada:{PASSWORD},b"],
    "CHARTMOGUL_API_KEY": [f"{PASSWORD} x", f"{PASSWORD}:x", f"{PASSWORD}é", f"{PASSWORD}\n"],
}
# The examples of what to write instead hold these.
EXAMPLES = {"api.chartmogul.com", "https://"}


@pytest.mark.parametrize(
    ("variable", "text"), [(variable, text) for variable, texts in BAD.items() for text in texts]
)
def test_an_error_names_the_variable_and_does_not_show_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    message = error(monkeypatch, **{variable: text})
    assert variable in message
    assert PASSWORD not in message
    if len(text) > 3 and text not in EXAMPLES:
        assert text not in message


class TestPlainHTTP:
    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
    def test_is_for_this_machine(self, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
        url = f"http://{host}:8181/v1"
        assert loaded(monkeypatch, CHARTMOGUL_API_URL=url).api_url == url

    def test_is_for_another_machine_only_if_that_is_said(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CHARTMOGUL_API_URL", "http://sandbox:8181/v1")
        assert "COURIER_ALLOW_HTTP" in error(monkeypatch)
        assert "COURIER_ALLOW_HTTP" in error(monkeypatch, COURIER_ALLOW_HTTP="false")
        assert loaded(monkeypatch, COURIER_ALLOW_HTTP="true").api_url == "http://sandbox:8181/v1"

    @pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "example.com", "localhost."])  # noqa: S104
    def test_knows_what_is_another_machine(self, host: str) -> None:
        assert not is_loopback(host)


class TestAPIKeys:
    def test_of_an_account_that_has_none_says_what_to_set(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = loaded(monkeypatch, COURIER_ACCOUNTS="eu,us-west")
        with pytest.raises(SettingsError, match=r"CHARTMOGUL_API_KEY or CHARTMOGUL_API_KEY_EU$"):
            settings.api_key("eu")
        with pytest.raises(SettingsError, match=r"'us-west': set CHARTMOGUL_API_KEY_US_WEST$"):
            settings.api_key("us-west")

    def test_are_each_accounts_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = loaded(
            monkeypatch,
            COURIER_ACCOUNTS="eu,us-west",
            CHARTMOGUL_API_KEY="k1",
            CHARTMOGUL_API_KEY_US_WEST="k2",
        )
        assert settings.default_account == "eu"
        assert settings.api_key("eu").reveal() == "k1"
        assert settings.api_key("us-west").reveal() == "k2"

    def test_the_named_one_goes_before_the_general_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = loaded(monkeypatch, CHARTMOGUL_API_KEY="k1", CHARTMOGUL_API_KEY_DEFAULT="k2")
        assert settings.api_key("default").reveal() == "k2"

    def test_the_general_one_is_no_further_accounts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = loaded(
            monkeypatch, COURIER_ACCOUNT="eu", COURIER_ACCOUNTS="us", CHARTMOGUL_API_KEY="k1"
        )
        assert settings.accounts == ("eu", "us")
        with pytest.raises(SettingsError):
            settings.api_key("us")

    def test_may_stand_in_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "key"
        path.write_text(f" {KEY}\n")
        settings = loaded(monkeypatch, CHARTMOGUL_API_KEY_FILE=str(path))
        assert settings.api_key("default").reveal() == KEY
        settings = loaded(monkeypatch, CHARTMOGUL_API_KEY="from-the-environment")
        assert settings.api_key("default").reveal() == "from-the-environment"

    def test_of_a_further_account_may_stand_in_a_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "key"
        path.write_text(KEY)
        settings = loaded(
            monkeypatch, COURIER_ACCOUNTS="eu,us", CHARTMOGUL_API_KEY_US_FILE=str(path)
        )
        assert settings.api_key("us").reveal() == KEY

    @pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe\x00", b"two words", b"a:b"])
    def test_in_a_file_that_holds_none_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "key"
        if content is not None:
            path.write_bytes(content)
        message = error(monkeypatch, CHARTMOGUL_API_KEY_FILE=str(path))
        assert "CHARTMOGUL_API_KEY_FILE" in message
        assert "words" not in message

    def test_in_a_directory_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        message = error(monkeypatch, CHARTMOGUL_API_KEY_FILE=str(tmp_path))
        assert "CHARTMOGUL_API_KEY_FILE" in message

    @pytest.mark.parametrize(
        "environ",
        [
            {"COURIER_ACCOUNTS": "eu-1,eu_1"},
            {"COURIER_ACCOUNTS": "eu,us-file,us"},
            {"COURIER_ACCOUNTS": "eu,file"},
        ],
    )
    def test_never_stand_for_two_accounts_in_one_variable(
        self, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
    ) -> None:
        """One account's jobs would go to the other."""
        assert "COURIER_ACCOUNTS" in error(monkeypatch, **environ)


class TestAccounts:
    def test_the_first_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = loaded(monkeypatch, COURIER_ACCOUNTS=" us , eu,us,")
        assert (settings.default_account, settings.accounts) == ("us", ("us", "eu"))

    def test_the_default_may_be_one_of_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = loaded(monkeypatch, COURIER_ACCOUNTS="us,eu", COURIER_ACCOUNT="eu")
        assert (settings.default_account, settings.accounts) == ("eu", ("eu", "us"))

    def test_have_threads_for_all_their_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert loaded(monkeypatch, COURIER_ACCOUNTS="us,eu").concurrency == 2 * (20 + 10)
        assert loaded(monkeypatch, COURIER_MAX_PARALLEL="1000").concurrency == 200


class TestTheBroker:
    def test_is_the_redis_with_the_state_unless_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"redis://:{PASSWORD}@redis.example:6379/3"
        settings = loaded(monkeypatch, COURIER_REDIS_URL=url)
        assert not settings.own_broker
        assert settings.messages_url == settings.redis_url
        assert settings.broker_address == settings.redis_address
        assert not loaded(monkeypatch, COURIER_REDIS_URL=url, COURIER_BROKER_URL=url).own_broker

    def test_may_be_another_redis_or_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = loaded(
            monkeypatch,
            COURIER_REDIS_URL="redis://redis.example:6379/0",
            COURIER_BROKER_URL="redis://redis.example:6379/1",
        )
        assert settings.own_broker
        assert settings.broker_address == "redis://redis.example:6379/1"
        assert settings.of_broker().redis_address == "redis://redis.example:6379/1"

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            (f"amqp://ada:{PASSWORD}@mq.example:5673/shop", "amqp://mq.example:5673/shop"),
            (f"amqps://ada:{PASSWORD}@mq.example", "amqps://mq.example"),
            (
                f"amqp://ada:{PASSWORD}@one.example;amqp://ada:{PASSWORD}@two.example",
                "amqp://one.example, amqp://two.example",
            ),
            (f"sqs://key:{PASSWORD}@", "sqs://"),
            (f"sqla+postgresql://ada:{PASSWORD}@db/x?token={PASSWORD}", "sqla+postgresql://db/x"),
            (f"confluentkafka://a:pa/{PASSWORD}@host", "confluentkafka://host"),
            ("filesystem://", "filesystem://"),
        ],
    )
    def test_may_be_any_other_and_its_password_is_not_shown(
        self, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
    ) -> None:
        settings = loaded(monkeypatch, COURIER_BROKER_URL=url)
        assert settings.broker is None
        assert settings.own_broker
        assert settings.messages_url == Secret(url)
        assert settings.broker_address == shown
        assert PASSWORD not in repr(settings)

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("mq.example", "must look like amqp://"),
            (f"amqp://ada:{PASSWORD}/x@mq.example", "percent-encode"),
            (f"amqp://ada:{PASSWORD}@mq.example:x", "its host or port cannot be read"),
            (f"pyamqp://ada:{PASSWORD} x@mq.example", "holds a blank"),
            (f"redis://ada:{PASSWORD}@h:6379/x", "number of a database"),
            (f"cluster://ada:{PASSWORD}@h:6379", "no broker on a Redis Cluster"),
        ],
    )
    def test_that_cannot_be_read_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
    ) -> None:
        text = error(monkeypatch, COURIER_BROKER_URL=url)
        assert text.startswith("COURIER_BROKER_URL: ")
        assert reason in text
        assert PASSWORD not in text

    def test_may_stand_in_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "broker"
        path.write_text(f"amqp://ada:{PASSWORD}@mq.example\n")
        settings = loaded(monkeypatch, COURIER_BROKER_URL_FILE=str(path))
        assert settings.broker_url == Secret(f"amqp://ada:{PASSWORD}@mq.example")
        path.write_text("nonsense")
        assert "COURIER_BROKER_URL_FILE: must" in error(
            monkeypatch, COURIER_BROKER_URL_FILE=str(path)
        )


class TestSecrets:
    @pytest.fixture
    def settings(self, monkeypatch: pytest.MonkeyPatch) -> Settings:
        return loaded(
            monkeypatch,
            CHARTMOGUL_API_KEY=KEY,
            COURIER_REDIS_URL=f"redis://user:{PASSWORD}@redis.example:6379/0",
            COURIER_FLOWER_BASIC_AUTH=f"ada:{PASSWORD}",
        )

    def test_are_in_no_repr(self, settings: Settings) -> None:
        shown = f"{settings!r} {settings} {settings.api_keys} {settings.api_key('default'):}"
        assert KEY not in shown
        assert PASSWORD not in shown
        assert settings.redis_address == "redis://redis.example:6379/0"

    def test_are_in_nothing_that_celery_tells(self, settings: Settings) -> None:
        app = make_celery(settings)
        inspected: Any = vars(control)["conf"]  # what `celery inspect conf` asks
        state = SimpleNamespace(app=app)
        told = [
            app.conf.humanize(),
            app.conf.humanize(with_defaults=True),
            json.dumps(inspected(state), default=repr),
            json.dumps(inspected(state, with_defaults=True), default=repr),
            repr(app),
            app.connection_for_write().as_uri(),
        ]
        for text in told:
            assert KEY not in text
            assert PASSWORD not in text
        assert "redis.example" in told[0]

    def test_are_equal_by_their_text_and_pickled_by_nobody(self, settings: Settings) -> None:
        assert Secret("a") == Secret("a")
        assert Secret("a") != Secret("b")
        assert Secret("a") != "a"
        assert hash(Secret("a")) == hash(Secret("a"))
        with pytest.raises(TypeError, match="not pickled"):
            dataclasses.replace(settings).api_key("default").__reduce__()


class TestHooks:
    def test_the_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        url = "https://ada:" + PASSWORD + "@a.example:8443/hook?token=1"
        settings = loaded(monkeypatch, COURIER_HOOK_URL=url)
        assert settings.hook_url == Secret(url)
        assert PASSWORD not in repr(settings)

    @pytest.mark.parametrize("url", ["http://localhost:1/h", "http://127.0.0.1/", "http://[::1]/"])
    def test_plain_http_within_this_machine(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        assert loaded(monkeypatch, COURIER_HOOK_URL=url).hook_url == Secret(url)

    def test_plain_http_to_another_one_only_if_allowed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "http://" + PASSWORD + "@app.example/"
        message = error(monkeypatch, COURIER_HOOK_URL=url)
        assert message.startswith("COURIER_HOOK_URL: plain http")
        assert PASSWORD not in message
        assert loaded(monkeypatch, COURIER_HOOK_URL=url, COURIER_ALLOW_HTTP="1").hook_url

    @pytest.mark.parametrize(
        "url",
        [
            *("app.example/hook", "ftp://a.example", "https://", "https://a.example/#x"),
            *("https://a.example:x/", "https://a.example/a b", "https://ä.example/"),
        ],
    )
    def test_what_is_no_url(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        assert error(monkeypatch, COURIER_HOOK_URL=url).startswith("COURIER_HOOK_URL: ")

    def test_several_secrets_and_a_file(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        other = "whsec_" + "QkJC" * 8
        path = tmp_path / "secret"
        path.write_text(f"{HOOK_SECRET}\n{other}\n")
        expected = (Secret(HOOK_SECRET), Secret(other))
        found = loaded(monkeypatch, COURIER_HOOK_SECRET_FILE=str(path)).hook_secrets
        assert found == expected
        path.write_text("")
        assert "is empty" in error(monkeypatch, COURIER_HOOK_SECRET_FILE=str(path))
        both = f"{HOOK_SECRET}, {other}"
        assert loaded(monkeypatch, COURIER_HOOK_SECRET=both).hook_secrets == expected

    @pytest.mark.parametrize("secret", [PASSWORD, "whsec_" + PASSWORD, "whsec_QUFB", "QUFB" * 8])
    def test_what_is_no_secret(self, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
        message = error(monkeypatch, COURIER_HOOK_SECRET=secret)
        assert message.startswith("COURIER_HOOK_SECRET: must be whsec_")
        assert secret not in message

    def test_statuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert loaded(monkeypatch, COURIER_HOOK_STATUSES="none").hook_statuses == frozenset()
        for text in ("pending", "delivred", ",", "none,failed"):
            message = error(monkeypatch, COURIER_HOOK_STATUSES=text)
            assert message.startswith("COURIER_HOOK_STATUSES: must be all, none, or some of deliv")

    def test_a_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        url = "sqs://" + PASSWORD + "@"
        message = error(monkeypatch, COURIER_HOOK_BROKER_URL=url)
        assert message.startswith("COURIER_HOOK_BROKER_URL: must begin with redis://")
        assert PASSWORD not in message

    def test_they_are_not_longer_kept_than_what_they_tell_of(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert loaded(monkeypatch, COURIER_KEEP_DELIVERED="1d").hook_retention_s == 86_400
        message = error(monkeypatch, COURIER_HOOK_RETENTION="2d")
        assert message.startswith("COURIER_HOOK_RETENTION: must not be longer than")

    @pytest.mark.parametrize(
        ("environ", "words"),
        [
            ({"COURIER_HOOK_URL": "https://a.example"}, "needs COURIER_HOOK_SECRET"),
            ({"COURIER_HOOK_TASK": "shop.f"}, "needs COURIER_HOOK_BROKER_URL"),
            (
                {"COURIER_HOOK_TASK": "shop.f", "COURIER_HOOK_URL": "https://a.example"},
                "set one of them, not both",
            ),
        ],
    )
    def test_a_worker_does_not_start_with_half_of_a_hook(
        self, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], words: str
    ) -> None:
        settings = loaded(monkeypatch, CHARTMOGUL_API_KEY=KEY, **environ)
        with pytest.raises(SettingsError, match=words):
            check_for_work(settings)


class TestInCode:
    def test_all_but_what_is_given_has_a_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COURIER_TIMEOUT", "99s")
        assert Settings() == Settings(timeout_s=10), "the environment has no say"
        monkeypatch.delenv("COURIER_TIMEOUT")
        assert Settings() == load_settings()

    def test_values_are_pythons_own_or_the_text_of_a_variable(self) -> None:
        settings = Settings(
            redis_url="redis://:pw@redis.example",
            timeout_s=timedelta(milliseconds=1500),
            retention_s="2d",
            give_up_after_s=3600,
            unmatched_delays_s=[1, "2m", timedelta(hours=3)],
            unconfirmed_delays_s=[],
            accounts=["eu", "us"],
            api_keys={"us": KEY, "eu": Secret("other")},
            flower_basic_auth="ada:pw",
        )
        assert settings.redis_url == Secret("redis://:pw@redis.example:6379/0")
        assert (settings.timeout_s, settings.retention_s) == (1.5, 172_800)
        assert settings.unmatched_delays_s == (1, 120, 10_800)
        assert settings.unconfirmed_delays_s == ()
        assert (settings.default_account, settings.accounts) == ("eu", ("eu", "us"))
        assert settings.api_keys == {"us": Secret(KEY), "eu": Secret("other")}
        assert settings.flower_basic_auth == Secret("ada:pw")
        assert settings.concurrency == 60
        assert KEY not in repr(settings)
        assert dataclasses.replace(settings) == settings

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"redis_url": f"http://{PASSWORD}"}, "redis_url: must look like redis://"),
            ({"redis_url": 5}, "redis_url: must be text, not int"),
            ({"timeout_s": "soon"}, "timeout_s: not a duration"),
            ({"timeout_s": True}, "timeout_s: must be at least 0.1 seconds"),
            ({"timeout_s": timedelta(0)}, "timeout_s: must be at least 0.1 seconds"),
            ({"probe_delays_s": []}, "probe_delays_s: must be one duration at least"),
            ({"unmatched_delays_s": 5}, "unmatched_delays_s: must be durations"),
            ({"max_parallel": 2.5}, "max_parallel: must be a whole number from 1 to 1,000"),
            ({"max_parallel": True}, "max_parallel: must be a whole number"),
            ({"bulk_share": True}, "bulk_share: must be a number from"),
            ({"rate_limit": None}, "rate_limit: must be a number from"),
            ({"enabled": "maybe"}, "enabled: must be true or false"),
            ({"confirm": ["echo"]}, "confirm: must be one of echo, match, status"),
            ({"accounts": 5}, "accounts: must be the names of accounts"),
            ({"default_account": 5}, "default_account: an account's name has 1 to 32"),
            ({"api_keys": {"default": f"{PASSWORD} x"}}, "api_keys: an API key is printable"),
            ({"api_keys": {"eu": PASSWORD}}, "api_keys: accounts does not name eu"),
            ({"api_keys": PASSWORD}, "api_keys: must be a mapping"),
            ({"api_url": "http://host/v1"}, "or set allow_http to true if the network is yours"),
            ({"api_url": f"https://{PASSWORD}@host"}, "api_url: put the key into api_keys"),
            (
                {"retention_s": 60, "outcome_retention_s": 61},
                "outcome_retention_s: must not be longer than retention_s",
            ),
        ],
    )
    def test_an_error_names_the_field_and_does_not_show_its_value(
        self, given: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(SettingsError) as caught:
            Settings(**given)
        assert says in str(caught.value)
        assert PASSWORD not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    def test_an_unknown_field_is_pythons_own_error(self) -> None:
        with pytest.raises(TypeError, match="redis_ulr"):
            Settings(redis_ulr="redis://redis.example")  # type: ignore[call-arg]

    def test_only_the_address_that_somebody_named_counts_as_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        default = "redis://localhost:6379/0"
        assert not Settings().names_redis
        assert not dataclasses.replace(Settings(), timeout_s=5).names_redis
        assert not load_settings().names_redis
        assert Settings(redis_url=default).names_redis
        assert loaded(monkeypatch, COURIER_REDIS_URL=default).names_redis


class TestOfAFramework:
    """What a framework's settings hold goes before the environment."""

    def load(self, **framework: object) -> Settings:
        return load_settings(framework=framework, framework_name="OURS")

    def test_goes_before_the_environment_setting_by_setting(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COURIER_TIMEOUT", "99s")
        monkeypatch.setenv("COURIER_RATE_LIMIT", "5")
        monkeypatch.setenv("CHARTMOGUL_API_KEY_EU", "environment")
        settings = self.load(
            TIMEOUT=timedelta(seconds=3), CHARTMOGUL_API_KEY_EU=KEY, ACCOUNTS=["eu"], ENABLED=False
        )
        assert (settings.timeout_s, settings.rate_limit, settings.enabled) == (3, 5, False)
        assert settings.api_key("eu").reveal() == KEY
        assert self.load(TIMEOUT="", RATE_LIMIT=None).timeout_s == 99

    @pytest.mark.parametrize(
        ("framework", "says"),
        [
            ({"TIMEOUT": "soon"}, 'OURS["TIMEOUT"]: not a duration'),
            ({"REDIS_ULR": PASSWORD}, 'OURS["REDIS_ULR"] is no setting: did you mean REDIS_URL?'),
            ({"redis_url": PASSWORD}, 'OURS["redis_url"] is no setting: did you mean REDIS_URL?'),
            ({"COURIER_REDIS_URL": PASSWORD}, "did you mean REDIS_URL?"),
            ({"COLOUR": PASSWORD}, 'OURS["COLOUR"] is no setting'),
            ({"CHARTMOGUL_API_KEY": f"{PASSWORD} x"}, 'OURS["CHARTMOGUL_API_KEY"]: an API key'),
            (
                {"CHARTMOGUL_API_URL": "http://host/v1"},
                'OURS["CHARTMOGUL_API_URL"]: plain http would send the API key in the clear; '
                "use https, or set COURIER_ALLOW_HTTP to true",
            ),
        ],
    )
    def test_is_named_in_errors(self, framework: dict[str, object], says: str) -> None:
        with pytest.raises(SettingsError) as caught:
            self.load(**framework)
        assert says in str(caught.value)
        assert PASSWORD not in str(caught.value)
