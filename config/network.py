"""Proxies and certificates that the environment names for HTTPS: can they be used at all?

The HTTP library reads the same variables; it would find out only with the first request, and say
so in its own words.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .errors import SettingsError
from .settings import Settings

_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def network_faults(environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with proxies and certificates, a sentence each, with the variable's name.

    No value of a proxy's variable is shown, since it may hold a password.
    """
    environ = os.environ if environ is None else environ
    faults = [
        f"{name}: {fault}"
        for name in _PROXIES
        if (url := environ.get(name, "").strip()) and (fault := _proxy_fault(url))
    ]
    faults += [
        f"{name}: {fault}"
        for name in _CERTIFICATES
        if (path := environ.get(name)) and (fault := _certificate_fault(Path(path)))
    ]
    return faults


def _proxy_fault(url: str) -> str:
    if "://" not in url:
        url = f"http://{url}"  # as the HTTP library takes it
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if "[" in parts.netloc:
            ipaddress.IPv6Address((host or "").partition("%")[0])
        fits = "@" not in parts.path + parts.query + parts.fragment and not re.search(r"\s", url)
    except ValueError:
        fits = False
    if not fits:
        return (
            "not a proxy's URL; it must look like http://user:password@proxy.example:3128, "
            "with '/', '?', '#' and '@' in the password percent-encoded"
        )
    if parts.scheme not in ("http", "https"):
        return "a proxy's URL begins with http:// or https://; SOCKS proxies are not supported"
    if not host or port == 0:
        return "names no proxy's host, or no port; it must look like http://proxy.example:3128"
    return ""


def _certificate_fault(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist"
    try:
        if path.is_dir():
            return "" if any(path.iterdir()) else f"{path} is an empty folder"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} holds no certificates that can be read; it must be a PEM file"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or 'not a file'}"
    return ""


def check_for_work(settings: Settings) -> None:
    """Whether the settings are enough for a worker.

    Raises:
        SettingsError: the courier is turned off, an account has no API key, a hook lacks what it
            needs, or a proxy or certificate cannot be used.
    """
    if not settings.enabled:
        raise SettingsError(
            "the courier is turned off (COURIER_ENABLED): a worker would deliver all the same. "
            "Turn it on, or run no worker"
        )
    for account in settings.accounts:
        settings.api_key(account)
    if settings.hook_url and settings.hook_task:
        raise SettingsError("COURIER_HOOK_URL, COURIER_HOOK_TASK: set one of them, not both")
    if settings.hook_url and not settings.hook_secrets:
        raise SettingsError("COURIER_HOOK_URL: needs COURIER_HOOK_SECRET, to sign what is sent")
    if settings.hook_task and not settings.hook_broker_url:
        raise SettingsError(
            "COURIER_HOOK_TASK: needs COURIER_HOOK_BROKER_URL, the broker of its application"
        )
    if faults := network_faults():
        raise SettingsError("; ".join(faults))
