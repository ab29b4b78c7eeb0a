"""The documentation's site as `make site` built it, opened as files in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..browser import Browser, browser, need_chromium
from ..waiting import wait_until

SITE = Path(__file__).parents[2] / "build" / "site"
REQUIRED = "COURIER_TESTS_NEED_SITE"
"""When this variable is set, the test fails without the site instead of being skipped."""
_IS_REQUIRED = bool(os.environ.get(REQUIRED))  # before the tests scrub their environment

REMEMBER = """
window.asked = [];
const {fetch} = window, {open} = XMLHttpRequest.prototype;
const remember = (address) => window.asked.push(new URL(address.url ?? address, location).href);
window.fetch = (address, ...more) => { remember(address); return fetch(address, ...more); };
XMLHttpRequest.prototype.open = function (method, address, ...more) {
  remember(address);
  return open.call(this, method, address, ...more);
};
"""
"""Before a page's own scripts run, it is made to remember what they ask for."""


@pytest.mark.long
def test_it_needs_no_network_and_no_server(tmp_path: Path) -> None:
    if not (SITE / "index.html").is_file():
        (pytest.fail if _IS_REQUIRED else pytest.skip)("needs build/site: make site")
    need_chromium()
    with browser(tmp_path) as window:
        window.devtools("Page.addScriptToEvaluateOnNewDocument", source=REMEMBER)
        for page in ("index", "from-celery", "settings"):
            for width in (390, 1280):
                window.look_like(width=width)
                window.open(f"{SITE.as_uri()}/{page}.html")
                assert_all_is_here(window)
                assert window.run("return document.documentElement.scrollWidth") <= width
        light = background(window)
        window.look_like(width=1280, dark=True)
        wait_until(lambda: background(window) != light, what="it is dark as the system is")
        window.click("[data-md-component=search-query]")
        window.type("[data-md-component=search-query]", "superseded")
        wait_until(
            lambda: "Glossary" in window.text(".md-search-result__list"),
            timeout_s=60,
            what="the search finds",
        )
        assert_all_is_here(window)


def assert_all_is_here(window: Browser) -> None:
    """The page asked for nothing that is not among the site's files."""
    asked = window.run(
        """
        const loaded = document.querySelectorAll("script[src], link[href], img, iframe[src]");
        return [...window.asked, ...[...loaded].map((each) => each.src || each.href)];
        """
    )
    assert len(asked) > 3
    assert [each for each in asked if not each.startswith(SITE.as_uri())] == []
    assert window.complaints() == []


def background(window: Browser) -> str:
    found: str = window.run("return getComputedStyle(document.body).backgroundColor")
    return found
