"""Names of Celery's tasks, queues and keys, for whoever sends messages, with or without Celery."""

from __future__ import annotations

ACCEPT_TASK = "attribute_courier.accept"
"""Task name; argument: account."""
ACCEPT_SHOWN = "what is in the inbox"
ACCEPT_QUEUE = "attribute_courier.accept"
"""A broker may be shared with applications: so a name that no other has."""
DELIVER_TASK = "attribute_courier.deliver"
DELIVER_QUEUE = "attribute_courier.deliver"

JOB_TASK = "attribute_courier.add_attributes"
"""The name under which Flower shows live jobs. No message has it."""

KEY_PREFIX = "courier:celery:"
"""Before every key of Celery's: another application's queues in the same Redis stay apart."""
