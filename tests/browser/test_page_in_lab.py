"""The live page behind JupyterLab: what a panel leaves on a page that was loaded anew and has to wait."""

from __future__ import annotations

import os
import re
import signal
import time

from page_of_program import violations
from panel_page import TIMEOUT, wait_until
from playwright.sync_api import expect

PANEL = """
import os, pathlib
from perfmon_widgets import PerformanceMonitor, PerformancePanel
pathlib.Path('kernel').write_text(str(os.getpid()))
panel = PerformancePanel(PerformanceMonitor(interval=0.5))
panel.monitor.start()
panel
"""
BUSY = "while not pathlib.Path('end').exists(): sum(number * number for number in range(100_000))"
# Only after the server has been told that the kernel is busy.
SILENT = "import ctypes, time; time.sleep(1); ctypes.PyDLL(None).sleep(14)"
SAVE = "window.jupyterapp.commands.execute('docmanager:save')"


def test_a_page_loaded_again_while_a_cell_runs_has_a_link_to_the_live_page(open_notebook):
    notebook = open_notebook([PANEL, BUSY])
    notebook.run_cell(0)
    expect(notebook.cell(0).get_by_role("meter").first).to_be_visible(timeout=TIMEOUT * 1000)
    # The widget itself is there: no link beside it.
    expect(notebook.cell(0).get_by_role("link", name="Live page")).to_be_hidden()
    notebook.run_cell(1)
    notebook.evaluate(SAVE)
    notebook.page.wait_for_timeout(1000)
    notebook.page.reload()
    link = notebook.page.get_by_role("link", name="Live page of this kernel")
    expect(link).to_be_visible(timeout=60_000)
    notebook.screenshot("reloaded while a cell runs")
    clicked = time.monotonic()
    with notebook.context.expect_page() as opened:
        link.click()
    page = opened.value
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    expect(page.locator(".figures svg").first).to_be_visible(timeout=10_000)
    asked = page.evaluate("performance.now()") / 1000
    print(
        f"first picture {asked:.2f} s after the request, {time.monotonic() - clicked:.2f} s after the click"
    )
    expect(page.locator("#state")).to_have_text("Live: a sample every 0.5 s.")
    before = page.locator("#newest").inner_text()
    expect(page.locator("#newest")).not_to_have_text(before, timeout=10_000)
    assert page.title().endswith(f"{notebook.path.name} – Performance")
    page.get_by_role("checkbox", name="Log to CSV").check()
    expect(page.locator("#log-state")).to_contain_text(".csv: ")
    page.screenshot(path=notebook.path.with_name("page.png"))
    # Jupyter's own pages, such as that of an unknown address, may show it in a frame.
    framed = notebook.context.new_page()
    framed.goto(f"{notebook.server.url}/nothing")
    framed.evaluate(f"document.body.innerHTML = '<iframe src=\"{page.url}\"></iframe>'")
    expect(framed.frame_locator("iframe").locator("h1")).to_have_text("Performance")
    # The kernel is killed, and started again by the server: the page shows the last minutes.
    number = int(wait_until(notebook, notebook.path.with_name("kernel").read_text, "its number"))
    os.kill(number, signal.SIGKILL)
    expect(page.locator("#state")).to_contain_text("The previous kernel died at", timeout=60_000)
    expect(page.locator(".perfmon-gauge-detail").first).to_have_text("kernel dead")
    assert violations(page) == []
    expect(page.locator(".figures svg").first).to_be_visible()
    # A restarting kernel and one that is dead are refused for a while: the browser logs each such answer.
    assert [each for each in complaints if "Failed to load resource" not in each] == []


def test_a_kernel_is_chosen_by_its_notebook_and_its_silence_is_told(open_notebook):
    first, second = open_notebook([PANEL, SILENT]), open_notebook([PANEL])
    for notebook in (first, second):
        notebook.run_cell(0)
        expect(notebook.cell(0).get_by_role("meter").first).to_be_visible(timeout=TIMEOUT * 1000)
    page = first.context.new_page()
    page.goto(f"{first.server.url}/perfmon")
    expect(page.locator("#state")).to_have_text("Several kernels have a monitor: choose one.")
    assert violations(page) == []
    kernels = page.get_by_role("navigation", name="Kernels").get_by_role("link")
    expect(kernels).to_have_count(2)
    kernels.filter(has_text=first.path.relative_to(first.server.root).as_posix()).click()
    expect(page.locator(".figures svg").first).to_be_visible()
    expect(page.locator("#state")).to_have_text("Live: a sample every 0.5 s.")
    expect(kernels.and_(page.locator("[aria-current=page]"))).to_have_count(1)
    first.run_cell(1)  # holds the interpreter lock: no thread of the kernel runs
    expect(page.locator("#state")).to_contain_text("No update: kernel does not answer", timeout=20_000)
    expect(page.locator(".perfmon-gauge-detail").first).to_have_text(
        re.compile(r"no update for \d+ s \(kernel busy\)"), timeout=10_000
    )
    expect(page.locator("#state")).to_have_text("Live: a sample every 0.5 s.", timeout=60_000)
    expect(page.locator(".perfmon-stale")).to_have_count(0)
