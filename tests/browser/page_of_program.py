"""Programs that serve their page, and what the tests look for on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Page, expect

PROGRAM = """
import math
from perfmon_widgets import Metric, PerformanceMonitor, serve

class Machine:
    metrics = [
        *(Metric(f"gpu{gpu}/{what}", unit, "gpu", "") for gpu in range(8) for what, unit in (
            ("utilization_percent", "percent"), ("memory_percent", "percent"),
            ("memory_used_bytes", "bytes"), ("power_watts", "watts"))),
        Metric("cpu_percent", "percent", "cpu", ""),
        *(Metric(f"core{core}/cpu_percent", "percent", "cpu", "", role="part") for core in range(64)),
        Metric("ram_percent", "percent", "memory", ""),
    ]
    row = 0

    def collect(self):
        self.row += 1
        return {each.name: 50 + 40 * math.sin(self.row / 9 + at) for at, each in enumerate(self.metrics)}

monitor = PerformanceMonitor([Machine()], interval=0.25)
monitor.start()
server = serve(monitor)
print(server.page_url, flush=True)
with monitor.span("<i>training</i>"):
    while True:
        sum(number * number for number in range(100_000))
"""


def newest(page: Page) -> str:
    return page.locator("#newest").inner_text()


def wait_for_news(page: Page) -> None:
    """Wait until a later second is shown than now."""
    expect(page.locator("#newest")).not_to_have_text(newest(page), timeout=10_000)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong."""
    # Not as a script of the page, which its policy forbids.
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert found["passes"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found["violations"] for node in each["nodes"]]


@contextmanager
def started(chromium: Browser, program: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Page]]:
    """A program of its own, which is killed at the end, and its page in a browser.

    The program prints the address of its page.
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        context = chromium.new_context()
        try:
            assert process.stdout is not None
            page = context.new_page()
            page.goto(process.stdout.readline().strip())
            yield process, page
        finally:
            process.kill()
            context.close()
