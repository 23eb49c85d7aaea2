"""Makes the pictures of README.md: ``python tests/browser/picture.py``.

A real run in JupyterLab: the panel above a cell that trains a model, photographed while the cell runs. The
interval is one second instead of five, so that a minute makes a line.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from conftest import CHROMIUM_ARGUMENTS
from lab import Notebook, start_lab, write_notebook
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[2] / "notebooks" / "images"
CELLS = [
    """from perfmon_widgets import PerformancePanel

panel = PerformancePanel()
panel""",
    """import time

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

images, digits = load_digits(return_X_y=True)
model = MLPClassifier(hidden_layer_sizes=(1024, 1024))
for epoch in range(1000):
    model.partial_fit(images, digits, classes=range(10))
    if epoch % 10 == 9:
        time.sleep(5)  # where a real one would look at its test data""",
]
PACE = "panel.monitor.interval = 1.0\npanel._window.value = 300.0"


def main(seconds: float) -> None:
    """Write panel.png and panel-dark.png after so many seconds of training each."""
    FOLDER.mkdir(exist_ok=True)
    with start_lab(Path(tempfile.mkdtemp())) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM_ARGUMENTS)
        for theme, name in (("light", "panel.png"), ("dark", "panel-dark.png")):
            server.set_theme(theme)
            context = browser.new_context(viewport={"width": 860, "height": 1000}, device_scale_factor=2)
            notebook = Notebook(context, server, write_notebook([CELLS[0], PACE, CELLS[1]], server.root))
            notebook.open()
            notebook.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
            notebook.run_all()
            page = notebook.page
            notebook.cell(0).locator(".perfmon-gauge").first.wait_for()
            page.wait_for_timeout(1000 * seconds)
            notebook.cell(0).get_by_label("Log to CSV").click()
            notebook.cell(0).get_by_text("CPU", exact=True).nth(1).click()
            page.wait_for_timeout(8000)
            page.mouse.move(0, 0)
            # The cell that sets the pace is the photographer's, not the reader's.
            page.add_style_tag(content=".jp-Cell:nth-of-type(2) { display: none }")
            first, last = notebook.cell(0).bounding_box(), notebook.cell(2).bounding_box()
            assert first is not None and last is not None
            bottom = last["y"] + last["height"] - first["y"]
            page.screenshot(
                path=FOLDER / name,
                clip={"x": first["x"], "y": first["y"], "width": first["width"], "height": bottom},
            )
            context.close()
        browser.close()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 75)
