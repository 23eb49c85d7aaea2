"""Makes the README's picture of the live page: `python tests/browser/page_picture.py`, in three minutes.

A script trains a model and serves its page; the page is taken while it trains. Nothing is painted in.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import launch
from picture import IMAGES, MARGIN, TRAIN
from playwright.sync_api import expect, sync_playwright

SERVE = """from perfmon_widgets import PerformanceMonitor, serve

monitor = PerformanceMonitor(interval=1.0)
monitor.start()
print(serve(monitor).page_url, flush=True)
"""
EPOCHS = "for epoch in range(1000):"
MARKED = f'{EPOCHS}\n    if epoch % 10 == 0:\n        monitor.mark(f"epoch {{epoch}}")'
WIDTH, HEIGHT = 1000, 860


def take(path: Path, seconds: float) -> None:
    """Write the picture of the page after the script has trained for so long."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        code = SERVE + TRAIN.replace(EPOCHS, MARKED)
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=folder
        ) as program:
            browser = launch(playwright)
            try:
                assert program.stdout is not None
                context = browser.new_context(
                    viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2, color_scheme="light"
                )
                page = context.new_page()
                page.goto(program.stdout.readline().strip())
                expect(page.locator(".figures svg").first).to_be_visible()
                page.get_by_role("checkbox", name="Log to CSV").check()
                page.wait_for_timeout(1000 * seconds)
                body = page.locator("body").bounding_box()
                assert body is not None
                page.screenshot(path=path, clip={**body, "height": min(body["height"], HEIGHT) + MARGIN})
            finally:
                browser.close()
                program.kill()


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=150.0, help="how long it trains (default: 150)")
    take(IMAGES / "page.png", options.parse_args().seconds)
