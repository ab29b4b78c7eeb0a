"""Commands that need an optional extra: each says which one to install, and `--help` needs none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Import what an extra installs; what is missing is a sentence that says how to get it.

    Args:
        extra: its name in pyproject.toml.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a package"
        if not missing.startswith("attribute_courier."):  # else the image for production lacks it
            missing = missing.partition(".")[0]
        raise click.ClickException(
            f"{missing} is not installed: pip install 'attribute-courier[{extra}]'"
        ) from None
