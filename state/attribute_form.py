"""How an attribute lies in Redis: its payload in a mailbox, its digest once it was delivered."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from ..jobs.attributes import Attribute, AttributeType
from .claims import Value


def payload_of(attribute: Attribute) -> str:
    """A value as a mailbox holds it: `["String","pro"]`, with its source if it has one."""
    content = [attribute.type, attribute.value]
    if attribute.source is not None:
        content.append(attribute.source)
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def value_of(held: Mapping[str, str]) -> Value:
    """A value as a claim carries it: key, version and payload."""
    type_, value, *source = json.loads(held["payload"])
    return Value(
        version=held["version"],
        attribute=Attribute(
            type=AttributeType(type_),
            key=held["key"],
            value=value,
            source=source[0] if source else None,
        ),
    )


def digest_of(attribute: Attribute) -> str:
    """Eight characters that are the same for the same type and value."""
    content = json.dumps([attribute.type, attribute.value], ensure_ascii=False)
    return urlsafe_b64encode(hashlib.sha256(content.encode()).digest()[:6]).decode()
