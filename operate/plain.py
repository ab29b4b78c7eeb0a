"""How things stand, as JSON types: for commands and for Flower's API."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from ..state.account import AccountStatus
from ..state.health import RedisHealth
from .picture import Picture

_COUNTED = ("counts", "hour")
"""Fields of an account whose content is given in a shorter form."""


def plain(value: Any) -> Any:
    """As JSON types: times in ISO 8601, dataclasses as objects."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value


def redis_documents(picture: Picture) -> dict[str, Any]:
    """How Redis is; of a cluster, also each of its nodes."""
    nodes = {"redis_nodes": [_redis_document(each) for each in picture.nodes]}
    return {"redis": _redis_document(picture.redis), **(nodes if picture.nodes else {})}


def _redis_document(redis: RedisHealth) -> dict[str, Any]:
    return {**asdict(redis), "evicts": redis.evicts, "head_room": redis.head_room}


def account_document(status: AccountStatus, reasons: str) -> dict[str, Any]:
    """How an account stands. `reasons` names the field of the last hour's jobs by reason."""
    fields = {name: each for name, each in vars(status).items() if name not in _COUNTED}
    document: dict[str, Any] = plain(fields)
    return document | {
        "state": status.state,
        "waiting": status.waiting,
        "last_hour": status.last_hour,
        reasons: [
            {"status": name, "reason": reason, "jobs": jobs}
            for (name, reason), jobs in status.hour.by_reason().items()
        ],
        "last_hour_attempts": dict(status.hour.attempts),
    }
