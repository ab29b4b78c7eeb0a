"""Connections to Redis, where the truth about every job is."""

from __future__ import annotations

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from .settings import Settings


def connect_patiently(settings: Settings) -> redis.Redis:
    """A client for the worker: it waits some seconds for a Redis that restarts."""
    backoff = ExponentialWithJitterBackoff(base=0.05, cap=2)
    return _connect(settings, timeout_s=10, retry=Retry(backoff, retries=6))


def connect_briefly(settings: Settings) -> redis.Redis:
    """A client for application code: whatever happens, an answer within the enqueue timeout.

    One command may cost connecting and then waiting for the answer, and once more when a pooled
    connection turns out to be dead; so each step has a quarter of the time.
    """
    step_s = settings.enqueue_timeout_s / 4
    return _connect(settings, timeout_s=step_s, retry=Retry(NoBackoff(), retries=1))


def _connect(settings: Settings, *, timeout_s: float, retry: Retry) -> redis.Redis:
    return redis.Redis.from_url(
        settings.redis_url.reveal(),
        decode_responses=True,
        # What is not UTF-8 comes through as lone surrogates, which no schema lets pass, instead
        # of an exception far from whoever could name the entry.
        encoding_errors="surrogateescape",
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=30,
        retry=retry,
        client_name="attribute-courier",
    )
