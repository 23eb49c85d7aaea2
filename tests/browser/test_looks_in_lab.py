"""How the panel looks and is reached: themes, many GPUs and CPUs, mouse, keyboard, screen reader."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from lab import Notebook
from panel_page import BUSY, IS_A_LINE, TIMEOUT, gauge, lines, own_errors, section, wait_until
from playwright.sync_api import Locator, expect

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


def boxes(place: Locator, selector: str) -> list[dict[str, float]]:
    return [dict(box) for each in place.locator(selector).all() if (box := each.bounding_box()) is not None]


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two boxes share more than a pixel's width and height."""
    return all(
        one[side] < other[side] + other[size] - 1 and other[side] < one[side] + one[size] - 1
        for side, size in (("x", "width"), ("y", "height"))
    )


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
    assert figures.count() == 5
    charts = boxes(place, ".perfmon-section .bqplot:visible")
    assert [pair for pair in itertools.combinations(charts, 2) if overlap(*pair)] == []
    [panel] = boxes(place, ".perfmon-panel")
    assert all(box["x"] + box["width"] <= panel["x"] + panel["width"] + 1 for box in gauges + charts)
    assert own_errors(notebook) == []


def test_lines_of_one_colour_differ_in_their_dashes(open_notebook):
    notebook, place = open_machine(open_notebook, gpus=8)
    percent = open_section(notebook, place, "GPU").first
    looks = percent.locator("path.line").evaluate_all(
        f"all => all.filter({IS_A_LINE})"
        ".map(each => { const style = getComputedStyle(each);"
        " return [style.stroke, style.strokeDasharray].join(' / '); })"
    )
    assert len(looks) == len(set(looks)) == 16
    legend = place.locator(".perfmon-table:visible .perfmon-swatch line").evaluate_all(
        "all => all.map(each => each.getAttribute('stroke-dasharray'))"
    )
    assert len(set(legend)) == 2


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
    """The last column of the visible table, by its row."""
    rows = place.locator(".perfmon-table:visible tr").evaluate_all(
        "all => all.map(row => [row.cells[0].textContent, row.cells[row.cells.length - 1].textContent])"
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
    assert re.fullmatch(r"at \d\d:\d\d:\d\d", shown["metric"])
    assert shown["metric"].split(":")[0] == "at " + clock.split(":")[0]
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
    assert re.match(r"\d+:\d\d:\d\d.*gpu0/utilization_percent \d", newest)
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
