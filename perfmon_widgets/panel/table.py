"""Table: the legend of a section's charts, with numbers; and the time that the mouse points at."""

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
from perfmon_widgets.views.text import format_value


class Drawn(Protocol):
    """A figure as the table knows it."""

    metrics: Sequence[Metric]
    colors: Mapping[str, str]
    dashes: Mapping[str, int]
    label: str


class Table(anywidget.AnyWidget):
    """A row for each metric: its colour, now, mean and peak; in the browser also its value under the mouse.

    The values under the mouse are read from the figures in the browser, so that they follow it while the
    kernel is busy.
    """

    _esm = script("shared.js", "table.js")
    _css = script("table.css")

    link = traitlets.Instance(Link, help="The link of the panel that it belongs to.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    rows: traitlets.List[dict[str, str]] = traitlets.List(help="The name of each row, and about it.").tag(
        sync=True
    )
    values = traitlets.Dict(help="Time (Unix seconds), cells in words, and why numbers are missing.").tag(
        sync=True
    )
    figures = traitlets.List(traitlets.Instance(ipywidgets.Widget), help="The charts above it.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    lines: traitlets.List[list[dict[str, Any]]] = traitlets.List(
        help="For each figure its lines as they are drawn: name, colour and number of the dashes."
    ).tag(sync=True)

    def __init__(self, metrics: Sequence[Metric], link: Link) -> None:
        self._metrics = tuple(metrics)
        rows = [
            {"name": metric.name, "about": ". ".join(filter(None, [metric.help.rstrip("."), metric.source]))}
            for metric in metrics
        ]
        super().__init__(link=link, rows=rows, layout={"max_height": "260px", "overflow": "auto"})

    def point_at(self, figures: Sequence[Any]) -> None:
        """Take these figures, Drawn all of them, for those that the table is the legend of."""
        lines = [
            [
                {
                    "name": metric.name,
                    "color": figure.colors.get(metric.name),
                    "dash": figure.dashes.get(metric.name, 0),
                }
                for metric in figure.metrics
            ]
            for figure in figures
        ]
        with self.hold_sync():
            self.figures, self.lines = list(figures), lines

    def show(self, values: NDArray[np.float64], time: float, errors: Mapping[str, str]) -> None:
        """Show what stands in these rows of the history (rows × metrics), the last of them of ``time``."""
        with np.errstate(over="ignore"):  # a series of the user's may be of any size
            cells = [_cells(values[:, at], metric.unit) for at, metric in enumerate(self._metrics)]
        reasons = {metric.name: errors[metric.name] for metric in self._metrics if metric.name in errors}
        labels = [figure.label for figure in self.figures]
        self.values = {"time": time, "cells": cells, "reasons": reasons, "labels": labels}

    def __repr__(self) -> str:
        return "<Table>"


def _cells(values: NDArray[np.float64], unit: str) -> list[str]:
    """Now, mean and peak, in words."""
    known = values[np.isfinite(values)]
    mean, peak = (known.mean(), known.max()) if len(known) else (np.nan, np.nan)
    return [format_value(float(value), unit) for value in (values[-1], mean, peak)]
