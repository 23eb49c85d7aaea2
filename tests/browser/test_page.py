"""The live page of a script that computes, in a real browser."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_of_program import PROGRAM, started, violations, wait_for_news
from playwright.sync_api import Browser, Page, expect

from perfmon_widgets.web.page import VIEW

# Holds back the sampling while a file exists.
HANG = """
import os, threading, time
def hang():
    while True:
        time.sleep(0.02)
        if os.path.exists("hang"):
            with monitor._sampling:
                while os.path.exists("hang"):
                    time.sleep(0.02)
threading.Thread(target=hang, daemon=True).start()
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the page of a program that computes in pure Python, and the folder it runs in."""
    folder = tmp_path_factory.mktemp("program")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), folder
        finally:
            process.kill()


@pytest.fixture
def open_page(chromium: Browser, program: tuple[str, Path]) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser that has not been there before; fails if the page logs an error."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_one(url: str = program[0], **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        expect(page.locator(".figures svg").first).to_be_visible()
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def test_it_is_live_while_the_program_computes_and_the_token_has_gone(open_page):
    page = open_page()
    assert page.url.endswith("/perfmon")
    assert page.context.cookies()[0]["httpOnly"]
    meters = page.get_by_role("meter")
    expect(meters).to_have_count(10)  # 8 GPUs, CPU, RAM
    before = meters.first.get_attribute("aria-valuenow")
    picture = page.locator(".figures").first.inner_html()
    wait_for_news(page)
    assert meters.first.get_attribute("aria-valuenow") != before
    assert page.locator(".figures").first.inner_html() != picture
    expect(page.locator("#state")).to_have_text("Live: a sample every 0.25 s.")
    page.reload()  # without the token
    expect(page.locator(".figures svg").first).to_be_visible()


def test_it_asks_for_what_is_new_once_a_second_and_not_while_it_is_hidden_or_paused(open_page):
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if VIEW in request.url else None)
    page.wait_for_timeout(4000)
    assert 2 <= len(asked) <= 5
    assert all("since=" in each for each in asked)
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_timeout(1500)  # an answer may have been on its way
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    wait_for_news(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("Paused.")
    assert violations(page) == []
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    page.locator("#window").select_option("60")
    page.wait_for_timeout(1500)
    assert len(asked) == 1
    expect(page.locator("#state")).to_have_text("Paused.")
    page.get_by_role("button", name="Resume").click()
    wait_for_news(page)


def test_a_pause_while_an_answer_is_on_its_way_is_no_failure(open_page):
    page = open_page()
    page.route(f"**{VIEW}*", lambda route: (page.wait_for_timeout(1000), route.continue_()))
    with page.expect_request(f"**{VIEW}*"):
        pass
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(2000)
    expect(page.locator("#state")).to_have_text("Paused.")
    page.unroute_all(behavior="ignoreErrors")


def test_the_log_is_switched_and_the_history_downloaded(open_page, program):
    page = open_page()
    page.get_by_role("checkbox", name="Log to CSV").check()
    expect(page.locator("#log-state")).to_contain_text(".csv: ")
    name = page.locator("#log-state").inner_text().partition(": ")[0]
    assert (program[1] / name).read_text().count("\n") > 1
    page.get_by_role("checkbox", name="Log to CSV").uncheck()
    expect(page.locator("#log-state")).to_contain_text("closed")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download CSV").click()
    assert download.value.suggested_filename.startswith("performance-")
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    assert len(rows) > 3
    assert "core63/cpu_percent" in rows[0]


def test_sections_and_window_are_kept_by_the_browser(open_page):
    page = open_page()
    page.get_by_text("Memory", exact=True).click()
    expect(page.locator("details[data-group=memory] figure > svg")).to_be_visible()
    page.locator("#window").select_option("60")
    page.reload()
    expect(page.locator("details[data-group=memory] figure > svg")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_keeps_anybody_out_whatever_the_screen(open_page, scheme, width):
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 780})
    for closed in page.locator("details:not([open]) summary").all():
        closed.click()
    expect(page.locator("details:not([open])")).to_have_count(0)
    expect(page.locator("details[data-group=cpu] figure > svg")).to_have_count(2)  # lines, and the map
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # A figure is as wide as its place, so that its letters are not made smaller.
    shown = page.locator(".figures figure > svg").first
    wait_for_news(page)
    drawn = shown.evaluate("svg => svg.viewBox.baseVal.width")
    assert abs(drawn - shown.evaluate("svg => svg.clientWidth")) <= 2
    dark = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(22, 22, 22)") == (scheme == "dark")


def test_everything_can_be_done_with_the_keyboard(open_page):
    page = open_page()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.localName"))
    assert reached[:5] == ["window", "pause", "log", "download", "summary"]
    page.locator("details[data-group=memory] summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("details[data-group=memory] figure > svg")).to_be_visible()


def test_it_can_be_printed_with_its_figures_and_without_its_controls(open_page):
    page = open_page(color_scheme="dark")
    page.emulate_media(media="print")
    expect(page.locator("#controls")).to_be_hidden()
    expect(page.locator(".figures svg").first).to_be_visible()
    look = "each => [getComputedStyle(each).backgroundColor, getComputedStyle(each).color]"
    assert page.locator("html").evaluate(look) == ["rgb(255, 255, 255)", "rgb(33, 33, 33)"]
    text = page.locator(".figures svg text").first
    assert text.evaluate("each => getComputedStyle(each).fill") == "rgb(89, 89, 89)"
    # All rows of a table, not those only that a screen shows.
    table = page.locator("details[data-group=cpu] .table")
    assert table.evaluate("each => each.clientHeight >= each.scrollHeight")


def test_no_other_page_can_show_it(open_page, program):
    page = open_page()
    frame = page.context.new_page()
    frame.set_content(f'<iframe src="{program[0]}"></iframe>')
    frame.wait_for_function("() => document.querySelector('iframe').contentDocument === null")
    frame.wait_for_timeout(500)
    assert frame.frames[1].url == "chrome-error://chromewebdata/"


def test_a_program_that_answers_without_new_samples_is_not_live(chromium, tmp_path):
    """Its sampling hangs; the thread that serves the page goes on."""
    hanging = PROGRAM.replace("with monitor.span", f"{HANG}\nwith monitor.span")
    with started(chromium, hanging, tmp_path) as (_, page):
        expect(page.locator("#state")).to_have_text("Live: a sample every 0.25 s.")
        (tmp_path / "hang").touch()
        expect(page.locator("#state")).to_contain_text("No new sample: ", timeout=10_000)
        expect(page.locator(".perfmon-stale").first).to_be_visible()
        page.wait_for_timeout(2500)  # two more answers, with the same sample
        expect(page.locator("#state")).to_contain_text("No new sample: ")
        expect(page.locator(".perfmon-gauge-detail").first).to_contain_text("no update for")
        assert violations(page) == []
        (tmp_path / "hang").unlink()
        expect(page.locator("#state")).to_have_text("Live: a sample every 0.25 s.")
        expect(page.locator(".perfmon-stale")).to_have_count(0)


def test_a_longer_interval_is_no_silence(chromium, tmp_path):
    longer = """
