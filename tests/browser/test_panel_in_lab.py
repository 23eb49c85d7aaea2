"""The panel in a real JupyterLab: what a person sees and reaches while the kernel is busy."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Notebook, boxes, overlap
from panel_page import (
    BUSY,
    TIMEOUT,
    gauge,
    lines,
    logs_of,
    number,
    own_errors,
    rows_shown,
    section,
    spoken,
    wait_until,
)
from playwright.sync_api import Locator, expect
from servers import REPOSITORY

from perfmon_widgets import read_csv

QUICKSTART = REPOSITORY / "notebooks" / "quickstart.ipynb"
PANEL = """
from perfmon_widgets import PerformanceMonitor, PerformancePanel

monitor = PerformanceMonitor(interval=0.3)
monitor.start()
panel = PerformancePanel(monitor)
panel
"""
BESIDE = "#jp-right-stack .perfmon-panel"  # in the side bar of JupyterLab
CONTRAST = 4.5  # of text against what lies behind it, WCAG 2.2 AA

# How far the colour of an element's text is from that of what lies behind it, as WCAG has it.
CONTRAST_OF = """element => {
  if (!element.isConnected) return null;  // a table is replaced by the next in every tick
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const over = (front, back) => {
    const [r, g, b, a = 1] = front;
    return [r, g, b].map((part, at) => part * a + back[at] * (1 - a));
  };
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    const color = parse(getComputedStyle(each).backgroundColor);
    layers.unshift(color);
  }
  const back = layers.reduce((under, color) => over(color, under), [255, 255, 255]);
  const style = getComputedStyle(element);
  const text = element instanceof SVGElement ? style.fill : style.color;
  let front = over(parse(text), back);
  for (let each = element; each; each = each.parentElement) {
    const opacity = Number(getComputedStyle(each).opacity);
    if (opacity < 1) front = over([...front, opacity], back);
  }
  const luminance = color => {
    const [r, g, b] = color
      .map(part => part / 255)
      .map(part => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [low, high] = [luminance(front), luminance(back)].sort((one, other) => one - other);
  return { contrast: (high + 0.05) / (low + 0.05), text, back: back.join() };
}"""


def log_of(notebook: Notebook) -> Path | None:
    """The one log in the notebook's folder, if there is one."""
    paths = logs_of(notebook)
    assert len(paths) <= 1
    return paths[0] if paths else None


def open_panel(
    open_notebook: Callable[..., Notebook], *cells: str, **options: Any
) -> tuple[Notebook, Locator]:
    """A notebook whose first cell shows a panel with its first numbers, and the place of that cell."""
    notebook = open_notebook([PANEL, *cells], **options)
    notebook.run_cell(0)
    place = notebook.cell(0)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    notebook.wait_idle()
    return notebook, place


def contrast(part: Locator) -> dict[str, Any]:
    """The contrast of a text with what lies behind it, and both colours."""
    for _ in range(20):
        found = part.evaluate(CONTRAST_OF)
        if found is not None:
            return found
    raise AssertionError(f"{part} was always just being replaced")


def run_busy(notebook: Notebook, index: int) -> None:
    """Start a cell that does not end, and wait until the kernel is in it."""
    notebook.run_cell(index)
    wait_until(notebook, notebook.is_busy, "the start of the cell")


def test_a_long_history_is_exported_in_parts_while_a_cell_runs(open_notebook):
    """More parts than are on their way at a time, so the page has to confirm them."""
    fill = (
        "import perfmon_widgets.core.parts; perfmon_widgets.core.parts._SIZE = 2000\n"
        "for _ in range(200): panel.monitor.sample()"
    )
    notebook, place = open_panel(open_notebook, fill, BUSY)
    notebook.run_cell(1)
    notebook.wait_idle()
    run_busy(notebook, 2)
    first = len(notebook.websocket_frames)
    with notebook.page.expect_download() as download:
        place.get_by_role("button", name="Export CSV").click()
    exported = read_csv(download.value.path())
    assert len(exported) >= 200
    sent = [frame for frame in notebook.websocket_frames[first:] if frame.sent]
    assert sum("received" in frame.content.get("data", {}).get("content", {}) for frame in sent) > 4
    assert notebook.is_busy()


@pytest.mark.parametrize("then", ["button.click()", "location.reload()"])
def test_a_file_that_nobody_waits_for_any_more_delays_no_other(open_notebook, then):
    fill = (
        "import perfmon_widgets.core.parts; perfmon_widgets.core.parts._SIZE = 2000\n"
        "for _ in range(200): panel.monitor.sample()"
    )
    notebook, place = open_panel(open_notebook, fill)
    notebook.run_cell(1)
    notebook.wait_idle()
    notebook.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    button = place.get_by_role("button", name="Export CSV")
    click = f"button => {{ button.click(); {then} }}"
    if "reload" in then:
        button.evaluate(click)
        notebook.wait_kernel()
        expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
        click = "button => button.click()"
    with notebook.page.expect_download(timeout=8000) as download:  # the kernel waits 30 s for a receipt
        button.evaluate(click)
    assert len(read_csv(download.value.path())) >= 200


def test_the_quickstart_notebook_while_its_model_trains(open_notebook, tmp_path):
    longer = tmp_path / QUICKSTART.name
    before, after = "time.monotonic() + 20", "time.monotonic() + 120"
    assert before in QUICKSTART.read_text()
    longer.write_text(QUICKSTART.read_text().replace(before, after))
    notebook = open_notebook(longer, viewport=(1280, 1000))
    notebook.run_all()
    place, training = notebook.page.locator(BESIDE), notebook.cell(3)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    expect(training.locator(".jp-InputPrompt")).to_contain_text("*")

    def still_training() -> bool:
        return "*" in training.locator(".jp-InputPrompt").inner_text()

    clicked = len(notebook.websocket_frames)
    # Clicked at once: whatever was never used before must be heard too.
    place.get_by_role("checkbox", name="Log to CSV").click()
    # The sentence above the gauges may come at this moment, and move what the mouse is about to click.
    opened = place.locator(".jupyter-widget-Collapse-open")
    wait_until(notebook, lambda: opened.count() or section(place, "CPU").click(), "an open section")
    path = wait_until(notebook, lambda: log_of(notebook), "the log")
    first = wait_until(notebook, lambda: rows_shown(place), "the number of rows on the page")
    assert still_training()

    with notebook.page.expect_download() as download:
        place.get_by_role("button", name="Export CSV").click()
    assert re.fullmatch(r"perfmon-\d{8}-\d{6}\.csv", download.value.suggested_filename)
    exported = read_csv(download.value.path())
    assert "cpu_percent" in exported
    assert len(exported) >= 1
    # No click makes the kernel look idle. (JupyterLab's own requests for its debugger and subshells do.)
    states = [each for each in notebook.websocket_frames[clicked:] if each.msg_type == "status"]
    assert "comm_msg" not in {each.parent_type for each in states}
    assert still_training()

    before = {label: gauge(place, label).get_attribute("aria-valuetext") for label in ("CPU", "RAM", "Disk")}
    assert gauge(place, "CPU").get_attribute("aria-valuemin") == "0"
    assert gauge(place, "CPU").get_attribute("aria-valuemax") == "100"
    assert gauge(place, "CPU").get_attribute("aria-label") == "CPU"
    assert 0 < number(place, "RAM") < 100
    # Both at once, since the next sample may come at any moment.
    spoken, drawn = gauge(place, "RAM").evaluate(
        "each => [each.getAttribute('aria-valuetext'), each.querySelector('text').textContent]"
    )
    assert spoken.startswith(drawn)
    wait_until(
        notebook,
        lambda: gauge(place, "CPU").get_attribute("aria-valuetext") != before["CPU"],
        "a change of the CPU gauge",
    )
    wait_until(notebook, lambda: rows_shown(place) > first, "a row more")
    wait_until(notebook, lambda: any(len(line) >= 2 for line in lines(place)), "a line with two points")
    assert still_training()
    assert len(read_csv(path)) >= rows_shown(place) - 1
    # It is in sight while the cell trains that Run All has scrolled to; its own cell says where it is.
    box = place.bounding_box()
    assert box is not None
    assert box["x"] >= training.bounding_box()["x"] + training.bounding_box()["width"] - 1
    assert 0 <= box["y"] <= box["y"] + box["height"] <= 1000
    expect(notebook.cell(1).get_by_role("meter")).to_have_count(0)
    expect(notebook.cell(1).locator(".perfmon-beside")).to_be_visible()
    assert still_training()
    assert own_errors(notebook) == []


def test_a_docked_panel_follows_its_cell_and_comes_back_to_it(open_notebook):
    """Run again, closed by hand, opened again, and closed by the program: there is one tab at most."""
    dock = PANEL.replace("\npanel\n", "\npanel.dock()\n")
    notebook = open_notebook([dock, "panel.dock()", "panel.close()"])
    beside, below = notebook.page.locator(BESIDE), notebook.cell(0)

    def expect_docked() -> None:
        expect(beside.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
        expect(below.locator(".perfmon-beside")).to_be_visible()
        expect(below.get_by_role("meter")).to_have_count(0)
        assert notebook.page.locator(".jupyterlab-sidecar").count() == 1

    for _ in range(2):
        notebook.run_cell(0)
        notebook.wait_idle()
        expect_docked()
    cross = notebook.page.locator(".jp-mod-right .lm-TabBar-tabCloseIcon:visible").bounding_box()
    notebook.page.mouse.click(cross["x"] + cross["width"] / 2, cross["y"] + cross["height"] / 2)
    expect(beside).to_have_count(0)
    expect(below.get_by_role("meter")).to_have_count(3)
    before = spoken(below)
    wait_until(notebook, lambda: spoken(below) != before, "a change of the gauges in the cell")
    expect(below.locator(".perfmon-not-beside")).to_be_visible()
    notebook.run_cell(1)
    expect_docked()
    notebook.run_cell(2)
    expect(notebook.page.locator(".jupyterlab-sidecar")).to_have_count(0)
    expect(below.locator(".perfmon-panel")).to_have_count(0)
    assert own_errors(notebook) == []


def test_text_can_be_read_in_both_themes(open_notebook):
    seen: dict[str, dict[str, str]] = {}
    for theme in ("light", "dark"):
        notebook, place = open_panel(open_notebook, theme=theme)
        place.get_by_role("checkbox", name="Log to CSV").click()
        section(place, "CPU").click()
        wait_until(notebook, lambda place=place: any(map(len, lines(place))), "a line")
        parts = {
            "label": gauge(place, "CPU").locator(".perfmon-gauge-label"),
            "detail": gauge(place, "CPU").locator(".perfmon-gauge-detail"),
            "number": gauge(place, "CPU").locator(".perfmon-gauge-text"),
            "log": place.locator(".perfmon-log"),
            "checkbox": place.get_by_text("Log to CSV", exact=True),
            "table head": place.locator(".perfmon-table thead th:visible").first,
            "table": place.locator(".perfmon-table td:visible").first,
            "axis": place.locator(".bqplot .tick text:visible").first,
            "title": place.locator(".bqplot .mainheading:visible").first,
            "section": section(place, "CPU"),
        }
        measured = {name: contrast(part) for name, part in parts.items()}
        poor = {name: found for name, found in measured.items() if found["contrast"] < CONTRAST}
        assert poor == {}, theme
        seen[theme] = {name: found["text"] for name, found in measured.items()}
        arc = gauge(place, "CPU").locator(".perfmon-gauge-arc")
        seen[theme]["arc"] = arc.evaluate("arc => getComputedStyle(arc).stroke")
        seen[theme]["back"] = measured["detail"]["back"]
    assert {name for name in seen["light"] if seen["light"][name] == seen["dark"][name]} == set()


def test_a_page_that_is_loaded_again_has_the_panel_live_and_heard(open_notebook):
    notebook, _ = open_panel(open_notebook, BUSY)
    notebook.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    notebook.page.reload()
    notebook.wait_kernel()
    place = notebook.cell(0)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    run_busy(notebook, 1)
    place.get_by_role("checkbox", name="Log to CSV").click()
    wait_until(notebook, lambda: log_of(notebook), "the log")
    first = wait_until(notebook, lambda: rows_shown(place), "the number of rows on the page")
    wait_until(notebook, lambda: rows_shown(place) > first + 2, "more rows")
    section(place, "Memory").click()
    wait_until(notebook, lambda: any(len(line) >= 2 for line in lines(place)), "a line with two points")
    assert notebook.is_busy()
    assert own_errors(notebook) == []


def make_panel_wide(notebook: Notebook, place: Locator, width: float) -> None:
    """Change the page until the panel has that width."""
    size = notebook.page.viewport_size
    now = place.locator(".perfmon-panel").bounding_box()
    assert size is not None
    assert now is not None
    notebook.page.set_viewport_size(
        {"width": round(size["width"] + width - now["width"]), "height": size["height"]}
    )
    wait_until(
        notebook,
        lambda: abs(place.locator(".perfmon-panel").evaluate("panel => panel.offsetWidth") - width) <= 2,
        f"a panel {width} px wide",
    )


def test_the_panel_is_compact_and_fits_640_px_and_wraps_below(open_notebook):
    notebook, place = open_panel(open_notebook)
    make_panel_wide(notebook, place, 1060)
    assert boxes(place, ".perfmon-panel")[0]["height"] <= 110  # gauges, controls and closed sections
    make_panel_wide(notebook, place, 640)
    assert boxes(place, ".perfmon-panel")[0]["height"] <= 150
    section(place, "Memory").click()
    place.get_by_role("checkbox", name="Log to CSV").click()
    wait_until(notebook, lambda: rows_shown(place), "the number of rows on the page")
    for width, rows in ((640, 1), (420, 2)):
        make_panel_wide(notebook, place, width)
        panel = boxes(place, ".perfmon-panel")[0]
        gauges = boxes(place, ".perfmon-gauge")
        assert len(gauges) == 4
        assert len({round(box["y"]) for box in gauges}) == rows
        assert [pair for pair in itertools.combinations(gauges, 2) if overlap(*pair)] == []
        controls = boxes(place, ".widget-checkbox, .widget-dropdown, .perfmon-export, .perfmon-log")
        assert [pair for pair in itertools.combinations(controls, 2) if overlap(*pair)] == []
        inside = gauges + controls + boxes(place, ".bqplot:visible")
        assert all(box["x"] >= panel["x"] - 1 for box in inside)
        assert all(box["x"] + box["width"] <= panel["x"] + panel["width"] + 1 for box in inside)


def test_each_control_says_what_it_does(open_notebook):
    """By the mouse, too: ipywidgets shows no tooltip of a control that has a description."""
    _, place = open_panel(open_notebook)
    for label, words in (
        ("Log to CSV", "Write each sample to a file in the working directory"),
        ("Guard memory", "Let an allocation fail before memory is full, so that the kernel lives"),
        ("Show last", "How much of the history the charts show"),
        ("Sample every", "How often a sample is taken"),
    ):
        control = place.get_by_label(label, exact=True)
        shown = control.locator("xpath=ancestor-or-self::*[@title][1]")
        expect(shown).to_have_attribute("title", words)
    button = place.get_by_role("button", name="Export CSV")
    expect(button).to_have_attribute("title", "Download the history as a CSV file")


def test_the_times_below_a_chart_begin_with_half_a_minute_and_follow_the_history(open_notebook):
    notebook, place = open_panel(open_notebook)
    section(place, "CPU").click()
    clock = re.compile(r"^\d\d:\d\d:\d\d$")
    times = place.locator(".bqplot g.axis .tick text:visible").filter(has_text=clock)

    def seconds() -> list[int]:
        """The times of the ticks, as seconds of the hour."""
        found = [text.split(":") for text in times.all_text_contents()]
        return [60 * int(minutes) + int(rest) for _, minutes, rest in found]

    def steps() -> set[int]:
        return {(after - before) % 3600 for before, after in itertools.pairwise(seconds())}

    expect(place.locator(".bqplot g.axis").get_by_text("now", exact=True)).to_be_visible()
    wait_until(notebook, lambda: len(seconds()) >= 2 and steps() <= {5, 10}, "round times of half a minute")
    ago = (notebook.evaluate("new Date().getMinutes() * 60 + new Date().getSeconds()") - seconds()[-1]) % 3600
    assert ago < 20
    notebook.page.wait_for_timeout(30_000)
    wait_until(notebook, lambda: steps() <= {10, 15, 30} and len(seconds()) >= 2, "round times of more")
    assert [error for error in notebook.console_errors if "attribute" in error] == []  # bqplot's, of points


def test_lines_lie_in_the_window_in_every_time_zone(open_notebook):
    notebook, place = open_panel(open_notebook, timezone="America/New_York")
    assert notebook.evaluate("new Date(0).getHours()") != 0
    section(place, "CPU").click()
    wait_until(notebook, lambda: any(len(line) >= 5 for line in lines(place)), "a line with five points")
    [area] = place.locator("rect.plotarea_events:visible").evaluate_all(
        "areas => areas.map(area => [area.width.baseVal.value, area.height.baseVal.value])"
    )
    for line in lines(place):
        assert line[-1][0] == pytest.approx(area[0], abs=2)  # now is at the right end
        assert all(0 <= x <= area[0] + 1 and -1 <= y <= area[1] + 1 for x, y in line)
        assert [x for x, _ in line] == sorted(x for x, _ in line)
