"""Files with certificates and keys: can they be used at all, and by whom?

`ssl` is imported where it is used: `courier health` reads the settings, and should be quick.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)


def file_fault(path: Path) -> str:
    """Why a file cannot be read; "" if it can."""
    try:
        with path.open("rb"):
            return ""
    except FileNotFoundError:
        return f"{path} does not exist"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or 'not a file'}"


def ca_fault(path: Path) -> str:
    """Why a file's certificates cannot be trusted; "" if they can."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{path} holds no certificates that can be read; it must be a PEM file"
    return ""


def client_certificate_fault(certificate: Path, key: Path | None) -> str:
    """Why a certificate cannot be shown to a server; "" if it can.

    Args:
        certificate: in PEM form, with the certificates of CAs between.
        key: in PEM form; None where it stands in the certificate's file.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Without a password given, OpenSSL would ask for it at the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error.reason):
            return f"{key or certificate} holds the key of another certificate"
        return (
            f"{key or certificate} and its certificate cannot be used: both must be in PEM form, "
            "and the key without a password"
        )
    return ""


@cache
def warn_if_open(key: Path) -> None:
    """Say so once if others than the owner of a key can read it."""
    if is_open(key):
        log.warning(
            "%s holds a key that every user of this machine can read: chmod 600 %s", key, key
        )


def is_open(key: Path) -> bool:
    """Whether every user of the machine may read a file."""
    return bool(key.stat().st_mode & 0o004)
