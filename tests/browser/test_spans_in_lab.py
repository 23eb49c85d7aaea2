"""Cells, spans, marks and recorded values on the charts of a panel in a real JupyterLab."""

from __future__ import annotations

import pytest
from panel_page import lines, own_errors, section, wait_until
from playwright.sync_api import Locator, expect

PANEL = """
from perfmon_widgets import PerformanceMonitor, PerformancePanel

monitor = PerformanceMonitor(interval=0.3)
monitor.start()
panel = PerformancePanel(monitor)
panel.advanced.selected_index = panel.advanced.titles.index("Memory")
panel.advanced.set_window(20.0)
panel
"""
# So long that the next cell's name does not lie over that of this one, however soon it comes.
WORK = """
import time
x = bytearray(100_000_000)
time.sleep(2.5)
"""
SPANS = """
for epoch in range(3):
    monitor.mark(f"epoch {epoch}")
    with monitor.span("validation"):
        time.sleep(1)
    monitor.record(loss=1 / (epoch + 1), **{"train/accuracy": epoch / 3, "test/accuracy": epoch / 4})
    time.sleep(1)
"""
RECORDED = """
monitor.record(lr=-1e-5)
time.sleep(0.5)
panel.advanced.selected_index = panel.advanced.titles.index("Recorded values")
"""


def words(place: Locator) -> set[str]:
    """What stands in the charts that are visible."""
    return set(place.locator(".bqplot text:visible").all_text_contents())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_charts_show_cells_spans_marks_and_recorded_values(open_notebook, theme):
    notebook = open_notebook([PANEL, WORK, "1 + 1", SPANS, RECORDED], theme=theme, viewport=(1280, 1100))
    for at in range(4):
        notebook.run_cell(at)
        notebook.wait_idle()
    place = notebook.cell(0)
    expected = {"[2]", "[4]", "epoch 0", "validation"}
    wait_until(
        notebook,
        lambda: expected <= {word for text in words(place) for word in (text, text.partition(" ")[0])},
        "the names of cells, spans and marks",
    )
    assert "[3]" not in words(place)  # too short for a name
    assert "epoch 0" in words(place)
    notebook.run_cell(4)
    notebook.wait_idle()
    expect(section(place, "Recorded values")).to_be_visible()
    wait_until(
        notebook, lambda: {"loss", "accuracy", "lr"} <= words(place), "a chart for each kind of number"
    )
    wait_until(notebook, lambda: sum(len(line) == 3 for line in lines(place)) >= 3, "lines joined over rows")
    assert own_errors(notebook) == []
