"""Two pages inside Flower, and what it shows of tasks: for whoever watches in a browser."""

from .plug import add_pages

__all__ = ["add_pages"]
