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
from perfmon_widgets.views.columns import alike
from perfmon_widgets.views.figures import Figure
from perfmon_widgets.views.grid import grid
from perfmon_widgets.views.legend import about, cells
from perfmon_widgets.views.local_time import format_period
from perfmon_widgets.views.statistics import Summary
from perfmon_widgets.views.stragglers import busy_columns


class Brush(Protocol):
    """A chart or a map, as the table knows it."""

    drawn: Figure


class Table(anywidget.AnyWidget):
    """A row for each metric: its colour, its value now, mean and peak, and its value under the mouse.

    Of more than two GPUs, or other things of one kind, each has one row, with a column for each quantity: its
    value now, or the mean or the peak if a person chooses that, or the value under the mouse. One that lags
    behind the others is emphasised.

    The browser takes the values under the mouse from the charts, without the kernel, so that they follow the
    mouse while the kernel is busy.

    Args:
        metrics: a row for each of them.
        link: the link of the panel that the table belongs to.
    """

    _esm = script("shared.js", "plots.js", "table.js")
    _css = script("table.css")

    link = traitlets.Instance(Link, help="The link of the panel.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    rows: traitlets.List[dict[str, str]] = traitlets.List(
        help="For each metric its column, its name for people, and what it is about."
    ).tag(sync=True)
    grid = traitlets.Dict(
        help="Labels of columns; for each GPU or the like its label, and which metrics stand in its row."
    ).tag(sync=True)
    values = traitlets.Dict(
        help="Time (Unix seconds), texts of the cells, why numbers are missing, units, which GPU lags."
    ).tag(sync=True)
    figures = traitlets.List(traitlets.Instance(ipywidgets.Widget), help="The charts above it.").tag(
        sync=True, **ipywidgets.widget_serialization
    )
    lines: traitlets.List[list[dict[str, Any]]] = traitlets.List(
        help="For each chart its lines as they are drawn: name, colour (none in a map), pattern of dashes."
    ).tag(sync=True)

    def __init__(self, metrics: Sequence[Metric], link: Link) -> None:
        self._metrics = tuple(metrics)
        rows = [{"name": metric.name, "label": metric.label, "about": about(metric)} for metric in metrics]
        many = alike(self._metrics)
        self.busy = busy_columns(many)
        """For each of many GPUs or the like the column that says how busy it is."""
        super().__init__(
            link=link,
            rows=rows,
            grid=grid(many, [metric.name for metric in metrics]),
            layout={"max_height": "260px", "overflow": "auto"},
        )

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
        shown: Summary,
        now: NDArray[np.float64],
        period: tuple[float, float],
        errors: Mapping[str, str],
        lags: Mapping[str, str] | None,
        *,
        is_live: bool = True,
    ) -> None:
        """Show ``now`` (one number per metric), and mean and peak of the rows of a period.

        ``shown`` is the summary of these rows; ``period`` is its start and end in Unix seconds; ``lags``:
        which place lags behind the others, as the findings have it; ``is_live``: whether it ends now.
        """
        reasons = {metric.name: errors[metric.name] for metric in self._metrics if metric.name in errors}
        labels = [chart.drawn.axis.label for chart in self.figures]
        self.values = {
            "time": period[1],
            "period": format_period(*period),
            "now": "now" if is_live else "at end",
            "cells": cells(self._metrics, shown, now),
            "reasons": reasons,
            "labels": labels,
            **({} if lags is None else {"lags": lags}),
        }

    def __repr__(self) -> str:
        return "<Table>"