import os, threading, time
def lengthen():
    while not os.path.exists("longer"):
        time.sleep(0.02)
    monitor.interval = 30
threading.Thread(target=lengthen, daemon=True).start()
"""
    program = PROGRAM.replace("with monitor.span", f"{longer}\nwith monitor.span")
    with started(chromium, program, tmp_path) as (_, page):
        expect(page.locator("#state")).to_have_text("Live: a sample every 0.25 s.")
        (tmp_path / "longer").touch()
        expect(page.locator("#state")).to_have_text("Live: a sample every 30 s.")
        page.wait_for_timeout(4500)  # three of the shorter interval, as the page counts it, are 3 s
        expect(page.locator("#state")).to_have_text("Live: a sample every 30 s.")
        expect(page.locator(".perfmon-stale")).to_have_count(0)


def test_the_end_of_the_program_is_told(chromium, tmp_path):
    with started(chromium, PROGRAM, tmp_path) as (process, page):
        expect(page.locator(".figures svg").first).to_be_visible()
        process.kill()
        process.wait()
        killed = time.monotonic()
        expect(page.locator("#state")).to_have_text(
            "No update: the program does not answer: it may have ended.", timeout=10_000
        )
        assert time.monotonic() - killed < 5
        expect(page.locator(".perfmon-stale").first).to_be_visible()
        expect(page.locator(".perfmon-gauge-detail").first).to_contain_text("no update for")
        expect(page.locator(".figures svg").first).to_be_visible()  # the last picture stays
        assert violations(page) == []
