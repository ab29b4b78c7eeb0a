"""For applications that use Django: jobs that belong to a transaction.

Add `attribute_courier.producers.django` to INSTALLED_APPS and run `manage.py migrate`: that is the
outbox's table. `add_attributes_on_commit` works without.
"""

from .transactions import add_attributes_in_outbox, add_attributes_on_commit

__all__ = ["add_attributes_in_outbox", "add_attributes_on_commit"]
