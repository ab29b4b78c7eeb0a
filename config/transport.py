"""How Kombu is to talk to a broker that is no Redis. Kombu is imported only when this is asked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from .connections import CONNECT_TIMEOUT_S, PATIENT_TIMEOUT_S
from .errors import SettingsError
from .rules import BETWEEN_BROKERS, scheme_of
from .settings import Settings

HEARTBEAT_S = 10.0
"""A worker's connection to RabbitMQ that is silent for about twice as long counts as lost."""
MESSAGE_TTL_S = 60
MOST_MESSAGES = 10_000
QUEUE_ARGUMENTS = {
    # Whatever a virtual host's default is. What is lost with a queue's node is asked for again.
    "x-queue-type": "classic",
    # Workers ask again each second for what is still to be done: an older message is worth nothing.
    "x-message-ttl": MESSAGE_TTL_S * 1000,
    "x-max-length": MOST_MESSAGES,  # the oldest are dropped
}
"""So that nobody's broker fills up while no worker runs. Brokers but RabbitMQ ignore them."""

_AMQP = {"amqp": "pyamqp", "pyamqp": "pyamqp", "amqps": "amqps"}
"""Scheme → Kombu's transport; by itself Kombu would take librabbitmq where it is installed."""


@dataclass(frozen=True, kw_only=True)
class Transport:
    """What `kombu.Connection` takes."""

    url: str
    """With the password."""
    name: str | None
    """Kombu's name of it; None for what the URL says."""
    amqp: bool
    ssl: dict[str, Any] | None
    options: dict[str, Any]

    def of_connection(self) -> dict[str, Any]:
        """The arguments of a connection beside the URL."""
        options: dict[str, Any] = {"transport": self.name, "transport_options": self.options}
        if self.amqp:
            options["connect_timeout"] = CONNECT_TIMEOUT_S
        if self.ssl:
            options["ssl"] = self.ssl
        return options


def transport_of(settings: Settings) -> Transport:
    """How the broker that `settings` name is talked to.

    Raises:
        SettingsError: Kombu knows no such broker, or a library is not installed.
    """
    url = settings.messages_url.reveal()
    scheme = scheme_of(url)
    if scheme in _AMQP:
        return Transport(
            url=url,
            name=_AMQP[scheme],
            amqp=True,
            # Kombu verifies no certificate unless told to; None stands for the URL's host.
            ssl={"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
            if scheme == "amqps"
            else None,
            options={"read_timeout": PATIENT_TIMEOUT_S, "write_timeout": PATIENT_TIMEOUT_S},
        )
    from kombu import Connection
    from kombu.transport import get_transport_cls

    try:
        kind: Any = get_transport_cls(scheme.partition("+")[0])
        _ = Connection(url.partition("?")[0]).transport  # some find out here what they lack
    except ImportError as error:
        raise SettingsError(
            f"COURIER_BROKER_URL: a broker {scheme}:// needs a library ({error})"
        ) from None
    except Exception:  # in each version of Kombu another one
        raise SettingsError(f"COURIER_BROKER_URL: Kombu knows no broker {scheme}://") from None
    options: dict[str, Any] = {}
    if not kind.can_parse_url and not BETWEEN_BROKERS.search(url):
        url, _, query = url.partition("?")
        options = {name: _value(text) for name, text in parse_qsl(query)}
    return Transport(url=url, name=None, amqp=False, ssl=None, options=options)


def _value(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        return text
