"""What to tell people when Redis does not answer, or answers with an error.

RedisError
├── TimeIsUpError
├── SentinelError
├── NotReplicatedError
└── WrongServerError
"""

from __future__ import annotations

import re
import socket
import ssl

import redis

from .rights import needed_rights
from .settings import Settings

RedisError = redis.RedisError
AuthenticationError = redis.AuthenticationError
DataError = redis.DataError
OutOfMemoryError = redis.OutOfMemoryError
"""These are for rooms that do not import redis."""

_CHECK = "check COURIER_REDIS_URL, and that it runs there"
_WAITS = "nothing is lost: it goes on by itself"


class TimeIsUpError(redis.TimeoutError):
    """Raised when the caller's time is up, whatever was being done."""


class SentinelError(redis.ConnectionError):
    """Raised when Sentinels name no primary. Its text says why, in words."""


class NotReplicatedError(redis.RedisError):
    """Raised when Redis took something, and too few replicas acknowledged it in time."""

    def __init__(self, acknowledged: int, wanted: int) -> None:
        self.acknowledged = acknowledged
        self.wanted = wanted
        super().__init__(f"{acknowledged} of {wanted} replicas acknowledged it in time")


class WrongServerError(redis.ConnectionError):
    """Raised when Redis answers that it is not, or not now, the server to ask.

    Its text is Redis's answer, its first word included. The connection is closed by then. It is a
    `redis.ConnectionError`, so whatever retries after a lost connection retries after it.
    """


_CODES: dict[type[Exception], str] = {
    redis.ReadOnlyError: "READONLY",
    redis.OutOfMemoryError: "OOM",
    redis.BusyLoadingError: "LOADING",
    redis.exceptions.NoPermissionError: "NOPERM",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.NoScriptError: "NOSCRIPT",
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.ClusterCrossSlotError: "CROSSSLOT",
}
_CONNECTING = re.compile(r"connecting to (\S+?:\d+)")
_WORD = re.compile(r"[A-Z]{3,}(?= )")


def code_of(error: Exception) -> str:
    """The first word of Redis's answer, such as `READONLY`; "" if the error is no such answer.

    redis-py takes the word away where it has a class for it. Redis 6 wraps what a script met:
    `ERR Error running script (…): @user_script:7: -READONLY You can't …`.
    """
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, redis.AuthenticationError):
        return "NOAUTH" if "required" in str(error) else "WRONGPASS"
    if not isinstance(error, (redis.ResponseError, WrongServerError)):
        return ""
    if "ACL failure in script" in str(error):
        return "NOPERM"
    _, _, inner = str(error).partition(": -")
    found = _WORD.match(inner) or _WORD.match(str(error))
    return found[0] if found else "ERR"


def text_of(error: Exception) -> str:
    """Redis's answer without its first word, and without the place in a script."""
    text = str(error)
    _, _, inner = text.partition(": -")
    if _WORD.match(inner):
        text = inner
    text = text.removeprefix(f"{code_of(error)} ")
    return re.split(r",? script: (?:[0-9a-f]{40}|on @user_script)|, on @user_script", text)[
        0
    ].strip()


def describe_redis_error(settings: Settings, error: Exception) -> str:
    """Say in a sentence what is wrong with Redis, in Redis's own words, and what to do.

    No password is in it.
    """
    node = getattr(error, "node", "")  # of a cluster, the one that failed
    at = f"{settings.redis_address}, node {node}," if node else settings.redis_address
    return f"Redis at {at} {_what(error, settings)}"


