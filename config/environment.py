"""Variables of the environment that are nearly one of ours: most likely a slip of the pen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

_OURS = re.compile(r"(COURIER|CHARTMOGUL)\w+", re.IGNORECASE)
# Kubernetes makes these for a service named "courier", and others like them.
_NOT_A_SLIP = re.compile(r"\w*_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_\w+)")


def near_misses(environ: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """The variables that are nearly one of `known`: wrong name → right name.

    One letter or two missing, added, exchanged or in another order; an underscore too many or too
    few. Any other variable is left alone: other products make their own, and Kubernetes makes
    some for each service.
    """
    right_names = sorted(set(known))
    found = {}
    for name in environ:
        if name in right_names or not _OURS.fullmatch(name) or _NOT_A_SLIP.fullmatch(name):
            continue
        # Others with this beginning are of accounts that are not served here.
        of_key = [each for each in right_names if each.endswith("_API_KEY_FILE")]
        rights = of_key if name.startswith("CHARTMOGUL_API_KEY_") else right_names
        right = min(rights, key=lambda each: _distance(name, each), default="")
        if _distance(name, right) <= (1 if len(_tail(right)) < 9 else 2):
            found[name] = right
    return found


def _tail(name: str) -> str:
    return name.partition("_")[2]


def _distance(one: str, other: str) -> int:
    """Letters to insert, delete, exchange, or swap with their neighbour; underscores are free."""
    one, other = one.replace("_", "").upper(), other.replace("_", "")
    if abs(len(one) - len(other)) > 2 or SequenceMatcher(None, one, other).ratio() < 0.75:
        return 99
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        now = [i]
        for j, right in enumerate(other, start=1):
            cost = min(row[j] + 1, now[-1] + 1, row[j - 1] + (letter != right))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, row = row, now
    return row[-1]
