"""Gauge: one number against its limit."""

from __future__ import annotations

import math
from pathlib import Path

import anywidget
import traitlets

from perfmon_widgets.metrics import MISSING, in_words
from perfmon_widgets.panel.reading import Reading

_FOLDER = Path(__file__).parent


class Gauge(anywidget.AnyWidget):
    """A ring that fills from 0 to 100 %, with a label and a line of detail.

    Drawn by the browser from one trait, so that a tick is one message; greyed there, by the browser's own
    clock, when three intervals pass without one.
    """

    # As text: for a path anywidget keeps every instance alive, to reload it when the file changes.
    _esm = (_FOLDER / "gauge.js").read_text(encoding="utf-8")
    _css = (_FOLDER / "gauge.css").read_text(encoding="utf-8")

    label = traitlets.Unicode(help="What is measured, in a word.").tag(sync=True)
    reading = traitlets.Dict(help="What show() was told last.").tag(sync=True)

    def show(self, reading: Reading, time: float, interval: float) -> None:
        """Draw a reading taken at ``time`` (Unix seconds); the next is due in ``interval`` seconds."""
        known = math.isfinite(reading.percent)
        self.reading = {
            "value": reading.percent if known else None,
            "text": in_words(reading.percent, "percent"),
            "detail": reading.detail,
            "level": reading.level,
            # Makes each reading another than the last, so that it is sent though nothing changed: the
            # browser takes silence for a kernel that does not answer.
            "time": time,
            "interval": interval,
        }

    def wait(self, why: str) -> None:
        """Show no number yet, and why."""
        self.reading = {"detail": why}

    def __repr__(self) -> str:
        return f"<Gauge {self.label} {self.reading.get('text', MISSING)}>"
