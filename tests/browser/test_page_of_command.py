"""The live page of a command that is run with --serve or --serve-after, in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

# Computes until its standard input is closed.
TRAIN = """
import sys, threading
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    sum(number * number for number in range(100_000))
sys.exit(7)
"""


@contextmanager
def watched(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command, run by this package with these options; it is killed at the end."""
    (folder / "train.py").write_text(TRAIN)
    command = [sys.executable, "-m", "perfmon_widgets", "run", "--interval", "0.5", *options]
    with subprocess.Popen(
        [*command, "--", sys.executable, "train.py"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def address(process: subprocess.Popen[str]) -> str:
    """The address that is printed."""
    assert process.stderr is not None
    line = process.stderr.readline()
    [found] = re.findall(r"http://\S+", line)
    assert line.startswith("perfmon_widgets: live page: ")
    return found


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of its own; fails if something is logged but that a program does not answer."""
    context = chromium.new_context()
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert [each for each in complaints if "net::ERR_CONNECTION_REFUSED" not in each] == []


def test_the_page_shows_the_command_while_it_runs_and_says_that_it_may_have_ended(page, tmp_path):
    with watched(tmp_path, "--serve") as process:
        page.goto(address(process))
        expect(page.locator("#state")).to_have_text("Live: a sample every 0.5 s.")
        assert page.url.endswith("/perfmon")  # without the token
        page.locator("details[data-group=process] summary").click()
        table = page.locator("details[data-group=process] table")
        row = table.locator("tr[data-column=process_cpu_percent]")
        # It keeps one CPU busy.
        expect(row.locator("td").nth(2)).to_have_text(re.compile(r"^[1-9]\d*%"), timeout=10_000)
        expect(page.get_by_role("meter", name="CPU", exact=True)).to_be_visible()
        expect(page.locator("details[data-group=process] figure > svg").first).to_be_visible()
        end(process)
        assert process.wait(30) == 7
        expect(page.locator("#state")).to_have_text(
            "No update: the program does not answer: it may have ended.", timeout=10_000
        )
        expect(page.locator(".perfmon-stale").first).to_be_visible()
        expect(page.locator("details[data-group=process] figure > svg").first).to_be_visible()  # it stays


def test_the_last_picture_can_be_opened_until_its_time_is_over(page, tmp_path):
    with watched(tmp_path, "--serve-after", "9s") as process:
        url = address(process)
        page.goto(url)
        expect(page.locator("#state")).to_have_text("Live: a sample every 0.5 s.")
        end(process)
        stopped = "The monitor is stopped."
        expect(page.locator("#state")).to_have_text(stopped, timeout=10_000)
        ended = time.monotonic()
        expect(page.locator(".perfmon-gauge-detail").first).to_contain_text("monitor is stopped, values of ")
        shown = page.locator("#newest").inner_text()
        # Who comes now sees the same.
        other = page.context.new_page()
        other.goto(url)
        expect(other.locator("#state")).to_have_text(stopped)
        assert other.locator("#newest").inner_text() == shown
        expect(other.locator(".figures figure > svg").first).to_be_visible()
        assert process.wait(30) == 7
        assert 5 < time.monotonic() - ended < 20
        for each in (page, other):
            expect(each.locator("#state")).to_contain_text("No update: ", timeout=10_000)
            expect(each.locator(".figures figure > svg").first).to_be_visible()
