"""Gauge: one number against its limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import anywidget
import ipywidgets
import traitlets

from perfmon_widgets.panel.link import Link, script
from perfmon_widgets.views.text import format_value


class Gauge(anywidget.AnyWidget):
    """A ring that fills from 0 to 100 %, with a label, a line of detail and, for a GPU's memory, a thin bar.

    The browser draws it from the readings of its ``link``, in which it finds its own by the label. It turns
    grey when, by the browser's clock, three intervals have passed without new readings.
    """

    _esm = script("shared.js", "gauge_loader.js")

    label = traitlets.Unicode(help="What is measured, in a word.").tag(sync=True)
    link = traitlets.Instance(Link, help="Where the readings come from.").tag(
        sync=True, **ipywidgets.widget_serialization
    )

    @property
    def reading(self) -> Mapping[str, Any]:
        """What it shows: ``detail``, ``value`` (0–100) if known, ``level`` if not normal.

        ``bar`` if it has one: ``label``, ``value``, ``level`` if not normal.
        """
        shown: Mapping[str, Any] = self.link.readings.get("gauges", {}).get(self.label, {})
        return shown

    def __repr__(self) -> str:
        return f"<Gauge {self.label} {format_value(self.reading.get('value', math.nan), 'percent')}>"
