"""Durations as people write them."""

from __future__ import annotations

import re

_UNITS_S = {
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3_600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
}
_PART = re.compile(r"([0-9]{1,12})(ms|[wdhms])")


def parse_duration(text: str) -> float:
    """`90`, `1.5`, `500ms`, `30s`, `5m`, `1h30m`, `30d` → seconds.

    Raises:
        ValueError: the text is no duration; the message says how to write one.
    """
    text = text.strip()
    try:
        return float(text)
    except ValueError:
        pass
    parts = _PART.findall(text.replace(" ", ""))
    if not parts or "".join(map("".join, parts)) != text.replace(" ", ""):
        raise ValueError("not a duration; write seconds (2.5) or 500ms, 30s, 5m, 1h30m, 30d")
    return sum(int(number) * _UNITS_S[unit] for number, unit in parts)
