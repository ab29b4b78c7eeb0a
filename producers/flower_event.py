"""Showing Flower that a job was taken back: the worker that reported it as received learns nothing.

The event is written here by hand, for the reasons that `wakeup` has.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
from uuid import uuid4

from ..config.connections import Client
from ..config.messages import JOB_TASK, KEY_PREFIX
from ..config.redis_errors import RedisError
from ..jobs.emails import describe
from ..jobs.outcome import Outcome
from ..state.workers import Workers

log = logging.getLogger(__name__)


def tell_flower(client: Client, outcome: Outcome) -> None:
    """Report a canceled job as a revoked task. Never raises an error of Redis.

    In the name of a worker that is alive, since Flower takes each name for a worker. Without one
    nothing is told, nor for bulk jobs, which Flower does not show.
    """
    if outcome.lane == "bulk":
        return
    try:
        workers = Workers(client, [outcome.account]).alive()
        if workers:
            database = client.connection_pool.connection_kwargs.get("db", 0)
            channel = f"{KEY_PREFIX}/{database}.celeryev/task.revoked"
            client.publish(channel, _message(outcome, workers[0].name))
    except RedisError:
        log.warning("job %s: Flower is not told that it is canceled", outcome.job_id)


def _message(outcome: Outcome, hostname: str) -> str:
    """An event as Kombu publishes it (Celery's reference "Events", `task-revoked`)."""
    event = {
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
    }
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(event).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"hostname": hostname},
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": "celeryev", "routing_key": "task.revoked"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )
