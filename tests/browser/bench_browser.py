"""What the panel costs a network and a browser: `python tests/browser/bench_browser.py`, nine minutes.

Not part of the tests, but for the messages and bytes, which test_load.py limits. The goals at one sample a
second: the gauges 1 KB a tick, five charts at most 30 KB, the process that draws the page at most 4 %
of a core. Chromium draws without a GPU here; the process that stands in for it is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection
from pathlib import Path

from conftest import launch
from lab import Notebook, write_notebook
from load import CHARTS, FIGURES, PANEL, Load, measure, measure_processor, open_section
from panel_page import TIMEOUT, section
from playwright.sync_api import Browser, expect, sync_playwright
from servers import Server, start_server

SETTLED = 30.0  # seconds after which a page does only what it does all the time: its code is compiled by then
LAB, BARE, GAUGES = "JupyterLab", "figures", "gauges"


def row(name: str, load: Load) -> str:
    """A line of the table."""
    return f"{name:28}{load.messages:9.1f}{load.most_bytes:12}{load.bytes:8.0f}{load.processor:14.1f}"


def without_panel(browser: Browser, server: Server, views: Collection[str], ticks: int) -> None:
    """What the front end takes by itself, and with as many bare figures."""
    notebook = Notebook(browser.new_context(), server, write_notebook([FIGURES], server.root))
    notebook.load()
    if LAB in views:
        notebook.page.wait_for_timeout(SETTLED * 1000)
        print(f"{'JupyterLab alone':57}{measure_processor(notebook, ticks):14.1f}", flush=True)
    if BARE in views:
        notebook.run_cell(0)
        notebook.page.wait_for_timeout(SETTLED * 1000)
        print(f"{'five bare figures of bqplot':57}{measure_processor(notebook, ticks):14.1f}", flush=True)
    notebook.context.close()


def with_panel(browser: Browser, server: Server, views: Collection[str], ticks: int) -> None:
    """What it takes with a panel."""
    notebook = Notebook(browser.new_context(), server, write_notebook([PANEL], server.root))
    notebook.load()
    notebook.run_cell(0)
    place = notebook.cell(0)
    expect(place.get_by_role("meter").first).to_be_visible(timeout=TIMEOUT * 1000)
    notebook.wait_idle()
    if GAUGES in views:
        notebook.page.wait_for_timeout(SETTLED * 1000)
        print(row("gauges", measure(notebook, ticks)), flush=True)
    for title, charts in CHARTS.items():
        if title in views:
            open_section(notebook, title)
            notebook.page.wait_for_timeout(SETTLED * 1000)
            print(row(f"{title}: {charts} chart{'s' * (charts > 1)}", measure(notebook, ticks)), flush=True)
            section(place, title).click()
    notebook.context.close()


def main() -> None:
    """Measure each view for a while and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [LAB, BARE, GAUGES, *CHARTS]
    parser.add_argument("views", nargs="*", default=every, help=f"of: {', '.join(every)}")
    parser.add_argument("--ticks", type=int, default=30, help="how many seconds each view is measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.views).difference(every):
        parser.error(f"no such view: {', '.join(unknown)}; choose of: {', '.join(every)}")
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        print(f"{'view':28}{'messages':>9}{'most bytes':>12}{'bytes':>8}{'processor, %':>14}   a tick, 1 Hz")
        if {LAB, BARE} & set(arguments.views):
            without_panel(browser, server, arguments.views, arguments.ticks)
        if set(arguments.views) - {LAB, BARE}:
            with_panel(browser, server, arguments.views, arguments.ticks)
        browser.close()


if __name__ == "__main__":
    main()
