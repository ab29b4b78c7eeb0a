"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class AttributeCourierConfig(AppConfig):
    """The app that owns the outbox's table."""

    name = "attribute_courier.producers.django"
    label = "attribute_courier"
    verbose_name = "Attribute Courier"
    default_auto_field = "django.db.models.BigAutoField"
