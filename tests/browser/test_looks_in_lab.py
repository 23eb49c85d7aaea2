"""How the panel looks and is reached: themes, many GPUs and CPUs, mouse, keyboard, screen reader."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from lab import Notebook, boxes, overlap
from panel_page import BUSY, IS_A_LINE, TIMEOUT, gauge, lines, own_errors, section, wait_until
from playwright.sync_api import Locator, expect
from test_panel_in_lab import make_panel_wide

MACHINE = """
import math
from perfmon_widgets import Metric, PerformanceMonitor, PerformancePanel

CPUS, GPUS = {cpus}, {gpus}
OF_A_GPU = {{
    "utilization_percent": "percent", "memory_percent": "percent", "memory_used_bytes": "bytes",
    "memory_limit_bytes": "bytes", "power_watts": "watts", "sm_clock_hertz": "hertz",
    "pcie_sent_bytes_per_second": "bytes_per_second",
}}
LARGEST = {{"percent": 100, "bytes": 80 * 2**30, "watts": 700, "hertz": 2e9, "bytes_per_second": 2e10}}

class Machine:
    time = 0

    def __init__(self):
        self.metrics = [
            Metric("cpu_percent", "percent", "cpu", "Busy."),
            *(Metric(f"core{{n}}/cpu_percent", "percent", "cpu", "Busy.") for n in range(CPUS)),
            Metric("ram_percent", "percent", "memory", "In use."),
            Metric("ram_used_bytes", "bytes", "memory", "In use.", limit="ram_limit_bytes"),
            Metric("ram_limit_bytes", "bytes", "memory", "Limit."),
            Metric("disk_percent", "percent", "disk", "In use."),
            Metric("disk_read_bytes_per_second", "bytes_per_second", "disk", "Read."),
            *(
                Metric(f"gpu{{n}}/{{name}}", unit, "gpu", "About it.", limit=(
                    f"gpu{{n}}/memory_limit_bytes" if name == "memory_used_bytes" else None))
                for n in range(GPUS) for name, unit in OF_A_GPU.items()
            ),
        ]

    def collect(self):
        self.time += 1
        waves = {{
            metric.name: (0.5 + 0.45 * math.sin(self.time / 9 + number)) * LARGEST[metric.unit]
            for number, metric in enumerate(self.metrics)
        }}
        return waves | {{m.name: LARGEST["bytes"] for m in self.metrics if m.name.endswith("limit_bytes")}}

