"""A cell that fills the memory, in JupyterLab: the kernel dies, is started again, and the panel says why."""

from __future__ import annotations

import re
from pathlib import Path

from fakes.real_group import real_group
from panel_page import TIMEOUT, wait_until
from playwright.sync_api import expect

LIMIT = 512 * 2**20
WHO = "import os, pathlib; pathlib.Path('kernel').write_text(str(os.getpid()))"
PANEL = """
from perfmon_widgets import PerformanceMonitor, PerformancePanel
panel = PerformancePanel(PerformanceMonitor(interval=0.5))
panel.monitor.start()
panel
"""
FILL = "frames = []\nwhile True: frames.append(bytes(5_000_000))"


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_the_panel_says_what_the_kernel_died_of(open_notebook):
    with real_group("browser") as group:
        group.limit_memory(LIMIT)
        notebook = open_notebook([WHO, PANEL, FILL])
        notebook.run_cell(0)
        number = wait_until(notebook, lambda: text_of(notebook.path.with_name("kernel")), "its number")
        (group.memory / "cgroup.procs").write_text(number)
        notebook.run_cell(1)
        place = notebook.cell(1)
        expect(place.get_by_role("meter").first).to_be_visible(timeout=TIMEOUT * 1000)
        assert place.get_by_text("previous kernel").count() == 0
        notebook.run_cell(2)
        dialog = notebook.page.locator(".jp-Dialog").filter(has_text=re.compile("restart", re.IGNORECASE))
        expect(dialog).to_be_visible(timeout=TIMEOUT * 1000)
        notebook.screenshot("the kernel has died")
        notebook.page.keyboard.press("Enter")
        wait_until(notebook, lambda: notebook.kernel_status() == "idle", "the start of another kernel")
        notebook.run_cell(1)
        line = place.get_by_text("The previous kernel died at")
        expect(line).to_be_visible(timeout=TIMEOUT * 1000)
        notebook.screenshot("why the kernel has died")
        text = line.inner_text()
        assert re.search(r"in cell \[3\] `frames = \[\]`: RAM \d+ of 512 MiB", text), text
        assert "killed for want of memory" in text
