"""What MkDocs does with the pages of docs/ beside rendering them (mkdocs.yml).

The pages are written to be read in the repository, too.
"""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, *, config: Any, **_: Any) -> str:
    """Lead links to files outside of docs/ to the repository; name the files of code blocks."""
    markdown = re.sub(r"\]\(\.\./([^)\s]+)\)", rf"]({config.extra['source']}\1)", markdown)
    return re.sub(r"^```(\w+) ([^\n]+)$", r'```\1 title="\2"', markdown, flags=re.M)