monitor = PerformanceMonitor([Machine()], interval=0.3, window=60)
monitor.start()
panel = PerformancePanel(monitor)
panel
"""
THEMES = ("light", "dark", "dark high contrast")
# What a screen reader or a keyboard user could not get over.
GRAVE = ("serious", "critical")


def open_machine(
    open_notebook: Callable[..., Notebook], *cells: str, cpus: int = 4, gpus: int = 1, **options: Any
) -> tuple[Notebook, Locator]:
    """A notebook with a panel over a made-up machine, and the place of its cell."""
    notebook = open_notebook([MACHINE.format(cpus=cpus, gpus=gpus), *cells], **options)
    notebook.run_cell(0)
    place = notebook.cell(0)
    expect(place.get_by_role("meter")).to_have_count(3 + gpus, timeout=TIMEOUT * 1000)
    notebook.wait_idle()
    return notebook, place


def open_section(notebook: Notebook, place: Locator, title: str) -> Locator:
    """Open a section and wait for its lines; returns its figures."""
    section(place, title).click()
    figures = place.locator(".perfmon-section .bqplot:visible")
    wait_until(notebook, lambda: any(map(len, lines(place))), "a line")
    return figures


def grave(notebook: Notebook) -> list[str]:
    """What axe-core finds wrong with the panel."""
    notebook.evaluate(AXE_SCRIPT)
    found = notebook.evaluate("axe.run('.perfmon-panel', { resultTypes: ['violations'] })")
    assert found["passes"]  # it has looked at something
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in GRAVE
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("theme", THEMES)
def test_nothing_keeps_anybody_out(open_notebook, theme):
    notebook, place = open_machine(open_notebook, "monitor.stop()", theme=theme)
    place.get_by_role("checkbox", name="Log to CSV").click()
    wait_until(notebook, place.locator(".perfmon-log").is_visible, "the log")
    assert grave(notebook) == [], "closed"
    for title in ("GPU", "CPU"):
        open_section(notebook, place, title)
        assert grave(notebook) == [], title
    notebook.run_cell(1)
    expect(place.locator(".perfmon-stale")).to_have_count(4, timeout=TIMEOUT * 1000)
    assert grave(notebook) == [], "stopped"
    notebook.screenshot(f"looks-{theme.replace(' ', '-')}")


@pytest.mark.parametrize("theme", THEMES)
def test_what_bqplot_paints_keeps_to_the_theme(open_notebook, theme):
    """No orange titles, no black boxes."""
    notebook, place = open_machine(open_notebook, theme=theme)
    figure = open_section(notebook, place, "CPU").first
    ink = gauge(place, "CPU").locator(".perfmon-gauge-label").evaluate("part => getComputedStyle(part).color")
    for part in (".mainheading", ".tick text"):
        painted = figure.locator(part).first.evaluate("part => getComputedStyle(part).fill")
        assert painted == ink, part
    back = figure.locator("rect.plotarea_background").first.evaluate("part => getComputedStyle(part).fill")
    assert back in ("rgba(0, 0, 0, 0)", "none", "transparent")
    assert figure.locator(".legend").count() == 0


@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.parametrize("width", [700, 1280])
def test_gauges_and_charts_of_many_gpus_stand_in_line(open_notebook, gpus, width):
    notebook, place = open_machine(open_notebook, gpus=gpus, viewport=(width, 1000))
    gauges = boxes(place, ".perfmon-gauge")
    assert len(gauges) == 3 + gpus
    assert [pair for pair in itertools.combinations(gauges, 2) if overlap(*pair)] == []
    columns = {round(box["x"]) for box in gauges}
    rows = {round(box["y"]) for box in gauges}
    assert len(columns) * (len(rows) - 1) < len(gauges) <= len(columns) * len(rows)  # as in a grid
    figures = open_section(notebook, place, "GPU")
    assert figures.count() == (4 if gpus < 3 else 5)
    charts = boxes(place, ".perfmon-section .bqplot:visible")
    assert [pair for pair in itertools.combinations(charts, 2) if overlap(*pair)] == []
    [panel] = boxes(place, ".perfmon-panel")
    assert all(box["x"] + box["width"] <= panel["x"] + panel["width"] + 1 for box in gauges + charts)
    assert own_errors(notebook) == []


def looks_of_lines(figure: Locator) -> list[tuple[str, str]]:
    """The colour and the dashes of each line that is painted, as the browser has them."""
    found: list[list[str]] = figure.locator("path.line").evaluate_all(
        f"all => all.filter({IS_A_LINE})"
        ".map(each => { const { stroke, strokeDasharray } = getComputedStyle(each);"
        " return [stroke, strokeDasharray]; })"
    )
    return [(stroke, dashes) for stroke, dashes in found]


def test_lines_of_one_gpu_have_its_colour_and_differ_in_their_dashes(open_notebook):
    notebook, place = open_machine(open_notebook, gpus=2)
    figures = open_section(notebook, place, "GPU")
    percent, power = figures.nth(0), figures.nth(1)
    assert len(set(looks_of_lines(percent))) == 4  # utilization and memory of two GPUs
    assert {dashes for _, dashes in looks_of_lines(percent)} == {"none", "7px, 3px"}
    plain = [stroke for stroke, dashes in looks_of_lines(percent) if dashes == "none"]
    assert [stroke for stroke, _ in looks_of_lines(power)] == plain
    legend = place.locator(".perfmon-table:visible .perfmon-swatch line").evaluate_all(
        "all => all.map(each => each.getAttribute('stroke-dasharray'))"
    )
    assert set(legend) == {"", "7 3"}


STRAGGLER = """
class Lagging(Machine):
    def collect(self):
        busy = {f"gpu{n}/utilization_percent": 36.0 if n == 5 else 91.0 + n for n in range(GPUS)}
        return super().collect() | busy

