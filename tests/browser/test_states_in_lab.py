"""The panel says what is: started, stopped, silent, restarted; seen by nobody; and without a kernel."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab import Notebook
from panel_page import BUSY, TIMEOUT, gauge, lines, logs_of, number, section, spoken, updates, wait_until
from playwright.sync_api import Browser, Locator, expect

PANEL = """
import threading
from perfmon_widgets import Metric, PerformanceMonitor, PerformancePanel, default_collectors

go_on = threading.Event()
go_on.set()

class Gate:
    metrics = [Metric("gate_percent", "percent", "gate", "What can be made to hang.")]

    def collect(self):
        go_on.wait()
        return {"gate_percent": 1}

monitor = PerformanceMonitor([*default_collectors(), Gate()], interval=0.3)
panel = PerformancePanel(monitor)
"""
SHOW = "monitor.start()\npanel"
LABELS = ("GPU", "CPU", "RAM", "Disk")
RESTART = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
SAVE = "window.jupyterapp.commands.execute('docmanager:save')"


def open_panel(
    open_notebook: Callable[..., Notebook], *cells: str, before: str = PANEL, **options: Any
) -> tuple[Notebook, Locator]:
    """A notebook whose first cell shows a live panel, and the place of that cell."""
    notebook = open_notebook([before + SHOW, *cells], **options)
    notebook.run_cell(0)
    place = notebook.cell(0)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    notebook.wait_idle()
    return notebook, place


def expect_words(place: Locator, words: str | re.Pattern[str]) -> None:
    """The panel says this once; each gauge has it as its tooltip, and what it said last as its detail."""
    expect(place.locator(".perfmon-hint")).to_have_text(words, timeout=TIMEOUT * 1000)
    expect(place.get_by_text(words)).to_have_count(1)
    for label in LABELS:
        expect(gauge(place, label).locator(".perfmon-gauge-detail")).not_to_be_empty()
        expect(gauge(place, label)).to_have_attribute("title", words)


def run(notebook: Notebook, index: int) -> None:
    notebook.run_cell(index)
    notebook.wait_idle()


def test_a_monitor_that_is_stopped_says_so_at_once_and_comes_back(open_notebook):
    notebook, place = open_panel(open_notebook, "monitor.stop()", "monitor.start()")
    stopped = re.compile(r"^monitor is stopped, values of \d+:\d\d:\d\d")
    start = place.get_by_role("button", name="Start", exact=True)

    def expect_live() -> None:
        expect(place.locator(".perfmon-stale")).to_have_count(0, timeout=TIMEOUT * 1000)
        expect(place.get_by_text("monitor is stopped")).to_have_count(0)
        expect(start).to_be_hidden()

    expect_live()
    notebook.run_cell(1)
    expect(place.locator(".perfmon-stale")).to_have_count(4, timeout=2000)
    expect_words(place, stopped)
    value = number(place, "RAM")
    assert 0 < value < 100
    notebook.page.wait_for_timeout(1500)  # longer than three intervals
    expect_words(place, stopped)
    assert number(place, "RAM") == value
    notebook.run_cell(2)
    expect_live()
    for _ in range(2):  # the button can be used again
        run(notebook, 1)
        start.click()
        expect_live()


def test_a_monitor_without_a_first_sample_is_starting(open_notebook):
    slow = PANEL.replace("interval=0.3", "interval=3")
    notebook = open_notebook([slow + "go_on.clear()\n" + SHOW, "go_on.set()"])
    run(notebook, 0)
    place = notebook.cell(0)
    for label in LABELS:
        expect(gauge(place, label).locator(".perfmon-gauge-detail")).to_have_text("starting…")
    expect(place.locator(".perfmon-stale")).to_have_count(0)
    expect(place.get_by_role("meter")).to_have_count(0)
    run(notebook, 1)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)


def test_the_line_of_plain_words_takes_space_only_where_there_is_something_to_say(open_notebook):
    silent = "said = []\nmonitor.findings = lambda: said\n"
    loop = (
        "import time\nfrom perfmon_widgets.views.evidence import Finding\n"
        "said.append(Finding('critical', 'RAM is nearly full', '15 of 16 GiB in use', 'free some'))\n"
        "time.sleep(6)\nsaid.clear()"
    )
    notebook, place = open_panel(open_notebook, loop, before=PANEL + silent)
    line = place.locator(".perfmon-verdict")
    expect(line).to_be_hidden()
    notebook.run_cell(1)
    expect(line).to_have_text("RAM is nearly full: 15 of 16 GiB in use", timeout=TIMEOUT * 1000)
    expect(line).to_be_visible()
    assert line.locator("span").get_attribute("title") == "free some"
    gauges = place.get_by_role("meter").first.bounding_box()
    box = line.bounding_box()
    assert box["height"] < 30
    assert box["y"] + box["height"] <= gauges["y"] + 1
    notebook.wait_idle()
    expect(line).to_be_hidden()


def test_gauges_in_a_layout_of_ones_own_say_themselves_why_they_are_old(open_notebook):
    alone = PANEL + "monitor.start()\npanel.gauges"
    notebook = open_notebook([alone, "monitor.stop()"])
    run(notebook, 0)
    place = notebook.cell(0)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    run(notebook, 1)
    for label in LABELS:
        detail = gauge(place, label).locator(".perfmon-gauge-detail")
        expect(detail).to_have_text(re.compile("^monitor is stopped"))


def test_a_silent_monitor_is_greyed_and_says_for_how_long_and_that_the_kernel_is_busy(open_notebook):
    notebook, place = open_panel(open_notebook, "go_on.clear()", BUSY, "go_on.set()")
    expect(place.get_by_text(re.compile("no update"))).to_have_count(0)
    run(notebook, 1)
    expect_words(place, re.compile(r"^no update for [1-9]\d* s$"))
    expect(place.locator(".perfmon-stale")).to_have_count(4)
    assert "no update for" in (spoken(place)[0] or "")
    circle = gauge(place, "CPU").locator("circle").first
    assert float(circle.evaluate("circle => getComputedStyle(circle).opacity")) < 0.7
    notebook.run_cell(2)
    expect_words(place, re.compile(r"^no update for [1-9]\d* s \(kernel busy\)$"))
    notebook.evaluate("window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    notebook.wait_idle()
    run(notebook, 3)
    expect(place.locator(".perfmon-stale")).to_have_count(0, timeout=TIMEOUT * 1000)
    expect(place.get_by_text(re.compile("no update"))).to_have_count(0)


def test_a_longer_interval_is_no_silence(open_notebook):
    program = "import time\nmonitor.interval = 0.3\ntime.sleep(1)\nmonitor.interval = 30\ntime.sleep(5)"
    notebook, place = open_panel(open_notebook, program)
    choice = place.get_by_label("Sample every")

    def expect_live(chosen: str) -> None:
        expect(choice.locator("option:checked")).to_have_text(chosen)
        notebook.page.wait_for_timeout(2500)  # longer than three of the shorter interval
        expect(place.locator(".perfmon-stale")).to_have_count(0)
        expect(place.locator(".perfmon-hint")).to_be_empty()

    choice.select_option("10 s")
    expect_live("10 s")
    notebook.run_cell(1)
    expect_live("30 s")


@pytest.mark.parametrize("end", ["a person", "a crash"])
def test_after_a_restart_no_number_looks_live_and_the_layout_holds(open_notebook, end):
    notebook, place = open_panel(open_notebook, "import os; os._exit(1)")
    section(place, "CPU").click()
    wait_until(notebook, lambda: any(len(line) >= 2 for line in lines(place)), "a line with two points")
    before = place.locator(".perfmon-panel").bounding_box()
    assert before is not None
    if end == "a person":
        notebook.evaluate(RESTART)
    else:
        notebook.run_cell(1)
    expect(place.locator(".perfmon-stale")).to_have_count(4, timeout=TIMEOUT * 1000)
    expect_words(place, "kernel was restarted: run the cell again")
    for part in (place.locator(".bqplot:visible").first, place.locator(".perfmon-table:visible").first):
        assert "grayscale" in part.evaluate("part => getComputedStyle(part).filter")
    after = place.locator(".perfmon-panel").bounding_box()
    assert after is not None
    assert abs(after["height"] - before["height"]) <= 2
    icons = place.locator(".jupyter-widgets-disconnected").evaluate_all(
        "all => all.map(each => getComputedStyle(each, '::before').display)"
    )
    assert set(icons) <= {"none"}
    # The dialog that says that the kernel has died, over a notebook that can be used again.
    if end == "a crash":
        notebook.page.locator(".jp-Dialog button").last.click()
    notebook.wait_kernel()
    notebook.run_cell(0)
    expect(place.locator(".perfmon-stale")).to_have_count(0, timeout=TIMEOUT * 1000)
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)


@pytest.mark.parametrize("command", ["notebook:clear-cell-output", "notebook:delete-cell"])
@pytest.mark.parametrize("busy", [False, True])
def test_a_panel_that_is_shown_no_more_is_sent_nothing_more(open_notebook, command, busy):
    notebook, _ = open_panel(open_notebook, BUSY)
    assert len(updates(notebook, 3)) >= 4  # of six samples
    if busy:
        notebook.run_cell(1)
        wait_until(notebook, notebook.is_busy, "the start of the cell")
    notebook.evaluate(
        """command => {
          window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0;
          return window.jupyterapp.commands.execute(command);
        }""",
        command,
    )
    notebook.page.wait_for_timeout(1500)  # a view that is moved goes and comes
    assert updates(notebook, 2) == []
    assert notebook.is_busy() == busy


def test_a_browser_that_says_nothing_is_sent_nothing_until_it_speaks_again(open_notebook):
    """The same as with a closed laptop, in seconds instead of minutes; while the kernel is busy."""
    # The page says that it is there every six seconds, and the kernel takes it for gone after two.
    shortened = PANEL + "panel._viewers.heartbeat, panel._link.heartbeat = 1.0, 6.0\n"
    notebook, place = open_panel(open_notebook, BUSY, before=shortened)
    notebook.run_cell(1)
    wait_until(notebook, notebook.is_busy, "the start of the cell")
    times = [frame.time for frame in updates(notebook, 20)]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    silences = [number for number, wait in enumerate(waits) if wait > 3]
    assert len(silences) >= 2
    between = times[silences[0] + 1 : silences[1] + 1]
    assert len(between) >= 3  # samples that it was sent after it had spoken
    assert between[-1] - between[0] < 4
    wait_until(notebook, lambda: place.locator(".perfmon-stale").count() == 0, "being live again")


# A file that grows by a byte with each message that a widget sends.
WATCH = """
from ipywidgets.widgets.widget import Widget

