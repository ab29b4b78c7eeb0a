"""The pytest plugin: one fixture.

Every project that has the package loads this, so it imports nothing until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .captured import Capture


@pytest.fixture
def captured_attributes() -> Iterator[Capture]:
    """Capture the jobs of this test (`attribute_courier.testing.capture`)."""
    from .captured import capture

    with capture() as captured:
        yield captured
