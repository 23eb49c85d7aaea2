"""The figures and tables of the live page: what it has appended is what a page has that is opened anew."""

from __future__ import annotations

import re

import pytest
from page_of_program import started, violations, wait_for_news
from playwright.sync_api import Page, expect

# Samples of a machine until a file says that it is to stop; cells, spans, marks, gaps and a recorded series.
# All but one are clearly busier than 70 %, the least of the others where one is said to lag.
PROGRAM = """
import math, os, time
from perfmon_widgets import Metric, PerformanceMonitor, serve

class Machine:
    metrics = [METRICS]
    row = 0

    def collect(self):
        self.row += 1
        found = {each.name: 82 + 13 * math.sin(self.row / 9 + at) for at, each in enumerate(self.metrics)}
        for name in LAGGING:
            found[name] = 22 + 5 * math.sin(self.row / 5)
        if self.row % 40 == 0:
            del found[self.metrics[0].name]
        return found

monitor = PerformanceMonitor([Machine()], interval=0.2)
monitor.start()
print(serve(monitor).page_url, flush=True)
epoch = 0
while not os.path.exists("stop"):
    with monitor.span(f"epoch {epoch}"):
        end = time.monotonic() + 2
        while time.monotonic() < end:
            sum(number * number for number in range(10_000))
    monitor.record(loss=1 / (1 + epoch))
    monitor.mark(f"saved {epoch}")
    epoch += 1
monitor.stop()
time.sleep(600)
"""
OF_GPUS = """
    *(Metric(f"gpu{gpu}/{what}", unit, "gpu", "") for gpu in range(8) for what, unit in (
        ("utilization_percent", "percent"), ("memory_used_bytes", "bytes"), ("power_watts", "watts"))),
    Metric("cpu_percent", "percent", "cpu", ""),
    *(Metric(f"core{core}/cpu_percent", "percent", "cpu", "", role="part") for core in range(64)),
"""
OF_WORKERS = """
    *(Metric(f"worker{worker}/{what}", unit, "workers", "") for worker in range(32) for what, unit in (
        ("cpu_percent", "percent"), ("ram_used_bytes", "bytes"))),
"""
MACHINES = {
    "gpus": (OF_GPUS, "gpu5/utilization_percent"),
    "workers": (OF_WORKERS, "worker7/cpu_percent"),
}


def program(kind: str) -> str:
    metrics, lagging = MACHINES[kind]
    return PROGRAM.replace("METRICS", metrics).replace("LAGGING", repr([lagging]))


def open_all(page: Page) -> None:
    expect(page.locator(".figures svg").first).to_be_visible()
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    expect(page.locator("details .figures:empty")).to_have_count(0)


def drawn(page: Page) -> list[str]:
    """Every figure and table as it is drawn.

    Without what lags, which a page that is open looks for once in five seconds only.
    """
    texts = page.locator("details").evaluate_all("sections => sections.map((each) => each.innerHTML)")
    left_out = r'\s*(title|aria-label)="[^"]*"| class="perfmon-lags"|(?<=class="perfmon-why">)[^<]*'
    return [re.sub(left_out, "", each) for each in texts]


@pytest.mark.parametrize("kind", MACHINES)
def test_a_page_that_was_open_shows_what_one_shows_that_is_opened_anew(chromium, tmp_path, kind):
    with started(chromium, program(kind), tmp_path) as (_, page):
        expect(page.locator("details[data-group=recorded]")).to_be_visible(timeout=20_000)
        open_all(page)
        for _ in range(10):
            wait_for_news(page)
        (tmp_path / "stop").touch()
        expect(page.locator("#state")).to_have_text("The monitor is stopped.", timeout=10_000)
        before = drawn(page)
        assert len(before) >= 2
        assert all("<path" in each for each in before)
        page.reload()
        expect(page.locator("#state")).to_have_text("The monitor is stopped.")
        open_all(page)
        assert drawn(page) == before
        assert violations(page) == []


@pytest.mark.parametrize(
    ("kind", "group", "label", "count", "scheme"),
    [("gpus", "gpu", "GPU 5", 8, "light"), ("workers", "workers", "worker 7", 32, "dark")],
)
def test_many_have_a_row_each_and_the_one_that_lags_is_marked(
    chromium, tmp_path, kind, group, label, count, scheme
):
    with started(chromium, program(kind), tmp_path) as (_, page):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 360, "height": 780})
        open_all(page)
        section = page.locator(f"details[data-group={group}]")
        rows = section.locator(".perfmon-grid tbody tr")
        expect(rows).to_have_count(count)
        lagging = section.locator("th.perfmon-lags")
        expect(lagging).to_have_text(f"{label} lags", timeout=90_000)
        expect(section.locator("td.perfmon-lags")).to_have_text(re.compile(r"^[12]\d%$"))
        assert re.fullmatch(r"busy 2\d% of the time, the other \d+ are \d+%", lagging.get_attribute("title"))
        expect(page.locator("#verdict")).to_contain_text(label.capitalize() if kind == "workers" else label)
        # Labels beside the rows of the map.
        labels = section.locator("svg[aria-label*='bright: 100']").first.locator("text").all_text_contents()
        assert ({"GPU 0", "GPU 7"} if kind == "gpus" else {"0", "28"}) <= set(labels)
        # Another number of each.
        cell = section.locator("td.perfmon-lags")
        section.get_by_role("combobox").select_option("peak")
        expect(cell).to_have_text("27%")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / f"{kind}.png", full_page=True)
