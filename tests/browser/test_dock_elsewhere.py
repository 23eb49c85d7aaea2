"""A docked panel in a front end that has no place beside the notebook: Notebook 7."""

from __future__ import annotations

import pytest
from lab import Notebook, write_notebook
from panel_page import TIMEOUT, spoken, wait_until
from playwright.sync_api import Browser, expect
from servers import NOTEBOOK, start_server

DOCK = """
from perfmon_widgets import PerformanceMonitor, PerformancePanel

monitor = PerformanceMonitor(interval=0.3)
monitor.start()
panel = PerformancePanel(monitor)
panel.dock()
"""


def test_the_panel_is_shown_below_its_cell_and_says_what_docking_takes(
    chromium: Browser, opened: list[Notebook], tmp_path_factory: pytest.TempPathFactory
):
    with start_server(tmp_path_factory.mktemp("notebook"), NOTEBOOK) as server:
        notebook = Notebook(chromium.new_context(), server, write_notebook([DOCK], server.root))
        opened.append(notebook)
        notebook.open()
        notebook.run_cell(0)
        place = notebook.cell(0)
        expect(place.get_by_role("meter")).to_have_count(3, timeout=TIMEOUT * 1000)
        before = spoken(place)
        wait_until(notebook, lambda: spoken(place) != before, "a change of the gauges")
        expect(place.locator(".perfmon-not-beside")).to_be_visible()
        expect(place.locator(".perfmon-not-beside")).to_contain_text("in JupyterLab")
        expect(place.locator(".perfmon-beside")).to_be_hidden()
