"""Flower's pages in a real Chromium: themes, a phone, the keyboard, and what a search leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attribute_courier.jobs.ids import new_job_id
from attribute_courier.sandbox import Fault

from ..browser import Browser, browser, need_chromium
from ..conftest import Courier
from ..flower import USER, Flower, running_flower
from ..waiting import wait_until

PASSWORD = "s3cr3t-of-flower"
EMAIL = "ada.lovelace@load.example"
PHONE, TABLET, NARROW, DESK = 360, 800, 992, 1200

BASICS = """
const faults = [];
if (document.querySelectorAll('h1').length !== 1) faults.push('h1');
if (document.querySelectorAll('main').length !== 1) faults.push('main');
if (!document.querySelector('nav[aria-label]')) faults.push('nav');
if (!document.documentElement.lang) faults.push('lang');
for (const each of document.querySelectorAll('main input:not([type=hidden]), main select'))
    if (!each.labels.length) faults.push('label of ' + each.outerHTML);
for (const each of document.querySelectorAll('main table'))
    if (!each.querySelector('thead th[scope=col]')) faults.push('headers of ' + each.className);
for (const each of document.querySelectorAll('main [role=img], main button, main a'))
    if (!(each.getAttribute('aria-label') || each.textContent).trim()) faults.push(each.outerHTML);
for (const each of document.querySelectorAll('main [aria-labelledby], main [aria-describedby]'))
    for (const name of ['aria-labelledby', 'aria-describedby'])
        if (each.hasAttribute(name) && !document.getElementById(each.getAttribute(name)))
            faults.push(each.outerHTML);
