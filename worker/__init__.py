"""What Celery runs: accepting jobs, delivering them, settling what became of them."""

from .app import app

__all__ = ["app"]
