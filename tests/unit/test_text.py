"""What may be printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attribute_courier.jobs.text import printable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Größe 😀 日本", "Größe 😀 日本"),
        ("a\nb\r\n\tc", "a b   c"),
        ("a\u2028b\u00a0c", "a b c"),
        ("\x1b[31mred", "�[31mred"),
        ("a\u202eb\u2066c\u200bd\ufeffe", "a�b�c�d�e"),
        ("\x00\x07\ud83d", "���"),
    ],
)
def test_a_text_is_made_one_printable_line(text: str, line: str) -> None:
    assert printable(text) == line


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_can_be_printed(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text).encode()) >= len(text)