sent = open("sent.txt", "ab", buffering=0)
usual = Widget._send

def send(self, *arguments, **named):
    sent.write(b".")
    return usual(self, *arguments, **named)

Widget._send = send
"""


@pytest.mark.parametrize("how", ["closed", "left"])
def test_a_page_says_goodbye_when_it_is_closed(open_notebook, opened, how):
    """While the kernel is busy; its heartbeat, and so its silence, is minutes."""
    notebook, _ = open_panel(open_notebook, BUSY, before=WATCH + PANEL)
    notebook.run_cell(1)
    wait_until(notebook, notebook.is_busy, "the start of the cell")
    path = notebook.path.parent / "sent.txt"

    def sent_in(seconds: float) -> int:
        before = path.stat().st_size
        time.sleep(seconds)
        return path.stat().st_size - before

    wait_until(notebook, lambda: sent_in(0.5) > 0, "sending")
    notebook.page.close() if how == "closed" else notebook.page.goto("about:blank")
    # Without a goodbye the kernel would go on for two heartbeats, which is ten minutes.
    deadline = time.monotonic() + TIMEOUT
    while sent_in(3) > 0:
        assert time.monotonic() < deadline, f"the page had gone for {TIMEOUT:g} s"


def test_a_change_that_waits_for_the_cell_says_so_and_happens_then(open_notebook):
    """As in a front end without a control channel."""
    notebook, place = open_panel(open_notebook, BUSY.replace("60", "6"))
    notebook.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.sendControlMessage = null"
    )
    hint = place.locator(".perfmon-hint")
    place.get_by_role("checkbox", name="Log to CSV").click()
    wait_until(notebook, lambda: logs_of(notebook), "the log while no cell runs")
    notebook.page.wait_for_timeout(1500)
    expect(hint).to_have_text("")
    place.get_by_role("checkbox", name="Log to CSV").click()
    expect(place.locator(".perfmon-log")).to_contain_text("closed", timeout=TIMEOUT * 1000)
    # Without a subshell either, as with ipykernel 6.
    notebook.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.commsOverSubshells = 'disabled'"
    )
    notebook.run_cell(1)
    wait_until(notebook, notebook.is_busy, "the start of the cell")
    place.get_by_label("Sample every").select_option("7 s")
    expect(hint).to_have_text("applies when the cell ends", timeout=TIMEOUT * 1000)
    assert notebook.is_busy()
    notebook.wait_idle()
    expect(hint).to_have_text("", timeout=TIMEOUT * 1000)
    expect(place.get_by_label("Sample every").locator("option:checked")).to_have_text("7 s")


# -- without a kernel --------------------------------------------------------------------------------------


def expect_table(place: Locator) -> None:
    """The last values are there as a table with their time, and a chart; nothing looks like an error."""
    table = place.locator(".perfmon-snapshot")
    expect(table).to_be_visible(timeout=TIMEOUT * 1000)
    words = r"^Last values, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+\. Run the cell to have them live\.$"
    expect(table.locator("caption")).to_have_text(re.compile(words))
    for label in LABELS:
        expect(table.locator("tbody tr").filter(has_text=label)).to_have_count(1)
    expect(table.locator("tbody tr").filter(has_text="RAM")).to_contain_text("%")
    chart = table.locator("details[open] img")
    expect(chart).to_be_visible()
    assert chart.evaluate("image => image.decode().then(() => image.naturalWidth)") > 600
    for error in ("Error displaying widget", "Loading widget", "model not found"):
        expect(place.get_by_text(error).locator("visible=true")).to_have_count(0)


def open_file(notebook: Notebook, chromium: Browser, opened: list[Notebook], path: Path) -> Notebook:
    """A notebook file as it is, in a browser that has not seen it, with a new kernel."""
    other = Notebook(chromium.new_context(), notebook.server, path)
    opened.append(other)
    other.open()
    return other


def test_a_live_panel_hides_the_table(open_notebook):
    _, place = open_panel(open_notebook)
    expect(place.locator(".perfmon-snapshot")).to_be_hidden()
    # Nor does it leave an empty place.
    heights = place.locator(".jp-OutputArea-child").evaluate_all("all => all.map(each => each.offsetHeight)")
    assert len(heights) == 2
    assert heights[0] > 0
    assert heights[1] == 0  # the table comes after the value of the cell


@pytest.mark.parametrize("trusted", [True, False])
def test_a_notebook_opened_again_has_the_last_values(open_notebook, chromium, opened, trusted):
    notebook, _ = open_panel(open_notebook, "1 + 1")
    run(notebook, 1)  # after each cell the values that are stored are those of then
    notebook.page.wait_for_timeout(300)
    notebook.evaluate(SAVE)
    wait_until(notebook, lambda: "Last values" in notebook.path.read_text(), "saving")
    path = notebook.path
    notebook.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    if not trusted:  # as any notebook of somebody else's
        stored = nbformat.read(path, 4)
        stored.cells[0].metadata["from"] = "elsewhere"
        path = path.with_name("copy.ipynb")
        for cell in stored.cells:
            for output in cell.get("outputs", []):
                output.metadata["from"] = "elsewhere"
        nbformat.write(stored, path)
    other = open_file(notebook, chromium, opened, path)
    expect_table(other.cell(0))
    other.page.wait_for_timeout(1500)
    expect_table(other.cell(0))


def test_a_page_made_by_nbconvert_has_the_last_values_without_a_network(tmp_path, chromium):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(PANEL + SHOW),
            nbformat.v4.new_code_cell("import time\ntime.sleep(1.5)"),
        ]
    )
    path = tmp_path / "notebook.ipynb"
    nbformat.write(notebook, path)
    convert = [sys.executable, "-m", "nbconvert", "--to", "html", "--execute", str(path)]
    subprocess.run(convert, check=True, timeout=120, capture_output=True)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto(path.with_suffix(".html").as_uri(), wait_until="domcontentloaded")
    expect_table(page.locator("body"))
    context.close()


def test_saved_widgets_say_that_their_values_are_old(open_notebook, chromium, opened, tmp_path):
    """nbconvert stores the widgets too; JupyterLab shows them in a notebook that it trusts."""
    notebook, _ = open_panel(open_notebook)
    # What is stored is what there is when the cell has ended: numbers, if there has been a sample.
    source = PANEL + SHOW.replace("\n", "\nwhile monitor.latest is None:\n    pass\n")
    stored = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    stored.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = notebook.path.with_name("stored.ipynb")
    nbformat.write(stored, path)
    execute = ["nbconvert", "--to", "notebook", "--inplace", "--execute", str(path)]
    subprocess.run([sys.executable, "-m", *execute], check=True, timeout=120, capture_output=True)
    other = Notebook(chromium.new_context(), notebook.server, path)
    opened.append(other)
    other.open()
    # As a person does who trusts the notebook; the page is loaded again with it.
    other.page.evaluate("void window.jupyterapp.commands.execute('notebook:trust')")
    other.page.locator(".jp-Dialog button.jp-mod-accept, .jp-Dialog button.jp-mod-warn").last.click()
    other.page.wait_for_timeout(1000)
    other.evaluate(SAVE)
    other.page.wait_for_timeout(500)
    other.page.reload()
    other.wait_kernel()
    place = other.page.locator(".jp-Notebook .jp-Cell:visible").first  # the other notebook is a tab too
    expect(place.locator(".perfmon-stale")).to_have_count(4, timeout=TIMEOUT * 1000)
    expect_words(place, re.compile(r"^saved .*\d:\d\d.*: run the cell again$"))
    assert 0 < number(place, "RAM") < 100
    section(place, "CPU").click()  # does nothing, and breaks nothing
