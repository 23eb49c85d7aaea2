"""Whatever becomes of the page, the network and the kernel: one monitor thread, one live panel, all data."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lab import Notebook
from panel_page import TIMEOUT, lines, logs_of, rows_shown, section, spoken, updates, wait_until
from playwright.sync_api import Locator, expect
from proxy import network

# As people write it, but for the interval.
PANEL = """
from perfmon_widgets import PerformancePanel

panel = PerformancePanel()
panel.monitor.interval = 0.5
panel
"""
COUNT = """
import gc, json, pathlib, threading
import psutil
from ipywidgets.widgets.widget import _instances

gc.collect()
counted = {
    "threads": sum(each.name.startswith("perfmon") for each in threading.enumerate()),
    "widgets": len(_instances),
    "rows": len(panel.monitor.history),
    "memory": psutil.Process().memory_info().rss,
}
pathlib.Path("counted.json").write_text(json.dumps(counted))
"""
# It asks seldom: every few milliseconds that would keep all other threads from the GIL, see Sampler.
BUSY = """
import pathlib, time
end = time.monotonic() + 120
while time.monotonic() < end and not pathlib.Path("stop").exists():
    for _ in range(3_000_000):
        pass
"""
RUN_FIRST_CELL = """async times => {
  const content = window.jupyterapp.shell.currentWidget.content;
  for (let time = 0; time < times; time++) {
    content.deselectAll();
    content.activeCellIndex = 0;
    await window.jupyterapp.commands.execute("notebook:run-cell");
  }
}"""
SAVE = "window.jupyterapp.commands.execute('docmanager:save')"


def open_panel(open_notebook: Callable[..., Notebook], *cells: str, **options: Any) -> Notebook:
    """A notebook with a live panel in its first cell, a cell that counts, and more cells."""
    notebook = open_notebook([PANEL, COUNT, *cells], **options)
    notebook.run_cell(0)
    wait_live(notebook, notebook.cell(0))
    notebook.wait_idle()
    return notebook


def wait_live(notebook: Notebook, place: Locator) -> None:
    """Wait until there is a panel whose gauges move."""
    expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
    before = spoken(place)
    wait_until(notebook, lambda: spoken(place) != before, "a change of the gauges")


def count(notebook: Notebook) -> dict[str, int]:
    """What there is in the kernel."""
    notebook.run_cell(1)
    notebook.wait_idle()
    return dict(json.loads((notebook.path.parent / "counted.json").read_text()))


def messages_per_sample(notebook: Notebook) -> float:
    """How many messages widgets send to the browser for each sample; from three seconds.

    Not for each second: as many samples fall into three seconds as the machine has time for.
    """
    sent = [frame.content["data"].get("state", {}) for frame in updates(notebook, 3)]
    return len(sent) / len({state["readings"]["time"] for state in sent if "readings" in state})


def points(notebook: Notebook, place: Locator) -> int:
    """How many points the longest line of the CPU section has, once it has been drawn."""
    if not lines(place):
        section(place, "CPU").click()
    wait_until(notebook, lambda: any(len(line) >= 2 for line in lines(place)), "a line with two points")
    return max(len(line) for line in lines(place))


def open_again(notebook: Notebook, opened: list[Notebook]) -> Notebook:
    """The same notebook, with the kernel it has, in another tab."""
    other = Notebook(notebook.context, notebook.server, notebook.path)
    opened.append(other)
    other.load()
    return other


def run_busy(notebook: Notebook, index: int) -> None:
    notebook.run_cell(index)
    wait_until(notebook, notebook.is_busy, "the start of the cell")


def test_the_same_cell_run_fifty_times_leaves_one_panel(open_notebook):
    notebook = open_panel(open_notebook)
    place = notebook.cell(0)

    def run(times: int) -> tuple[dict[str, int], int, dict[str, float]]:
        notebook.evaluate(RUN_FIRST_CELL, times)
        notebook.wait_idle()
        wait_live(notebook, place)
        return count(notebook), messages_per_sample(notebook), notebook.metrics()

    # Fifty, because a browser lets go of what was shown only now and then: after twenty it still grows.
    kernel, rate, page = run(5)
    kernel_after, rate_after, page_after = run(45)
    assert kernel["threads"] == kernel_after["threads"] == 1
    assert kernel_after["widgets"] <= kernel["widgets"] + 3  # one of its gauges may come a moment later
    assert kernel_after["rows"] > kernel["rows"] + 5  # the monitor is the same
    assert kernel_after["memory"] < kernel["memory"] + 20e6
    assert rate_after <= rate + 0.5
    # JupyterLab keeps the elements of views that have gone: 30 of a dropdown, 25 of an accordion.
    assert page_after["Nodes"] <= page["Nodes"] + 45 * 400
    assert page_after["JSEventListeners"] <= page["JSEventListeners"] + 45 * 80
    assert page_after["JSHeapUsedSize"] <= page["JSHeapUsedSize"] + 45 * 800_000  # a plain widget: 14,000
    expect(notebook.page.locator(".perfmon-panel")).to_have_count(1)


def assert_all_is_there(notebook: Notebook, before: dict[str, int]) -> None:
    """A page that was opened anew is live, has all points, and has made nothing that was not there."""
    place = notebook.cell(0)
    wait_live(notebook, place)
    assert points(notebook, place) >= before["rows"] - 1
    after = count(notebook)
    assert (after["threads"], after["widgets"]) == (1, before["widgets"])


def test_a_page_that_is_loaded_again_has_all_data(open_notebook):
    notebook = open_panel(open_notebook)
    points(notebook, notebook.cell(0))  # the widgets of a chart are made when it is first shown
    before = count(notebook)
    notebook.evaluate(SAVE)
    notebook.page.reload()
    notebook.wait_kernel()
    assert_all_is_there(notebook, before)


def test_a_tab_that_is_closed_and_opened_again_has_all_data(open_notebook, opened):
    notebook = open_panel(open_notebook)
    points(notebook, notebook.cell(0))
    before = count(notebook)
    notebook.evaluate(SAVE)
    notebook.page.close()
    again = open_again(notebook, opened)
    assert_all_is_there(again, before)


def test_two_tabs_are_live_and_agree_while_the_kernel_is_busy(open_notebook, opened):
    notebook = open_panel(open_notebook, BUSY)
    rate = messages_per_sample(notebook)
    notebook.evaluate(SAVE)
    other = open_again(notebook, opened)
    place, other_place = notebook.cell(0), other.cell(0)
    wait_live(other, other_place)
    run_busy(notebook, 2)
    other_place.get_by_role("checkbox", name="Log to CSV").click()
    for page, tab in ((notebook, place), (other, other_place)):
        expect(tab.get_by_role("checkbox", name="Log to CSV")).to_be_checked(timeout=TIMEOUT * 1000)
        wait_until(page, lambda tab=tab: rows_shown(tab), "the number of rows")
        wait_live(page, tab)
    place.get_by_role("checkbox", name="Log to CSV").click()
    for tab in (place, other_place):
        expect(tab.locator(".perfmon-log")).to_contain_text("closed", timeout=TIMEOUT * 1000)
        expect(tab.get_by_role("checkbox", name="Log to CSV")).not_to_be_checked()
    assert len(logs_of(notebook)) == 1
    assert notebook.is_busy()
    assert messages_per_sample(notebook) <= rate + 0.5  # each tab gets the same messages


def test_a_second_view_of_the_output_is_live_too(open_notebook):
    notebook = open_panel(open_notebook, BUSY)
    rate = messages_per_sample(notebook)
    run_busy(notebook, 2)
    notebook.evaluate(
        "() => { const content = window.jupyterapp.shell.currentWidget.content;"
        " content.deselectAll(); content.activeCellIndex = 0;"
        " return window.jupyterapp.commands.execute('notebook:create-output-view'); }"
    )
    panels = notebook.page.locator(".perfmon-panel")
    expect(panels).to_have_count(2, timeout=TIMEOUT * 1000)
    for number in range(2):
        wait_live(notebook, panels.nth(number))
    panels.nth(1).get_by_role("checkbox", name="Log to CSV").click()
    for number in range(2):
        expect(panels.nth(number).get_by_role("checkbox", name="Log to CSV")).to_be_checked()
        wait_until(notebook, lambda number=number: rows_shown(panels.nth(number)), "the number of rows")
    assert notebook.is_busy()
    assert messages_per_sample(notebook) <= rate + 1.5  # the rows of the log are one more


def test_the_panel_is_live_again_after_a_loss_of_the_network(open_notebook, lab_server):
    with network(lab_server.port) as proxy:
        notebook = open_panel(open_notebook, BUSY, address=proxy.url)
        place = notebook.cell(0)
        points(notebook, place)
        before, rate = count(notebook), messages_per_sample(notebook)
        run_busy(notebook, 2)
        proxy.cut()
        expect(place.locator(".perfmon-stale")).not_to_have_count(0, timeout=TIMEOUT * 1000)
        notebook.page.wait_for_timeout(5_000)
        proxy.mend()
        # JupyterLab says so in a dialog over the page.
        dialog = notebook.page.locator(".jp-Dialog")
        notebook.page.add_locator_handler(dialog, lambda: dialog.get_by_role("button").last.click())
        expect(place.locator(".perfmon-stale")).to_have_count(0, timeout=2 * TIMEOUT * 1000)
        wait_live(notebook, place)
        place.get_by_role("checkbox", name="Log to CSV").click()
        wait_until(notebook, lambda: rows_shown(place), "the number of rows")
        assert notebook.is_busy()
        (notebook.path.parent / "stop").touch()
        notebook.wait_idle()
        after = count(notebook)
        assert (after["threads"], after["widgets"]) == (1, before["widgets"])
        place.get_by_role("checkbox", name="Log to CSV").click()  # the rows of the log are messages too
        expect(place.locator(".perfmon-log")).to_contain_text("closed", timeout=TIMEOUT * 1000)
        # Below twice as many: a busy machine takes fewer samples for each drawing of a figure.
        assert messages_per_sample(notebook) < 1.75 * rate
        assert points(notebook, place) >= before["rows"] - 1


def test_a_kernel_that_is_restarted_and_run_again_has_one_live_panel(open_notebook):
    notebook = open_panel(open_notebook)
    before, rate = count(notebook), messages_per_sample(notebook)
    notebook.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    notebook.wait_kernel()
    notebook.run_all()
    notebook.wait_idle()
    place = notebook.cell(0)
    wait_live(notebook, place)
    expect(notebook.page.locator(".perfmon-panel")).to_have_count(1)
    after = count(notebook)
    assert (after["threads"], after["widgets"]) == (1, before["widgets"])
    assert after["rows"] < before["rows"] + 10
    assert messages_per_sample(notebook) <= rate + 0.5
