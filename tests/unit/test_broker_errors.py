"""What is said of a broker that does not answer, or answers with an error; never a password."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace

import pytest
import redis
from amqp import exceptions as amqp
from kombu.exceptions import OperationalError

from attribute_courier.config import Secret, Settings, SettingsError
from attribute_courier.config.broker_errors import describe_broker_error
from attribute_courier.config.celery import make_celery

PASSWORD = "hush/never-shown"
URL = "amqp://ada:hush%2Fnever-shown@mq.example:5673/shop"
SETTINGS = Settings(broker_url=URL)


def wrapped(error: Exception) -> Exception:
    found = OperationalError(str(error))
    found.__cause__ = error
    return found


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "does not answer (Connection refused)"),
        (wrapped(ConnectionRefusedError(111, "Connection refused")), "(Connection refused); check"),
        (socket.gaierror(-2, "Name or service not known"), "its name is not known"),
        (TimeoutError("timed out"), "does not answer in time"),
        (ssl.SSLCertVerificationError(1, "verify failed"), "cannot be talked to by TLS"),
        (amqp.AccessRefused("ACCESS_REFUSED - Login refused"), "check user, password and rights"),
        (amqp.NotAllowed("NOT_ALLOWED - vhost shop not found"), "check the virtual host"),
        (amqp.PreconditionFailed("inequivalent arg 'x-message-ttl'"), "delete it there"),
        (amqp.ConnectionForced("CONNECTION_FORCED - shut down"), "goes on by itself"),
        (ValueError(f"cannot use {URL} with {PASSWORD}"), "answers with an error (ValueError: "),
    ],
)  # fmt: skip
def test_an_error_is_said_in_words(error: Exception, said: str) -> None:
    text = describe_broker_error(SETTINGS, error)
    assert text.startswith("The broker at amqp://mq.example:5673/shop ")
    assert said in text
    assert "hush" not in text


def test_a_second_redis_is_told_from_the_first() -> None:
    error = redis.ConnectionError("Error 111 connecting to b:6379. Connection refused.")
    state = Settings(redis_url="redis://a:6379/0")
    assert describe_broker_error(state, error).startswith("Redis at redis://a:6379/0 ")
    second = replace(state, broker_url=f"redis://:{'pw'}@b:6379/0")
    text = describe_broker_error(second, error)
    assert text.startswith("The broker, Redis at redis://b:6379/0 ")
    assert "check COURIER_BROKER_URL" in text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("carrier-pigeon://loft", "must look like amqp://"),
        ("pigeon://loft", "Kombu knows no broker pigeon://"),
        ("zookeeper://loft", "needs a library .*kazoo"),
    ],
)
def test_a_broker_that_kombu_has_not_is_refused_at_once(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        make_celery(Settings(broker_url=url))


def test_options_of_a_transport_stand_behind_its_url() -> None:
    app = make_celery(
        Settings(broker_url="filesystem://?data_folder_in=/a%20b&store_processed=true")
    )
    with app.connection_for_write() as connection:
        assert connection.transport_options == {
            "data_folder_in": "/a b",
            "store_processed": True,
        }


def test_certificates_of_rabbitmq_are_verified() -> None:
    app = make_celery(Settings(broker_url=Secret("amqps://ada:pw@mq.example")))
    with app.connection_for_write() as connection:
        assert connection.ssl == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
        assert connection.transport_cls == "amqps"
