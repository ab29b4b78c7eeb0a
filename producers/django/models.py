"""The outbox's table for Django."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.expressions import Func

from ...jobs.outbox import TABLE, WRITTEN_US


class Outbox(models.Model):
    """One job in the outbox. `jobs/outbox.py` says what the columns hold."""

    id = models.BigAutoField(primary_key=True)
    job_id = models.CharField(max_length=36, unique=True)
    account = models.CharField(max_length=32)
    lane = models.CharField(max_length=4)
    document = models.TextField()
    written_us = models.BigIntegerField()

    class Meta:
        app_label = "attribute_courier"
        db_table = TABLE


class WrittenUs(Func):
    """The database's time of the statement: microseconds since 1970."""

    output_field = models.BigIntegerField()
    arity = 0

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, list[Any]]:
        try:
            return WRITTEN_US[connection.vendor], []
        except KeyError:
            known = ", ".join(WRITTEN_US)
            raise NotImplementedError(
                f"the outbox knows {known}, and not {connection.vendor}"
            ) from None
