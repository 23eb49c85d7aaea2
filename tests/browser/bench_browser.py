"""What the panel costs a network and a browser: `python tests/browser/bench_browser.py`, nine minutes.

Not part of the tests, but for the messages and bytes, which test_load.py limits. The goals at one sample a
second: the gauges at most 1 KB a tick, five charts at most 30 KB, the process that draws the page at most 4 %
of a core. Chromium draws without a GPU here; the process that stands in for it is not counted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from conftest import launch
from lab import Notebook, write_notebook
from load import CHARTS, FIGURES, PANEL, Load, measure, measure_processor, open_section
from panel_page import PATIENCE, section
from playwright.sync_api import expect, sync_playwright
from servers import start_server

SETTLED = 30.0  # seconds after which a page does only what it does all the time: its code is compiled by then


def row(name: str, load: Load) -> str:
    """A line of the table."""
    return f"{name:28}{load.messages:9.1f}{load.most_bytes:12}{load.bytes:8.0f}{load.processor:14.1f}"


def main() -> None:
    """Measure each view for a while and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ticks", type=int, default=30, help="how many seconds each view is measured")
    ticks = parser.parse_args().ticks
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        print(f"{'view':28}{'messages':>9}{'most bytes':>12}{'bytes':>8}{'processor, %':>14}   a tick, 1 Hz")
        notebook = Notebook(browser.new_context(), server, write_notebook([FIGURES], server.root))
        notebook.load()
        notebook.page.wait_for_timeout(SETTLED * 1000)
        print(f"{'JupyterLab alone':57}{measure_processor(notebook, ticks):14.1f}")
        notebook.run_cell(0)
        notebook.page.wait_for_timeout(SETTLED * 1000)
        print(f"{'five bare figures of bqplot':57}{measure_processor(notebook, ticks):14.1f}")
        notebook.context.close()
        notebook = Notebook(browser.new_context(), server, write_notebook([PANEL], server.root))
        notebook.load()
        notebook.run_cell(0)
        place = notebook.cell(0)
        expect(place.get_by_role("meter").first).to_be_visible(timeout=PATIENCE * 1000)
        notebook.wait_idle()
        notebook.page.wait_for_timeout(SETTLED * 1000)
        print(row("gauges", measure(notebook, ticks)))
        for title, charts in CHARTS.items():
            open_section(notebook, title)
            notebook.page.wait_for_timeout(SETTLED * 1000)
            print(row(f"{title}: {charts} chart{'s' * (charts > 1)}", measure(notebook, ticks)))
            section(place, title).click()
        browser.close()


if __name__ == "__main__":
    main()