return faults;
"""
CUT = """
const wide = document.documentElement.clientWidth, cut = [];
if (document.documentElement.scrollWidth > wide) cut.push('scrolls');
for (const each of document.querySelectorAll('main *')) {
    if (each.closest('.courier-outcomes thead') && wide < 992) continue; // for screen readers alone
    const place = each.getBoundingClientRect();
    const card = each.closest('.courier-card, .tasks-table-card, .detail-card, .courier-problem');
    const edge = card ? card.getBoundingClientRect().right : wide;
    if (place.width > 1 && (place.right > edge + 1 || place.left < -1)) cut.push(each.outerHTML);
    if (['TD', 'TH', 'DD', 'P', 'H1', 'H2'].includes(each.tagName) && place.width > 1
            && each.scrollWidth > each.clientWidth + 1) cut.push(each.outerHTML);
}
return cut;
"""
CONTRAST = """
const FLOWERS = '.page-eyebrow, .btn'; // in its own colors
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const light = (color) => {
    const [r, g, b] = color.slice(0, 3).map((each) => {
        each /= 255;
        return each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
    for (; element; element = element.parentElement) {
        const color = rgb(getComputedStyle(element).backgroundColor);
        if (color.length === 3 || color[3] > 0.9) return color;
    }
    return [255, 255, 255];
};
const weak = [];
for (const each of document.querySelectorAll('main *')) {
    const words = Array.from(each.childNodes).filter((node) => node.nodeType === 3);
    if (!words.some((node) => node.nodeValue.trim()) || !each.getClientRects().length) continue;
    if (each.tagName === 'OPTION' || each.matches(FLOWERS)) continue;
    const both = [light(rgb(getComputedStyle(each).color)), light(behind(each))];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (ratio < 4.45) weak.push(ratio.toFixed(2) + each.outerHTML);
}
return weak;
"""
FOCUS = """
const style = getComputedStyle(document.activeElement);
return document.activeElement.matches(':focus-visible')
    && (style.outlineStyle !== 'none' || style.boxShadow !== 'none');
"""


@pytest.mark.long
def test_the_pages_in_a_real_browser(courier: Courier, tmp_path: Path) -> None:
    need_chromium()
    refused = Fault(kind="status", status=422, email=EMAIL, content='{"error": "Not allowed"}')
    courier.stand_in.configure(faults=[refused])
    # One that another program put into the inbox: whatever is long must not break the layout.
    odd = {"v": 1, "email": f"{'x' * 60}@{'y' * 60}.example", "attributes": "z" * 300}
    odd_id = new_job_id()
    courier.client.hset(courier.keys.inbox, odd_id, json.dumps(odd | {"w" * 200: 1}))
    courier.client.zadd(courier.keys.of("inbox:live"), {odd_id: 1})
    courier.start_worker()
    job_id = courier.producer.add_attributes(EMAIL, {"channel": "Podcast", "k" * 40: 8}).job_id
    others = [courier.producer.add_attributes(f"{n}@load.example", {"n": n}) for n in range(3)]
    courier.wait(*others)
    for each in (job_id, odd_id):
        wait_until(lambda j=each: (found := courier.outcomes.get(j)) and found.settled, what=each)  # type: ignore[misc]
    environ = courier.environ | {"COURIER_ACCOUNTS": "default,second"}  # which no worker serves
    with (
        running_flower(environ, courier.logs, password=PASSWORD) as flower,
        browser(tmp_path) as window,
    ):
        window.log_in(USER, PASSWORD)
        check_the_looks(window, flower, job_id, odd_id)
        check_a_refresh(window, flower, courier)
        check_a_search(window, flower, job_id)
        check_the_button(window, courier, job_id)
        assert window.complaints() == []


def check_the_looks(window: Browser, flower: Flower, job_id: str, odd_id: str) -> None:
    backgrounds = set()
    for path in ("/accounts", "/outcomes", f"/outcome/{job_id}", f"/outcome/{odd_id}"):
        for width, dark in ((DESK, False), (PHONE, True), (TABLET, True), (NARROW, False)):
            window.look_like(width=width, dark=dark)
            window.open(flower.url + path)
            assert window.run(BASICS) == [], path
            assert window.run(CUT) == [], (path, width)
            assert window.run(CONTRAST) == [], (path, dark)
            backgrounds.add(window.run("return getComputedStyle(document.body).backgroundColor"))
            assert window.count("nav .nav-link.active[aria-current=page]") == 1
            loaded: list[Any] = window.run(
                "return performance.getEntriesByType('resource').map((each) => each.name)"
            )
            assert {each for each in loaded if not each.startswith(flower.url)} == set()
    assert len(backgrounds) == 2  # light and dark
    window.look_like(width=DESK)
    window.open(f"{flower.url}/tasks")
    assert window.text(".app-navbar").split()[:3] == ["Flower", "Accounts", "Outcomes"]


def check_a_refresh(window: Browser, flower: Flower, courier: Courier) -> None:
    """The page follows by itself; what has the focus keeps it."""
    window.open(f"{flower.url}/accounts")
    link = "[id^=last-hour-][id$=-refused] a"
    window.run("window.kept = document.querySelector(arguments[0]); window.kept.focus()", link)
    courier.health().pause("for the test")
    wait_until(lambda: "for the test" in window.text(".courier-problems"), what="it follows")
    assert window.run("return document.activeElement === window.kept && window.kept.isConnected")
    assert window.text(".courier-name .badge") == "paused"
    assert "second" in window.text(".courier-problem-error .courier-of")
    courier.health().resume()
    wait_until(lambda: "for the test" not in window.text("#courier-stand"), what="it follows")
    assert window.run("return document.activeElement === window.kept && window.kept.isConnected")


def check_a_search(window: Browser, flower: Flower, job_id: str) -> None:
    window.open(f"{flower.url}/outcomes")
    for _ in range(20):
        window.press("Tab")
        assert window.run(FOCUS), window.run("return document.activeElement.outerHTML")
        if window.run("return document.activeElement.id") == "courier-q":
            break
    window.type("#courier-q", "something else")
    window.press("Escape")
    assert window.run("return document.activeElement.value") == ""
    window.type("#courier-q", EMAIL)
    window.press("Enter")
    wait_until(lambda: "search=" in window.url, what="Enter searches")
    assert f"Jobs of {EMAIL}" in window.text("main")
    window.click(f'a[aria-label="Job {job_id}"]')
    wait_until(lambda: job_id in window.url, what="the job's page")
    assert EMAIL in window.text("main")
    left = [flower.log.read_text(), window.run("return document.title"), window.url]
    left.append(json.dumps(window.devtools("Page.getNavigationHistory")))
    left.append(window.run("return JSON.stringify([{...localStorage}, {...sessionStorage}])"))
    for text in left:
        assert "ovelace" not in text


def check_the_button(window: Browser, courier: Courier, job_id: str) -> None:
    before = len(courier.posts(EMAIL))
    window.click("main form button")
    wait_until(lambda: "put back into the inbox" in window.text("main"), what="it says so")
    wait_until(lambda: len(courier.posts(EMAIL)) > before, what="it is sent again")
