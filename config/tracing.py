"""Traces, where OpenTelemetry's API is installed (the extra `otel`); else nothing is imported.

A trace goes from `add_attributes()` to the request: the job carries the context of its producer's
span, as W3C's `traceparent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from types import ModuleType
from typing import Protocol


class Sending(Protocol):
    """A job that is being handed over."""

    traceparent: str | None = None
    """For the job to carry; None where nothing is traced."""

    def taken(self, job_id: str) -> None:
        """The job with this id answers for it."""


class _Untraced:
    traceparent: str | None = None

    def taken(self, job_id: str) -> None:
        """Nothing."""


_UNTRACED = nullcontext(_Untraced())


@cache
def otel() -> ModuleType | None:
    """The module that makes spans; None without OpenTelemetry."""
    try:
        from . import spans
    except ImportError:
        return None
    return spans


def sending(account: str) -> AbstractContextManager[Sending]:
    """A span for handing one job over."""
    module = otel()
    return _guarded(module.sending(account)) if module else _UNTRACED


@contextmanager
def _guarded(traced: AbstractContextManager[Sending]) -> Iterator[Sending]:
    """What a processor of spans raises must not fail a call whose job was taken."""
    try:
        sent = traced.__enter__()
    except Exception:
        yield _Untraced()
        return
    try:
        yield sent
    except BaseException as error:
        with suppress(Exception):
            traced.__exit__(type(error), error, error.__traceback__)
        raise
    with suppress(Exception):
        traced.__exit__(None, None, None)


def apart() -> AbstractContextManager[None]:
    """Within this block, nothing belongs to the trace that is current outside."""
    module = otel()
    found: AbstractContextManager[None] = module.apart() if module else nullcontext()
    return found
