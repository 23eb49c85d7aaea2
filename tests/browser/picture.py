"""Makes the README's pictures of the panel: `python tests/browser/picture.py`, which takes some six minutes.

A notebook like quickstart.ipynb is run in a real JupyterLab. While its training cell has been running for the
five minutes that the charts show, the page is taken twice, in the light and in the dark theme. Nothing is
painted in. One thing differs from the quickstart: a sample is taken every second instead of every five, which
makes the lines richer, and the panel says so.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from conftest import launch
from lab import Notebook, write_notebook
from playwright.sync_api import Page, expect, sync_playwright
from servers import REPOSITORY, start_server

IMAGES = REPOSITORY / "notebooks" / "images"
SHOW = """from perfmon_widgets import PerformancePanel

panel = PerformancePanel()
panel"""
# The one difference from the quickstart.
PREPARE = "panel.monitor.interval = 1"
# Load, train, evaluate, as models do: the CPUs have something to show.
TRAIN = """import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

images, digits = load_digits(return_X_y=True)
model = MLPClassifier(hidden_layer_sizes=(512, 512), random_state=0)
for epoch in range(1000):
    for _ in range(10):
        model.partial_fit(images / 16, digits, classes=np.unique(digits))
    print(f"epoch {epoch}: {model.score(images / 16, digits):.1%}", end="\\r")
    time.sleep(epoch % 4)  # reading the next images"""
WIDTH, MARGIN = 1000, 4  # pixels, of which the picture has two for one


def arrange(notebook: Notebook) -> None:
    """As a person would before taking a picture: no side bars, the CPU section open, five minutes shown."""
    page = notebook.page
    for bar in ("left", "right"):
        page.evaluate(
            "bar => { const shell = window.jupyterapp.shell;"
            " bar === 'left' ? shell.collapseLeft() : shell.collapseRight(); }",
            bar,
        )
    place = notebook.cell(0)
    place.get_by_label("Show last").select_option("5 min")
    place.locator(".jupyter-widget-Collapse-header").get_by_text("CPU", exact=True).click()
    place.get_by_role("checkbox", name="Log to CSV").click()
    expect(place.locator(".perfmon-log")).to_be_visible()


def take(page: Page, theme: str, path: Path) -> None:
    """A picture of the cells in a theme, without menus and side bars around them."""
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
        f"JupyterLab {theme.capitalize()}",
    )
    page.wait_for_function(
        "light => document.body.dataset.jpThemeLight === light", arg=str(theme == "light").lower()
    )
    page.mouse.move(0, 0)
    page.wait_for_timeout(2_500)  # style sheets, and two samples more
    cells = page.locator(".jp-Notebook .jp-Cell")
    boxes = [box for each in (cells.first, cells.last) if (box := each.bounding_box()) is not None]
    assert len(boxes) == 2
    top, left = boxes[0]["y"] - MARGIN, boxes[0]["x"] - MARGIN
    bottom = boxes[1]["y"] + boxes[1]["height"] + MARGIN
    clip = {"x": left, "y": top, "width": boxes[0]["width"] + 2 * MARGIN, "height": bottom - top}
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, clip=clip)
    print(path)


def main() -> None:
    """Run the notebook and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=305, help="how long the cell has been running")
    parser.add_argument("--folder", type=Path, default=IMAGES, help="where the pictures go")
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        server.set_theme("light")
        browser = launch(playwright)
        context = browser.new_context(viewport={"width": WIDTH, "height": 1000}, device_scale_factor=2)
        path = write_notebook([SHOW, TRAIN, PREPARE], server.root)
        notebook = Notebook(context, server, path)
        notebook.open()
        notebook.run_cell(0)
        expect(notebook.cell(0).get_by_role("meter").first).to_be_visible(timeout=60_000)
        notebook.run_cell(2)
        notebook.wait_idle()
        # Its place in the notebook is after the training cell: it is not in the picture.
        notebook.page.evaluate("window.jupyterapp.commands.execute('notebook:delete-cell')")
        arrange(notebook)
        notebook.run_cell(1)
        end = time.monotonic() + wanted.seconds
        while time.monotonic() < end:
            notebook.page.wait_for_timeout(500)
            if not notebook.is_busy():
                raise RuntimeError("the training cell has ended before the picture was taken")
        for theme, name in (("light", "panel"), ("dark", "panel-dark")):
            take(notebook.page, theme, wanted.folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
