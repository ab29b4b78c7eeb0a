"""An application with a Celery app of its own, as `test_install` runs it.

`celery -A celery_host worker` is its worker, `python -m celery_host enqueue EMAIL` its web process.
HOST_CONF holds settings of the app, as JSON, and HOST_INSTALL the arguments of `install`.
"""

from __future__ import annotations

import json
import os
import sys
import time

import redis
from celery import Celery

from attribute_courier import add_attributes
from attribute_courier.worker import install

BROKER = os.environ["HOST_BROKER"]

app = Celery("host", broker=BROKER)
app.conf.update(
    {"broker_connection_retry_on_startup": True} | json.loads(os.environ.get("HOST_CONF", "{}"))
)
if "HOST_INSTALL" in os.environ:
    install(app, **json.loads(os.environ["HOST_INSTALL"]))


@app.task(name="host.own")
def own(number: int) -> None:
    """What the application's worker is there for."""
    with redis.Redis.from_url(BROKER) as client:
        client.sadd("own-done", number)


if __name__ == "__main__":
    began_s = time.monotonic()
    receipt = add_attributes(sys.argv[1], {"n": 1})
    sys.stdout.write(f"{receipt.job_id} {time.monotonic() - began_s:.3f}\n")
