"""What is tried: the courier, or a plain Celery task."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from attribute_courier.sandbox import LeashedProcess, SandboxProcess

from .checker import Ask, Counted, Outcome

RATE, AT_ONCE, TIMEOUT_S = 19, 8, 1.0
"""What the workers are told: requests a second, requests at once, and seconds of one."""

Answer = tuple[Literal["taken", "unknown"], str | None]
"""What a producer is told: whether the job is taken, and its id."""


class Way(Protocol):
    """Producers and workers, both set up by the environment."""

    @staticmethod
    def environ(redis_url: str, stand_in: SandboxProcess) -> dict[str, str]: ...

    def start_worker(self, log: Path, number: int) -> LeashedProcess: ...

    def take(self, ask: Ask, *, direct: bool) -> Answer:
        """Hand over a job; `direct`: without the courier's producer, as another language would."""

    def damage(self, email: str, draw: random.Random) -> None:
        """Take away something of what is kept for an email."""

    def after_damage(self, emails: Sequence[str]) -> dict[str, str]:
        """What becomes of a new job for each of these emails."""

    def outcomes(self, asks: Sequence[Ask]) -> tuple[dict[str, Outcome], int]:
        """Of all jobs, as far as they are known; and how many were never accepted."""

    def counted(self) -> Counted | None:
        """What the metrics say, if there are metrics."""
