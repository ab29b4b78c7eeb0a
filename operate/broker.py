"""A message through the real broker and back, on a queue of its own."""

from __future__ import annotations

import secrets
import time
from queue import Empty

from kombu import Producer, Queue

from ..config import Settings
from ..config.celery import make_celery

WITHIN_S = 5.0


def round_trip_s(settings: Settings) -> float:
    """Send a message as a producer does, and take it as a worker does. No worker sees it.

    Returns:
        How long it took, in seconds.

    Raises:
        TimeoutError: it did not come back within some seconds.
        Exception: of the broker's transport, whatever it raises.
    """
    name = f"doctor-{secrets.token_hex(8)}"
    with make_celery(settings).connection_for_write() as connection:
        channel = connection.channel()
        queue = Queue(name, exclusive=True, auto_delete=True, durable=False)(channel)
        queue.queue_declare()
        try:
            began_s = time.monotonic()
            Producer(channel).publish({"doctor": name}, routing_key=name)
            while time.monotonic() < began_s + WITHIN_S:
                try:
                    message = queue.get(no_ack=True)
                except Empty:
                    message = None
                if message is not None and message.payload == {"doctor": name}:
                    return time.monotonic() - began_s
                time.sleep(0.01)
        finally:
            queue.delete()
    raise TimeoutError(f"no message came back within {WITHIN_S:g} s")
