"""The panel on a page, by what a person and a screen reader find there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frames import Frame
from lab import Notebook
from playwright.sync_api import Locator

# Cells, spans and marks, which lie behind the lines, are outlines that are filled themselves.
IS_A_LINE = "path => path.checkVisibility() && ['none', ''].includes(getComputedStyle(path).fill)"
# A cell that keeps the kernel's main thread for a minute.
BUSY = """
import time
end = time.monotonic() + 60
while time.monotonic() < end:
    pass
"""
TIMEOUT = 30.0  # seconds; for what is due with the next sample


def wait_until(notebook: Notebook, condition: Callable[[], Any], what: str) -> Any:
    """What a condition gives as soon as that is not nothing."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {TIMEOUT:g} s"
        notebook.page.wait_for_timeout(20)
    return value


def updates(notebook: Notebook, seconds: float) -> list[Frame]:
    """What widgets send to the browser in the time to come."""
    first = len(notebook.websocket_frames)
    notebook.page.wait_for_timeout(seconds * 1000)
    return [
        frame
        for frame in notebook.websocket_frames[first:]
        if frame.msg_type == "comm_msg" and not frame.sent
    ]


def gauge(place: Locator, label: str) -> Locator:
    """The gauge with that label."""
    return place.locator(".perfmon-gauge").filter(has=place.page.get_by_text(label, exact=True))


def number(place: Locator, label: str) -> float:
    """The text of a gauge for a screen reader."""
    return float(gauge(place, label).get_attribute("aria-valuenow") or "nan")


def spoken(place: Locator) -> list[str | None]:
    """The texts for a screen reader of all gauges that have a number."""
    return [meter.get_attribute("aria-valuetext") for meter in place.get_by_role("meter").all()]


def section(place: Locator, title: str) -> Locator:
    """The header of a section of the accordion."""
    return place.locator(".jupyter-widget-Collapse-header").get_by_text(title, exact=True)


def lines(place: Locator) -> list[list[tuple[float, float]]]:
    """The points, in pixels, of the lines of the charts that are visible, without the edges of cells."""
    # Not by Playwright's :visible, for which a level line, of CPUs that are busy all the time, is none.
    drawn: list[str] = place.locator("path.line").evaluate_all(
        f"paths => paths.filter({IS_A_LINE}).map(path => path.getAttribute('d') ?? '')"
    )
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.e-]+),(-?[\d.e-]+)", path)]
        for path in drawn
    ]


def rows_shown(place: Locator) -> int:
    """How many rows of the log the page speaks of."""
    found = re.search(r"perfmon-\S+\.csv: (\d+) rows?", place.locator(".perfmon-log").inner_text())
    return int(found[1]) if found else 0


def logs_of(notebook: Notebook) -> list[Path]:
    """The logs in the notebook's folder, without the lists of spans that belong to them."""
    return [path for path in notebook.path.parent.glob("perfmon-*.csv") if ".spans" not in path.suffixes]


# What front ends say in notebooks without the panel too, and bqplot of figures in a section that is closed,
# or of a line whose axis moves in the moment between the making of its scales and its first drawing.
NOT_OURS = re.compile(
    r"extensions/bqplot/|Cannot read properties of undefined \(reading 'schema'\)"
    r"|Error setting state: Cannot read properties of undefined \(reading 'x'\)"
    r"|cdn\.jsdelivr\.net/npm/@fortawesome|@jupyter-notebook/lab-extension|/voila/api/shutdown/"
)


def own_errors(notebook: Notebook) -> list[str]:
    """What the console says that is not known to be said by others."""
    return [error for error in notebook.console_errors if not NOT_OURS.search(error)]
