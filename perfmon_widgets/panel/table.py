"""Table: the legend of a section's charts, with numbers, and the values under the mouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import anywidget
import ipywidgets
import numpy as np
import traitlets
from numpy.typing import NDArray

from perfmon_widgets.metrics import Metric
from perfmon_widgets.panel.link import Link, script
from perfmon_widgets.views.figures import Figure
from perfmon_widgets.views.legend import about, cells


class Brush(Protocol):
    """A chart or a map, as the table knows it."""

    drawn: Figure


class Table(anywidget.AnyWidget):
    """A row for each metric: its colour, its value now, mean and peak, and its value under the mouse.

    The browser takes the values under the mouse from the charts, without the kernel, so that they follow the
    mouse while the kernel is busy.

    Args:
        metrics: a row for each of them.
        link: the link of the panel that the table belongs to.
    """

    _esm = script("shared.js", "table.js")
    _css = script("table.css")

    link = traitlets.Instance(Link, help="The link of the panel.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    rows: traitlets.List[dict[str, str]] = traitlets.List(
        help="For each row its metric, and what that is about."
    ).tag(sync=True)
    values = traitlets.Dict(
        help="Time (Unix seconds), texts of the cells, why numbers are missing, units."
    ).tag(sync=True)
    figures = traitlets.List(traitlets.Instance(ipywidgets.Widget), help="The charts above it.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    lines: traitlets.List[list[dict[str, Any]]] = traitlets.List(
        help="For each chart its lines as they are drawn: name, colour (none in a map), pattern of dashes."
    ).tag(sync=True)

    def __init__(self, metrics: Sequence[Metric], link: Link) -> None:
        self._metrics = tuple(metrics)
        rows = [{"name": metric.name, "about": about(metric)} for metric in metrics]
        super().__init__(link=link, rows=rows, layout={"max_height": "260px", "overflow": "auto"})

    def point_at(self, charts: Sequence[Brush]) -> None:
        """Make the table the legend of these charts, which are widgets."""
        lines = [
            [
                {"name": line.name, "color": None if chart.drawn.is_map else line.color, "dash": line.dash}
                for line in chart.drawn.lines
            ]
            for chart in charts
        ]
        with self.hold_sync():
            self.figures, self.lines = list(charts), lines

    def show(
        self,
        values: NDArray[np.float64],
        seconds: NDArray[np.float64],
        now: NDArray[np.float64],
        time: float,
        errors: Mapping[str, str],
    ) -> None:
        """Show ``now`` (one number per metric), and mean and peak of rows of the history, up to ``time``.

        ``values`` has the shape (rows, metrics); ``seconds`` says how many seconds each row stands for.
        """
        reasons = {metric.name: errors[metric.name] for metric in self._metrics if metric.name in errors}
        labels = [chart.drawn.axis.label for chart in self.figures]
        self.values = {
            "time": time,
            "cells": cells(self._metrics, values, seconds, now),
            "reasons": reasons,
            "labels": labels,
        }

    def __repr__(self) -> str:
        return "<Table>"