def _what(error: Exception, settings: Settings) -> str:
    if isinstance(error, NotReplicatedError):
        return (
            f"took it, and {error} (COURIER_WAIT_REPLICAS): it is delivered, unless the primary "
            "fails before a replica has it. Asking again with the same idempotency key is safe"
        )
    code = code_of(error)
    producer, worker = needed_rights(settings.redis)
    if not code:
        return _silence(error, settings)
    answer = f"{code} {text_of(error)}" if code != "ERR" else text_of(error)
    answer = answer[:300].rstrip(".")
    match code:
        case "OOM":
            return (
                f"is out of memory ({answer}): raise its maxmemory, or take data out of it. "
                f"Until then it takes no job, and {_WAITS}. Its maxmemory-policy must be noeviction"
            )
        case "NOAUTH":
            return (
                f"asks for a password ({answer}): put it into COURIER_REDIS_URL, "
                "as redis://user:password@host:6379/0"
            )
        case "WRONGPASS":
            return f"refuses the login ({answer}): check user and password in COURIER_REDIS_URL"
        case "NOPERM":
            return (
                f"refuses a command, key or channel ({answer}): give the user of "
                f"COURIER_REDIS_URL the rights. A worker needs: {worker} - "
                f"a producer: {producer}"
            )
        case "WRONGTYPE":
            return (
                f"answers with an error ({answer}): one of the courier's keys holds another type "
                "of value than the courier's; `courier ping` names it"
            )
        case "READONLY":
            if settings.redis.kind == "sentinel":
                return f"is a replica, which takes no writes ({answer}): a failover; {_WAITS}"
            return (
                f"is a replica, which takes no writes ({answer}): COURIER_REDIS_URL must lead to "
                f"the primary. After a failover {_WAITS}"
            )
        case "MASTERDOWN":
            return f"is a replica without its primary ({answer}); {_WAITS} with a primary"
        case "LOADING":
            return f"is loading its data ({answer}); {_WAITS}"
        case "UNBLOCKED":
            return f"changes its role ({answer}); {_WAITS}"
        case "MISCONF" | "NOREPLICAS":
            return f"takes no writes ({answer}): mend that in Redis; {_WAITS} then"
        case "CLUSTERDOWN" if settings.redis.kind == "cluster":
            return (
                f"does not serve this part of the cluster now ({answer}): is a primary down "
                f"without a replica? {_WAITS.capitalize()}"
            )
        case "MOVED" | "ASK" | "TRYAGAIN" if settings.redis.kind == "cluster":
            return f"hands a slot over to another node ({answer}); {_WAITS}"
        case "MOVED" | "ASK" | "TRYAGAIN" | "CROSSSLOT" | "CLUSTERDOWN":
            return (
                f"is part of a Redis Cluster ({answer}): name the cluster in COURIER_REDIS_URL, as "
                "cluster://host:6379,host:6379, and another broker in COURIER_BROKER_URL"
            )
        case "ERR" if "cluster support disabled" in answer:
            return f"is no cluster ({answer}): COURIER_REDIS_URL must be redis://host:6379/0"
    return f"answers with an error ({answer})"


def _silence(error: Exception, settings: Settings) -> str:
    causes: list[BaseException | None] = [error, error.__cause__, error.__context__]
    text = str(error)
    if isinstance(error, SentinelError):
        return f"is not found: {text}"
    named = _CONNECTING.search(text) if settings.redis.kind == "sentinel" else None
    if named:
        reason = "it does not answer in time"
        if not isinstance(error, redis.TimeoutError):
            reason = f"it does not answer ({reason_of(text)})"
        return (
            f"is {named[1]}, its Sentinels say: {reason}. A failover takes some seconds; if it "
            "lasts, this address cannot be reached from here: see `announce-ip` in its "
            "configuration and the Sentinels'"
        )
    if isinstance(error, redis.TimeoutError):
        return f"does not answer in time; {_CHECK}"
    if "max number of clients" in text:
        return f"answers with an error ({text}): raise its maxclients, or end some of its clients"
    if any(isinstance(each, ssl.SSLError) for each in causes) or "SSL" in text:
        return (
            f"cannot be talked to by TLS ({reason_of(text)}): check that it speaks TLS "
            "(rediss://) and that its certificate is valid; a CA of your own is named by "
            "COURIER_REDIS_CA_FILE, and a client's certificate, if it asks for one, by "
            "COURIER_REDIS_CERT_FILE"
        )
    if any(isinstance(each, socket.gaierror) for each in causes) or "Name or service" in text:
        return (
            f"does not answer: its name is not known ({reason_of(text)}); check COURIER_REDIS_URL"
        )
    if isinstance(error, redis.InvalidResponse):
        return f"is no Redis: its answer cannot be read; {_CHECK}"
    if isinstance(error, (redis.ConnectionError, OSError)):
        return f"does not answer ({reason_of(text)}); {_CHECK}"
    return f"cannot be used ({type(error).__name__})"


def reason_of(text: str) -> str:
    """Why a connection failed, without what redis-py says of the place.

    `Error 111 connecting to host:6379. Connection refused.` → `Connection refused`."""
    text = re.sub(r" ?\(_ssl\.c:\d+\)", "", text)
    text = re.sub(r"^Error \S+ (while writing to socket|connecting to \S+)\. ", "", text)
    text = re.sub(r"^Error while reading from \S+ ?: ?", "", text).strip("() .")
    text = re.sub(r"^\d+, ['\"](.*)['\"]$", r"\1", text.strip("() ."))
    return text[:200] or "the connection was lost"
