"""A Django project in one file, as `test_outbox` runs it: `python django_host.py ACTION`."""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["attribute_courier.producers.django"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["APP_DB"]}},
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

from attribute_courier.producers.django import (  # noqa: E402
    add_attributes_in_outbox,
    add_attributes_on_commit,
)

ADA = "ada@example.com"


class Undo(Exception):  # noqa: N818
    """Rolls a transaction back."""


def on_commit() -> None:
    """Of four jobs, the first and the last are sent."""
    with transaction.atomic():
        add_attributes_on_commit("0@load.example", {"n": 0})
        try:
            with transaction.atomic():
                add_attributes_on_commit("1@load.example", {"n": 1})
                raise Undo
        except Undo:
            pass
    try:
        with transaction.atomic():
            add_attributes_on_commit("2@load.example", {"n": 2})
            raise Undo
    except Undo:
        pass
    add_attributes_on_commit("3@load.example", {"n": 3})


def outbox() -> None:
    """Of two rows, one stays."""
    try:
        with transaction.atomic():
            add_attributes_in_outbox(ADA, {"plan": "free"})
            raise Undo
    except Undo:
        pass
    with transaction.atomic():
        receipt = add_attributes_in_outbox(ADA, {"plan": "pro"})
    sys.stdout.write(receipt.job_id)


def migrate() -> None:
    """Make the table, and see that no migration is missing."""
    call_command("migrate", verbosity=0)
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


{"on_commit": on_commit, "outbox": outbox, "migrate": migrate}[sys.argv[1]]()
