"""Emails that somebody searched for: a page's address has a random word in place of the email."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict

KEPT = 1_000
KEPT_S = 3_600.0


class Searches:
    """Remembers the last searches, in memory alone. Used by one thread."""

    def __init__(self) -> None:
        self._emails: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, email: str) -> str:
        """A word for this email, good for an hour."""
        word = secrets.token_urlsafe(12)
        self._emails[word] = (email, time.monotonic() + KEPT_S)
        while len(self._emails) > KEPT:
            self._emails.popitem(last=False)
        return word

    def email_of(self, word: str) -> str | None:
        """The email that this word stands for; None if it is not known, or no more."""
        email, ends_s = self._emails.get(word, (None, 0.0))
        return email if time.monotonic() < ends_s else None
