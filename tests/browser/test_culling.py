"""A server with ``cull_idle_timeout`` ends the kernel of a panel that no page shows."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from panel_page import TIMEOUT, updates
from playwright.sync_api import expect
from servers import Server, start_server

IDLE_SECONDS = 8
PANEL = """
from perfmon_widgets import PerformanceMonitor, PerformancePanel
panel = PerformancePanel(PerformanceMonitor(interval=0.5))
panel.monitor.start()
panel
"""
HIDE = """
Object.defineProperty(document, "hidden", { get: () => true });
document.dispatchEvent(new Event("visibilitychange"));
"""


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that ends idle kernels, also those of pages that are open."""
    kinds = {"cull_idle_timeout": IDLE_SECONDS, "cull_interval": 1, "cull_connected": True}
    options = tuple(f"--MappingKernelManager.{name}={value}" for name, value in kinds.items())
    with start_server(tmp_path_factory.mktemp("lab"), options=options) as server:
        yield server


@pytest.mark.parametrize("how", ["closed", "hidden", "untouched"])
def test_a_kernel_whose_panel_nobody_looks_at_is_culled(open_notebook, lab_server, how):
    """Each message to a page counts as activity of the kernel, so nothing may be sent to it."""
    notebook = open_notebook([PANEL])
    notebook.run_cell(0)
    expect(notebook.cell(0).get_by_role("meter").first).to_be_visible(timeout=TIMEOUT * 1000)
    for second in range(2 * IDLE_SECONDS):
        notebook.page.mouse.move(100 + second, 100)
        time.sleep(1)
    assert len(lab_server.request("GET", "/api/kernels")) == 1  # while it is looked at, it lives
    if how == "closed":
        notebook.page.close(run_before_unload=True)
    elif how == "hidden":
        notebook.evaluate(f"() => {{ {HIDE} }}")
    deadline = time.monotonic() + TIMEOUT + 3 * IDLE_SECONDS
    while lab_server.request("GET", "/api/kernels"):
        assert time.monotonic() < deadline, "the kernel lives on, although no page shows the panel"
        time.sleep(0.5)


def test_an_untouched_page_is_live_while_a_cell_runs_and_when_it_is_touched_again(open_notebook):
    """Somebody watches a training run for longer than the server spares an idle kernel."""
    notebook = open_notebook([PANEL, f"import time; time.sleep({2.5 * IDLE_SECONDS})"])
    notebook.run_cell(0)
    expect(notebook.cell(0).get_by_role("meter").first).to_be_visible(timeout=TIMEOUT * 1000)
    notebook.run_cell(1)
    notebook.page.wait_for_timeout(1500 * IDLE_SECONDS)
    assert updates(notebook, 2)
    notebook.wait_idle()
    deadline = time.monotonic() + 10
    while updates(notebook, 1.5):
        assert time.monotonic() < deadline, "an idle kernel still updates a page that nobody touches"
    notebook.page.mouse.move(100, 100)
    assert updates(notebook, 2)
