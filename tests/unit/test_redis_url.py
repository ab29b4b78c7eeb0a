"""COURIER_REDIS_URL: what it may hold, and what an error says of what it may not hold."""

from __future__ import annotations

import pytest
import redis
from kombu import Connection

from attribute_courier.config import Secret, load_settings
from attribute_courier.config.celery import make_celery
from attribute_courier.config.connections import connect_briefly, connect_patiently
from attribute_courier.config.redis_url import RedisAddress, parse_redis_url

SECRET = "hush"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://redis", RedisAddress(host="redis")),
        ("redis://redis/", RedisAddress(host="redis")),
        ("redis://redis:7000/3", RedisAddress(host="redis", port=7000, db=3)),
        ("redis://10.0.0.7:7000", RedisAddress(host="10.0.0.7", port=7000)),
        ("redis://[2001:db8::1]:7000/3", RedisAddress(host="2001:db8::1", port=7000, db=3)),
        ("redis://[::1]", RedisAddress(host="::1")),
        ("REDIS://Redis.Example", RedisAddress(host="Redis.Example")),
        (" redis://redis:6379/0\n", RedisAddress(host="redis")),
        ("rediss://redis", RedisAddress(host="redis", tls=True)),
        ("rediss://r?ssl_cert_reqs=required", RedisAddress(host="r", tls=True)),
        ("rediss://r?ssl_cert_reqs=none", RedisAddress(host="r", tls=True, verified=False)),
        ("redis://:hush@redis", RedisAddress(host="redis", password=Secret("hush"))),
        (
            "redis://ada:hu%2Fs%23h%40%3A%25@redis",
            RedisAddress(host="redis", username="ada", password=Secret("hu/s#h@:%")),
        ),
        ("redis://my_redis-1.local:6379", RedisAddress(host="my_redis-1.local")),
    ],
)
def test_an_address_is_read_and_written(text: str, address: RedisAddress) -> None:
    assert parse_redis_url(text) == address
    assert parse_redis_url(address.url().reveal()) == address


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
        assert connection.username == address.username
        assert connection.password == (address.password.reveal() if address.password else None)
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
        ("rediss://redis?ssl_ca_certs=/ca.pem", "SSL_CERT_FILE"),
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
        ("sentinel://one:26379;sentinel://two:26379", "sentinel:// : Redis Sentinel"),
        ("redis+sentinel://one:26379/mymaster", "Redis Sentinel"),
        ("cluster://one", "Redis Cluster"),
        ("rediss+cluster://one", "Redis Cluster"),
        ("unix:///run/redis.sock", "unix:// : Unix sockets"),
        ("redis+socket:///run/redis.sock", "redis+socket:// : Unix sockets"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_redis_url(text)
    message = str(caught.value)
    assert says in message
    assert SECRET not in message
    assert "12" not in message, "a piece of the password"
