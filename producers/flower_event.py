"""Showing Flower that a job was taken back: the worker that had reported it learns nothing."""

from __future__ import annotations

import logging
import os
import time
from uuid import uuid4

from ..config import Settings
from ..config.broker_errors import describe_broker_error
from ..config.connections import Client
from ..config.messages import JOB_TASK
from ..config.redis_errors import RedisError, describe_redis_error
from ..jobs.emails import describe
from ..jobs.outcome import Outcome
from ..state.workers import Workers
from .broker import Broker, Message, NotNow

log = logging.getLogger(__name__)

WITHIN_S = 1.0


def tell_flower(settings: Settings, client: Client, broker: Broker, outcome: Outcome) -> None:
    """Report a canceled job as a revoked task. Never raises an error.

    In the name of a worker that is alive, since Flower takes each name for a worker. Without one
    nothing is told, nor for bulk jobs, which Flower does not show.
    """
    if outcome.lane == "bulk":
        return
    try:
        workers = Workers(client, [outcome.account]).alive()
    except RedisError as error:
        _missed(outcome, describe_redis_error(settings, error))
        return
    if not workers:
        return
    try:
        broker.send(_event(outcome, workers[0].name), deadline_s=time.monotonic() + WITHIN_S)
    except NotNow:
        pass
    except Exception as error:  # of any broker: the job is canceled all the same
        _missed(outcome, describe_broker_error(settings, error))


def _missed(outcome: Outcome, why: str) -> None:
    log.warning("job %s: Flower is not told that it is canceled: %s", outcome.job_id, why)


def _event(outcome: Outcome, hostname: str) -> Message:
    """An event of Celery's (its reference "Events", `task-revoked`)."""
    return Message(
        body={
            "type": "task-revoked",
            "uuid": outcome.job_id,
            "name": JOB_TASK,
            "args": describe(outcome.email or "", len(outcome.keys)),
            "exception": outcome.summary(),
            "terminated": False,
            "hostname": hostname,
            "timestamp": time.time(),
            "utcoffset": 0,
            "pid": os.getpid(),
            "clock": 0,
        },
        headers={"hostname": hostname},
        exchange="celeryev",
        routing_key="task.revoked",
        message_id=str(uuid4()),
        lasting=False,
    )
