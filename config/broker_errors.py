"""What to tell people when the broker does not answer, or answers with an error."""

from __future__ import annotations

import re
import socket
import ssl
from urllib.parse import unquote

from .redis_errors import describe_redis_error
from .rules import BETWEEN_BROKERS
from .settings import Settings

_CHECK = "check COURIER_BROKER_URL, and that it runs there"


def describe_broker_error(settings: Settings, error: BaseException) -> str:
    """Say in a sentence what is wrong with the broker, in its own words, and what to do.

    No password is in it.
    """
    if not settings.own_broker and isinstance(error, Exception):
        return describe_redis_error(settings, error)
    if settings.broker is not None and isinstance(error, Exception):
        text = describe_redis_error(settings.of_broker(), error)
        return f"The broker, {text}".replace("COURIER_REDIS_URL", "COURIER_BROKER_URL")
    # Kombu wraps what it met.
    cause = error.__cause__ if type(error).__name__ == "OperationalError" else None
    what = _what(cause or error)
    return f"The broker at {settings.broker_address} {_masked(what, settings)}"


def _what(error: BaseException) -> str:
    said = _said(error)
    if isinstance(error, socket.gaierror):
        return f"does not answer: its name is not known ({said}); check COURIER_BROKER_URL"
    if isinstance(error, ssl.SSLError):
        return (
            f"cannot be talked to by TLS ({said}): check that it speaks TLS and that its "
            "certificate is valid; a CA of your own is named by SSL_CERT_FILE"
        )
    if isinstance(error, TimeoutError):
        return f"does not answer in time; {_CHECK}"
    # AMQP's codes, as py-amqp's errors have them.
    match getattr(error, "code", None) or getattr(error, "reply_code", None):
        case 403:
            return f"refuses it ({said}): check user, password and rights of COURIER_BROKER_URL"
        case 402 | 530:
            return f"refuses it ({said}): check the virtual host of COURIER_BROKER_URL"
        case 406:
            return (
                f"has something else under one of our names ({said}): delete it there, or give the "
                "courier a virtual host of its own"
            )
        case 320:
            return f"closed the connection ({said}): it goes on by itself once it runs again"
    if isinstance(error, OSError):
        return f"does not answer ({said}); {_CHECK}"
    return f"answers with an error ({type(error).__name__}: {said})"


def _said(error: BaseException) -> str:
    text = getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error)
    return str(text).strip(" .()")[:200] or type(error).__name__


def _masked(text: str, settings: Settings) -> str:
    """Without a password, which a library may repeat."""
    for url in BETWEEN_BROKERS.split(settings.messages_url.reveal()):
        login = url.partition("://")[2].rpartition("@")[0]
        text = text.replace(url, "***")
        for part in filter(None, re.split(":", login)[1:]):
            text = text.replace(part, "***").replace(unquote(part), "***")
    return text
