"""COURIER_REDIS_URL: what it may hold, and what an error says of what it may not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis
from kombu import Connection

from attribute_courier.config import Secret, load_settings
from attribute_courier.config.celery import make_celery
from attribute_courier.config.connections import connect_briefly, connect_patiently
from attribute_courier.config.redis_url import RedisAddress, parse_redis_url

SECRET = "hush"


def one(host: str, port: int = 6379, **other: Any) -> RedisAddress:
    return RedisAddress(nodes=((host, port),), **other)


def sentinels(*nodes: str | tuple[str, int], **other: Any) -> RedisAddress:
    places = tuple((node, 26379) if isinstance(node, str) else node for node in nodes)
    return RedisAddress(kind="sentinel", nodes=places, master="main", **other)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://redis", one("redis")),
        ("redis://redis/", one("redis")),
        ("redis://redis:7000/3", one("redis", 7000, db=3)),
        ("redis://10.0.0.7:7000", one("10.0.0.7", 7000)),
        ("redis://[2001:db8::1]:7000/3", one("2001:db8::1", 7000, db=3)),
        ("redis://[::1]", one("::1")),
        ("REDIS://Redis.Example", one("Redis.Example")),
        (" redis://redis:6379/0\n", one("redis")),
        ("rediss://redis", one("redis", tls=True)),
        ("rediss://r?ssl_cert_reqs=required", one("r", tls=True)),
        ("rediss://r?ssl_cert_reqs=none", one("r", tls=True, verified=False)),
        ("redis://:hush@redis", one("redis", password=Secret("hush"))),
        (
            "redis://ada:hu%2Fs%23h%40%3A%25@redis",
            one("redis", username="ada", password=Secret("hu/s#h@:%")),
        ),
        ("redis://my_redis-1.local:6379", one("my_redis-1.local")),
        ("unix:///run/redis.sock", RedisAddress(kind="unix", path="/run/redis.sock")),
        (
            "unix://ada:hush@/run/my%20re%40dis%23.sock?db=3",
            RedisAddress(
                kind="unix",
                path="/run/my re@dis#.sock",
                db=3,
                username="ada",
                password=Secret("hush"),
            ),
        ),
        ("redis+socket:///r.sock?virtual_host=2", RedisAddress(kind="unix", path="/r.sock", db=2)),
        ("sentinel://one/main", sentinels("one")),
        ("sentinel://one/main/", sentinels("one")),
        ("redis+sentinel://one:7000/main/3", sentinels(("one", 7000), db=3)),
        (
            "sentinel://ada:hush@one:7000,two,[::1],[::1]:7000/main/3",
            sentinels(
                ("one", 7000),
                "two",
                "::1",
                ("::1", 7000),
                db=3,
                username="ada",
                password=Secret("hush"),
            ),
        ),
        ("rediss+sentinel://one/main", sentinels("one", tls=True)),
        (
            "rediss+sentinel://one/main?ssl_cert_reqs=none",
            sentinels("one", tls=True, verified=False),
        ),
        ("cluster://one", RedisAddress(kind="cluster", nodes=(("one", 6379),))),
        ("cluster://one/0", RedisAddress(kind="cluster", nodes=(("one", 6379),))),
        (
            "rediss+cluster://:hush@one:7000,two:7001/",
            RedisAddress(
                kind="cluster",
                nodes=(("one", 7000), ("two", 7001)),
                password=Secret("hush"),
                tls=True,
            ),
        ),
    ],
)
def test_an_address_is_read_and_written(text: str, address: RedisAddress) -> None:
    assert parse_redis_url(text) == address
    assert parse_redis_url(address.url().reveal()) == address
    assert SECRET not in address.shown() + repr(address)
    assert parse_redis_url(address.shown()) == replace(
        address, username=None, password=None, verified=True
    )


@pytest.mark.parametrize(
    "text",
    [
        "redis://ada:hu%2Fs%23h%40%3A%25@redis.example:7000/3",
        "redis://[2001:db8::1]:7000/3",
        "rediss://:hush@redis.example:7000/3",
        "rediss://:hush@redis.example:7000/3?ssl_cert_reqs=none",
    ],
)
def test_both_libraries_read_it_alike(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("COURIER_REDIS_URL", text)
    settings = load_settings()
    of_kombu = make_celery(settings).connection_for_write()
    address = settings.redis
    assert (of_kombu.hostname, of_kombu.port) == (address.host, address.port)
    assert of_kombu.virtual_host == str(address.db)
    assert (of_kombu.userid or None) == address.username
    assert of_kombu.password == (address.password.reveal() if address.password else None)
    assert bool(of_kombu.ssl) == address.tls
    for connect in (connect_briefly, connect_patiently):
        connection = connect(settings).connection_pool.make_connection()
        assert (connection.host, connection.port, connection.db) == (
            address.host,
            address.port,
            address.db,
        )
        login = (address.username, address.password.reveal()) if address.password else ()
        provider = connection.credential_provider
        assert (provider.get_credentials() if provider else ()) == tuple(filter(None, login))
        assert isinstance(connection, redis.SSLConnection) == address.tls


def test_over_tls_kombu_verifies_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it verifies none, and would send the password to whoever answers."""

    def options() -> dict[str, object]:
        connection: Connection = make_celery(load_settings()).connection_for_write()
        return dict(connection.ssl)

    monkeypatch.setenv("COURIER_REDIS_URL", "rediss://:hush@redis.example")
    assert options()["ssl_cert_reqs"] == 2  # ssl.CERT_REQUIRED
    monkeypatch.setenv("COURIER_REDIS_URL", "rediss://:hush@redis.example?ssl_cert_reqs=none")
    assert options()["ssl_cert_reqs"] == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redis://redis/2?db=3", "(db); the database's number stands behind the host"),
        ("redis://redis?health_check_interval=5", "health_check_interval"),
        ("redis://redis?socket_timeout=3", "no options behind '?' (socket_timeout)"),
        ("redis://redis?hush=1", "no options"),
        ("rediss://redis?ssl_ca_certs=/ca.pem", "COURIER_REDIS_CA_FILE"),
        ("redis://redis?ssl_cert_reqs=none", "no options"),
        ("redis://u:hu#sh@redis", "percent-encode"),
        ("redis://u:hu/sh@redis:6379/0", "percent-encode"),
        ("redis://u:12#hush@redis", "%23"),
        ("redis://u:12/hush@redis", "%2F"),
        ("redis://u:12?hush@redis", "%3F"),
        ("redis://u:hush@12@redis", "%40"),
        ("redis://u:hush%zz@redis", "%25"),
        ("redis://u:hush 12@redis", "%20"),
        ("redis://u:12#hush", "percent-encoded"),
        ("redis://u:hush", "port"),
        ("redis://u:12/hush", "number of a database"),
        ("redis://hush@redis", "without a password"),
        ("redis://redis:0", "port"),
        ("redis://redis:65536", "port"),
        ("redis://redis:six", "port"),
        ("redis://redis:-1", "port"),
        ("redis://redis:６３７９", "port"),
        ("redis://", "host is missing"),
        ("redis://:6379/0", "host is missing"),
        ("redis://:hush@", "host is missing"),
        ("redis:///0", "host is missing"),
        ("redis://re dis", "blank"),
        ("redis://re\tdis", "blank"),
        ("redis://réseau\\", "no name and no address"),
        ("redis://2001:db8::1", "brackets"),
        ("redis://[2001:db8::1", "IPv6"),
        ("redis://[redis]:6379", "IPv6"),
        ("redis://[::1]6379", "IPv6"),
        ("redis://redis/first", "number of a database"),
        ("redis://redis/0/1", "number of a database"),
        ("redis://redis/-1", "number of a database"),
        ("redis://one,two", "several hosts"),
        ("redis", "must look like"),
        ("localhost:6379", "must look like"),
        ("redis:localhost:6379", "must look like"),
        ("http://redis", "must look like"),
        ("amqp://u:hush@rabbit", "must look like"),
        ("sentinel://one:26379;sentinel://two:26379", "commas between hosts"),
        ("sentinel://one;two/main", "commas between hosts"),
        ("sentinel://one:26379", "what they call the primary"),
        ("sentinel://one:26379/", "what they call the primary"),
        ("sentinel://one//3", "what they call the primary"),
        ("sentinel://one/ma%69n", "letters, digits"),
        ("sentinel://one/main/first", "number of a database"),
        ("sentinel://one/main/3/4", "number of a database"),
        ("sentinel://one,/main", "host is missing"),
        ("sentinel://one,one:26379/main", "a host twice"),
        ("sentinel://one:99999/main", "port"),
        ("sentinel://u:hush@12@one/main", "%40"),
        ("sentinel://u:hush/main", "port"),
        ("sentinel://one/main?sentinel_password=hush", "COURIER_SENTINEL_PASSWORD"),
        ("sentinel://one/main?ssl_cert_reqs=none", "no options"),
        ("redis://one,two", "sentinel:// and cluster:// take several"),
        ("cluster://", "host is missing"),
        ("cluster://one,two/3", "database 0 alone"),
        ("cluster://one;two", "commas between hosts"),
        ("cluster://one?db=0", "no options"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://:hush/run/redis.sock", "'@' between password and path"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///run/redis.sock/", "three slashes"),
        ("unix:///run/%00.sock", "three slashes"),
        ("unix:///run/%zz.sock", "%25"),
        ("unix:///run/r@dis.sock", "percent-encode"),
        ("unix:///run/redis.sock?db=first", "number of a database"),
        ("unix:///run/redis.sock?password=hush", "number of a database"),
        ("unix:///run/redis.sock?", "number of a database"),
        ("rediss+unix:///run/redis.sock", "its scheme is another one"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_redis_url(text)
    message = str(caught.value)
    assert says in message
    assert SECRET not in message
    assert "12" not in message, "a piece of the password"
