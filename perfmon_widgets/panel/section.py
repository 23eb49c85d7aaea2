"""Section: one group of metrics, as a chart for each unit and a small table that is their legend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import ipywidgets
import numpy as np

from perfmon_widgets.core.spans import Span
from perfmon_widgets.metrics import RECORDED, Metric
from perfmon_widgets.panel.chart import Chart, columns, is_core
from perfmon_widgets.panel.heat_map import HeatMap
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.shading import PIXELS, Shading
from perfmon_widgets.panel.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# The sections in the order of the panel; other groups follow under their own names.
_TITLES = {
    "gpu": "GPU",
    "cpu": "CPU",
    "memory": "Memory",
    "disk": "Disk",
    "process": "This process",
    RECORDED: "Recorded values",
}
# More lines than this are not told apart: then each CPU has a row of a map instead.
_MOST_CORES = 8
# What was recorded has a figure for each quantity, and so many at most: the others stand in the table.
MOST_FIGURES = 24


class Section(ipywidgets.VBox):
    """The charts of one group's metrics, one per unit, above a table of now, mean and peak.

    The charts are made when the section is shown for the first time: one that is drawn while it is hidden
    has no size, and a notebook is opened faster without them. Behind the lines of all charts lies when which
    cell ran. Of ``sparse`` metrics, which have no value in most rows, each quantity has a chart of its own.
    """

    def __init__(
        self, title: str, metrics: Sequence[Metric], window: float, link: Link, *, sparse: bool = False
    ) -> None:
        self._title = title
        self._metrics = tuple(metrics)
        self._window = window
        self._sparse = sparse
        self.newest = -math.inf
        """The time of the newest row that is shown, in Unix seconds."""
        self._shading: Shading | None = None
        self.charts: tuple[Chart | HeatMap, ...] = ()
        self._row = ipywidgets.HBox(layout={"flex_flow": "row wrap", "overflow": "hidden"})
        self.table = Table(self._metrics, link)
        super().__init__([self._row, self.table])
        self.add_class("perfmon-section")

    def show(self, history: pd.DataFrame, errors: Mapping[str, str], spans: Sequence[Span] = ()) -> None:
        """Draw the history up to its newest row: a message per chart, one for the table, one for spans."""
        if self._shading is None:
            self._shading = Shading(self._window)
            self._make_charts(self._shading)
        newest = history.index[-1]
        with self._sent_together():
            self._shading.show(spans, newest.timestamp())
            for chart in self.charts:
                chart.show(history, newest.timestamp())
            begin = newest - np.timedelta64(round(self._window), "s")
            inside = (history.index >= begin) & (history.index <= newest)
            values = columns(history, self._metrics)[inside]
            self.table.show(_with_last_values(values) if self._sparse else values, newest.timestamp(), errors)
        if not self._row.children:  # after there is something to draw
            self._row.children = self.charts
        if len(history) > 1:  # else there is no line yet
            self.newest = newest.timestamp()

    def is_due(self, now: float, interval: float) -> bool:
        """Whether to draw the row of ``now`` (Unix seconds), if the next comes after ``interval`` seconds.

        It is left out if it moves the lines by less than a pixel, which costs a browser as much as a whole
        window, and if one comes soon that moves them by as much.
        """
        # The nearest to a pixel among the rows to come. A clock that was set back is no reason to wait.
        return abs(now - self.newest) + interval / 2 > self._window / PIXELS

    @contextmanager
    def _sent_together(self) -> Iterator[None]:
        """Hold what is drawn until all of it is known: a browser draws what arrives together once.

        But not the axes, of which bqplot takes marks and labels only one after the other.
        """
        marks = [mark for chart in self.charts for mark in chart.marks]
        scales = [scale for mark in marks for scale in mark.scales.values()]
        with ExitStack() as held:  # the last is sent first
            for widget in (self.table, *marks, *scales):
                held.enter_context(widget.hold_sync())
            yield

    def _make_charts(self, shading: Shading) -> None:
        drawn = without_limits(self._metrics)
        cores = [metric for metric in drawn if is_core(metric)]
        mapped = cores if len(cores) > _MOST_CORES else []
        lines = [metric for metric in drawn if metric not in mapped]
        together: dict[str, list[Metric]] = {}
        for metric in lines:
            together.setdefault(quantity(metric) if self._sparse else metric.unit, []).append(metric)
        charts: list[Chart | HeatMap] = [
            Chart(
                members,
                name if self._sparse else self._title,
                self._window,
                sparse=self._sparse,
                behind=shading.marks,
            )
            for name, members in together.items()
        ]
        if mapped:
            charts.insert(1, HeatMap(mapped, "CPUs", self._window))
        self.charts = tuple(charts[:MOST_FIGURES])
        self.table.point_at(self.charts)

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history from the next show() on."""
        self._window = seconds
        if self._shading is not None:
            self._shading.set_window(seconds)
        for chart in self.charts:
            chart.set_window(seconds)


def groups(metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    """The metrics by group, the known groups first and in their order."""
    found: dict[str, list[Metric]] = {name: [] for name in _TITLES if name != RECORDED}  # that comes last
    for metric in metrics:
        found.setdefault(metric.group, []).append(metric)
    return {name: members for name, members in found.items() if members}


def title_of(group: str) -> str:
    """What the section of a group is called."""
    return _TITLES.get(group, group)


def without_limits(metrics: Sequence[Metric]) -> list[Metric]:
    """Those that are drawn: a limit is the end of a gauge, and would only press the other lines down."""
    limits = {metric.limit for metric in metrics}
    return [metric for metric in metrics if metric.name not in limits]


def quantity(metric: Metric) -> str:
    """What a recorded series shares a figure with: those of the same name, wherever they come from."""
    return metric.name.rpartition("/")[2]


def _with_last_values(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows, the last of them with the newest value of each column: it holds until another is recorded."""
    filled: NDArray[np.float64] = values.copy()
    for column in filled.T:
        known = np.flatnonzero(np.isfinite(column))
        if len(known):
            column[-1] = column[known[-1]]
    return filled