panel.close()
monitor.stop()
monitor = PerformanceMonitor([Lagging()], interval=0.3, window=60)
monitor.start()
panel = PerformancePanel(monitor)
panel
"""


def test_of_many_gpus_each_has_a_row_and_the_one_that_lags_is_emphasised(open_notebook):
    notebook, place = open_machine(open_notebook, STRAGGLER, gpus=8)
    notebook.run_cell(1)
    place = notebook.cell(1)
    expect(place.get_by_role("meter")).to_have_count(11, timeout=TIMEOUT * 1000)
    figures = open_section(notebook, place, "GPU")
    assert figures.count() == 5
    for at in (0, 1):  # utilization, memory
        labels = figures.nth(at).locator(".tick text").all_text_contents()
        assert [word for word in labels if "GPU" in word] == [f"GPU {number}" for number in range(7, -1, -1)]
    grid = place.locator(".perfmon-grid")
    assert grid.locator("tbody tr").count() == 8
    expect(grid.locator("th.perfmon-lags")).to_have_text("GPU 5 lags", timeout=TIMEOUT * 1000)
    cell = grid.locator("td.perfmon-lags")
    expect(cell).to_have_text("36%")
    assert cell.get_attribute("data-column") == "gpu5/utilization_percent"
    assert re.search(r"now 36%, mean 36%, peak 36%\. About it", cell.get_attribute("title") or "")
    assert "the other 7 are 9" in (grid.locator("th.perfmon-lags").get_attribute("title") or "")
    power = grid.locator("[data-column='gpu0/power_watts']")
    grid.get_by_role("combobox").select_option("peak")
    expect(power).to_have_text(re.compile(r"6\d\d W"), timeout=TIMEOUT * 1000)
    # The mouse asks for the values of a moment, in all rows.
    area = figures.first.locator("rect.plotarea_events").bounding_box()
    assert area is not None
    notebook.page.mouse.move(area["x"] + area["width"] - 3, area["y"] + area["height"] / 2)
    expect(grid.locator("caption")).to_have_text(re.compile("^at "))
    expect(cell).to_have_text("36%")
    expect(grid.locator("[data-column='gpu0/memory_limit_bytes']")).to_have_text("")
    notebook.page.mouse.move(5, 5)
    expect(grid.locator("[data-column='gpu0/memory_limit_bytes']")).to_have_text("80 GiB")
    assert grave(notebook) == []
    notebook.screenshot("looks-straggler")
    assert own_errors(notebook) == []


def test_a_busy_gpu_is_not_red_because_its_memory_is_full(open_notebook):
    notebook, _ = open_machine(
        open_notebook,
        STRAGGLER.replace("return super()", "busy |= {'gpu0/memory_percent': 98.0}\n        return super()"),
        gpus=1,
    )
    notebook.run_cell(1)
    shown = gauge(notebook.cell(1), "GPU")
    expect(shown.locator(".perfmon-gauge-text")).to_have_text("91%", timeout=TIMEOUT * 1000)
    expect(shown).to_have_attribute("aria-valuetext", re.compile(r"^91%, memory 98%, \d+ of 80 GiB$"))
    arc = shown.locator(".perfmon-gauge-arc").evaluate("each => getComputedStyle(each).stroke")
    bar = shown.locator(".perfmon-gauge-bar > div")
    colors = shown.evaluate(
        "each => ['normal', 'critical'].map(level => {"
        " const probe = document.createElement('i');"
        " probe.style.color = `var(--perfmon-${level})`; each.append(probe);"
        " const { color } = getComputedStyle(probe); probe.remove(); return color; })"
    )
    assert [arc, bar.evaluate("each => getComputedStyle(each).backgroundColor")] == colors
    width = bar.evaluate("each => each.offsetWidth / each.parentNode.offsetWidth")
    assert width == pytest.approx(0.98, abs=0.02)
    assert gauge(notebook.cell(1), "CPU").locator(".perfmon-gauge-bar").is_hidden()


def test_the_closed_panel_of_eight_gpus_is_compact(open_notebook):
    notebook, place = open_machine(open_notebook, gpus=8, viewport=(1400, 1000))
    make_panel_wide(notebook, place, 1100)
    [panel] = boxes(place, ".perfmon-panel")
    assert panel["height"] <= 160
    gauges = boxes(place, ".perfmon-gauge")
    assert len({round(box["y"]) for box in gauges}) == 2
    details = place.locator(".perfmon-gauge-detail").evaluate_all(
        "all => all.map(each => each.scrollHeight - each.clientHeight)"
    )
    assert max(details) <= 0  # nothing is cut


@pytest.mark.parametrize(("cpus", "figures"), [(4, 1), (64, 2)])
def test_many_cpus_are_a_map_beside_the_line_of_all(open_notebook, cpus, figures):
    notebook, place = open_machine(open_notebook, cpus=cpus)
    shown = open_section(notebook, place, "CPU")
    assert shown.count() == figures
    images = shown.locator("image")
    assert images.count() == figures - 1
    if cpus == 64:
        before = images.first.get_attribute("href")
        wait_until(notebook, lambda: images.first.get_attribute("href") != before, "a new picture")
    assert own_errors(notebook) == []


# -- mouse and keyboard ------------------------------------------------------------------------------------


def column(place: Locator) -> dict[str, str]:
    """The last column of the visible table, by the metric of its row; that of its head by an empty name."""
    rows = place.locator(".perfmon-table:visible tr").evaluate_all(
        "all => all.map(row => [row.dataset.column ?? '', row.cells[row.cells.length - 1].textContent])"
    )
    return dict(rows)


def test_the_mouse_reads_time_and_values_off_a_chart_while_the_kernel_is_busy(open_notebook):
    notebook, place = open_machine(open_notebook, BUSY, cpus=64, timezone="America/New_York")
    figures = open_section(notebook, place, "CPU")
    notebook.page.wait_for_timeout(3000)
    notebook.run_cell(1)
    wait_until(notebook, notebook.is_busy, "the start of the cell")
    area = figures.first.locator("rect.plotarea_events").bounding_box()
    assert area is not None
    assert place.locator(".perfmon-cursor").count() == 0
    assert column(place)["cpu_percent"] == ""
    notebook.page.mouse.move(area["x"] + area["width"] - 3, area["y"] + 40)
    expect(place.locator(".perfmon-cursor")).to_have_count(2)  # in both figures
    shown = column(place)
    # By the reader's own clock, and now.
    clock = notebook.evaluate("new Date().toLocaleTimeString('en-GB')")
    assert re.fullmatch(r"at \d\d:\d\d:\d\d", shown[""])
    assert shown[""].split(":")[0] == "at " + clock.split(":")[0]
    # In the same zone as the axis and the caption.
    ticks = figures.first.locator(".tick text").all_text_contents()
    assert any(tick.startswith(clock[:4]) for tick in ticks)
    assert re.search(r" E[SD]T$", place.locator(".perfmon-table:visible caption").inner_text())
    assert re.fullmatch(r"\d+(\.\d)?%", shown["cpu_percent"])
    assert re.fullmatch(r"\d+(\.\d)?%", shown["core63/cpu_percent"])
    # The cursor stays where it is, so the values move on.
    wait_until(notebook, lambda: column(place) != shown, "the values of another moment")
    assert notebook.is_busy()
    notebook.page.mouse.move(5, 5)
    expect(place.locator(".perfmon-cursor")).to_have_count(0)
    assert column(place)["cpu_percent"] == ""


def test_people_look_back_while_the_kernel_is_busy(open_notebook):
    notebook, place = open_machine(open_notebook, BUSY, cpus=64)
    figures = open_section(notebook, place, "CPU")
    notebook.page.wait_for_timeout(4000)
    notebook.run_cell(1)
    wait_until(notebook, notebook.is_busy, "the start of the cell")
    caption = place.locator(".perfmon-table:visible caption")
    assert figures.get_by_text("now", exact=True).count() == 2
    area = figures.first.locator("rect.plotarea_events").bounding_box()
    assert area is not None
    mouse = notebook.page.mouse
    mouse.move(area["x"] + 0.87 * area["width"], area["y"] + 40)
    mouse.down()
    mouse.move(area["x"] + 0.97 * area["width"], area["y"] + 50, steps=4)
    expect(place.locator(".perfmon-selection")).to_have_count(2)  # in both figures
    mouse.up()
    live = place.get_by_role("button", name="Live", exact=True)
    expect(live).to_be_visible(timeout=TIMEOUT * 1000)
    expect(place.locator(".perfmon-selection")).to_have_count(0)
    held = caption.inner_text()
    drawn = lines(place)
    assert figures.get_by_text("now", exact=True).count() == 0
    notebook.page.wait_for_timeout(2000)
    assert (caption.inner_text(), lines(place)) == (held, drawn)
    place.get_by_role("button", name="Earlier").click()
    wait_until(notebook, lambda: caption.inner_text() != held, "an earlier time")
    live.click()
    wait_until(notebook, lambda: figures.get_by_text("now", exact=True).count() == 2, "the newest rows")
    expect(place.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    assert notebook.is_busy()
    assert own_errors(notebook) == []


def test_the_row_below_the_charts_says_which_cell_runs_and_what_one_cost(open_notebook):
    work = "import time\ntime.sleep(3)\nx = 1"
    notebook, place = open_machine(open_notebook, work, BUSY)
    figures = open_section(notebook, place, "CPU")
    notebook.run_cell(1)
    notebook.wait_idle()
    notebook.run_cell(2)
    words = place.locator(".perfmon-words:visible")
    expect(words).to_have_text("running: [3] end = time.monotonic() + 60", timeout=TIMEOUT * 1000)
    notebook.page.wait_for_timeout(1500)
    area = figures.first.locator("rect.plotarea_events").bounding_box()
    assert area is not None

    def pointed() -> list[str]:
        found = []
        for share in range(10, 100, 3):
            notebook.page.mouse.move(area["x"] + share / 100 * area["width"], area["y"] + 40)
            found.append(words.inner_text())
        return found

    wait_until(
        notebook, lambda: any(text.startswith("[2] time.sleep(3) · 3 s") for text in pointed()), "its words"
    )
    assert own_errors(notebook) == []


def test_the_moment_pointed_at_has_the_values_of_its_sample(open_notebook):
    notebook, place = open_machine(open_notebook, "monitor.stop()")
    figures = open_section(notebook, place, "CPU")
    notebook.page.wait_for_timeout(3000)
    notebook.run_cell(1)
    notebook.wait_idle()
    figures.first.focus()
    notebook.page.keyboard.press("ArrowLeft")
    newest = place.locator(".perfmon-table:visible tbody tr").evaluate_all(
        "all => all.map(row => row.cells[1].textContent)"
    )
    pointed = place.locator(".perfmon-table:visible tbody tr").evaluate_all(
        "all => all.map(row => row.cells[row.cells.length - 1].textContent)"
    )
    assert pointed == newest


def test_everything_is_reached_by_keys(open_notebook):
    notebook, place = open_machine(open_notebook)
    page = notebook.page
    place.get_by_role("checkbox", name="Log to CSV").focus()
    # Through the controls to the headers of the sections.
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('jupyter-widget-Collapse-header')"):
            break
    header = place.locator(".jupyter-widget-Collapse-header").first
    expect(header).to_be_focused()
    assert header.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
    expect(header).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-expanded", "true")
    figure = place.locator(".perfmon-section .bqplot:visible").first
    figure.wait_for()
    expect(figure).to_have_attribute("role", "slider", timeout=TIMEOUT * 1000)
    notebook.page.wait_for_timeout(2000)
    page.keyboard.press("Tab")
    expect(figure).to_be_focused()
    page.keyboard.press("ArrowLeft")
    newest = figure.get_attribute("aria-valuetext") or ""
    assert re.match(r"\d+:\d\d:\d\d.*GPU 0 utilization \d", newest)
    page.keyboard.press("Home")
    oldest = figure.get_attribute("aria-valuetext") or ""
    assert oldest != newest
    page.keyboard.press("Escape")
    expect(place.locator(".perfmon-cursor")).to_have_count(0)
    header.focus()
    page.keyboard.press(" ")
    expect(header).to_have_attribute("aria-expanded", "false")
    # Typed into the panel, not into the notebook.
    assert notebook.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length") == 1
