"""How patient deliveries are, as the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.settings import Confirm, Settings


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How patient to be, by the settings of the same names."""

    confirm: Confirm
    unmatched_delays_s: tuple[float, ...]
    unconfirmed_delays_s: tuple[float, ...]
    give_up_after_s: float
    timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        return cls(
            confirm=settings.confirm,
            unmatched_delays_s=settings.unmatched_delays_s,
            unconfirmed_delays_s=settings.unconfirmed_delays_s,
            give_up_after_s=settings.give_up_after_s,
            timeout_s=settings.timeout_s,
        )
