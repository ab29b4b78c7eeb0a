"""Text that anybody may have written, made fit for one line of a log, a terminal or a file."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 job`, `2,000 jobs`; `many` where it has another ending."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """The text on one line: white space becomes a space, what cannot be printed becomes "�".

    What cannot be printed are control characters (also those that begin a terminal's escape
    sequence), bidirectional controls, invisible characters and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "�" for char in text)
