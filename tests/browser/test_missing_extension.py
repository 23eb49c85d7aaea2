"""A Jupyter server whose environment lacks what the panel is drawn with says what to install there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ipykernels import NEWEST, install_kernelspecs
from lab import Notebook, write_notebook
from panel_page import TIMEOUT
from playwright.sync_api import expect
from servers import LAB_BARE, REPOSITORY, Server, environment, start_server

PANEL = """
from perfmon_widgets import PerformancePanel

PerformancePanel()
"""
BUSY = """
import time
end = time.monotonic() + 5
while time.monotonic() < end:
    pass
"""


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Server]:
    """A JupyterLab whose environment has ipywidgets only; the kernels have all."""
    cache = pytestconfig.cache
    assert cache is not None
    folder = tmp_path_factory.mktemp("bare")
    with start_server(folder, LAB_BARE, environment(LAB_BARE, cache)) as server:
        server.kernels = install_kernelspecs(folder / "data", cache, REPOSITORY)
        yield server


def test_the_panel_says_what_to_install_in_which_environment(bare_server, chromium, opened):
    path = write_notebook([PANEL, BUSY], bare_server.root, bare_server.kernels[NEWEST])
    notebook = Notebook(chromium.new_context(), bare_server, path)
    opened.append(notebook)
    notebook.open()
    notebook.run_all()
    place = notebook.cell(0)
    text = place.locator(".perfmon-fallback")
    expect(text).to_be_visible(timeout=TIMEOUT * 1000)
    expect(text).to_contain_text("pip install anywidget bqplot")
    expect(text).to_contain_text("Jupyter server")
    # What is drawn by ipywidgets alone is there and works, when the cell has ended.
    checkbox = place.get_by_role("checkbox", name="Log to CSV")
    expect(checkbox).to_be_visible()
    notebook.wait_idle()
    checkbox.click()
    expect(place.locator(".perfmon-log")).to_contain_text("perfmon-", timeout=TIMEOUT * 1000)
    assert list(path.parent.glob("perfmon-*.csv")) != []
