"""Section: one group of metrics, as a chart for each figure and a small table that is their legend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ipywidgets

from perfmon_widgets.core.spans import Span
from perfmon_widgets.metrics import RECORDED, Metric
from perfmon_widgets.panel.chart import Chart
from perfmon_widgets.panel.heat_map import HeatMap
from perfmon_widgets.panel.link import Link
from perfmon_widgets.panel.shading import PIXELS, Shading
from perfmon_widgets.panel.table import Table
from perfmon_widgets.views.figures import rows_of, section, shown_seconds
from perfmon_widgets.views.legend import last_values

_DRAW_EVERY = 1.0  # seconds at least, since a figure of the first half minute moves by ten pixels a second

if TYPE_CHECKING:
    import pandas as pd


class Section(ipywidgets.VBox):
    """The charts of one group's metrics above a table of now, mean and peak.

    Both are made when the section is shown for the first time: a chart that is drawn while it is hidden has
    no size, and a notebook is opened faster and stored smaller without them. Behind the lines of all charts
    lie the cells, spans and marks.

    Args:
        group: the group that is shown.
        metrics: all metrics of the monitor, since the colours follow their order.
        window: how many seconds are shown.
        link: the link of the panel.
    """

    children: tuple[ipywidgets.Widget, ...]  # ipywidgets has no types

    def __init__(
        self, group: str, metrics: Sequence[Metric], window: float, link: Link, **traits: Any
    ) -> None:
        self._figures = section(group, metrics)
        self._window = self._shown = window
        self._holds_values = group == RECORDED
        self.newest = -math.inf
        """The time of the newest row that is shown, in Unix seconds."""
        self._shading: Shading | None = None
        self.charts: tuple[Chart | HeatMap, ...] = ()
        self._metrics = [metric for metric in metrics if metric.group == group]
        self._link = link
        super().__init__(**traits)
        self.add_class("perfmon-section")

    @cached_property
    def table(self) -> Table:
        """The legend of the charts; as they are, made when the section is shown for the first time."""
        return Table(self._metrics, self._link)

    def show(self, history: pd.DataFrame, errors: Mapping[str, str], spans: Sequence[Span] = ()) -> None:
        """Draw the history up to its newest row: a message per chart, one for the table, one for spans."""
        if self._shading is None:
            self._shading = Shading(self._shown)
            self._make_charts(self._shading)
        rows = rows_of(history)
        now = float(rows.times[-1])
        rows = rows.between(now - self._window, now)
        self._fit(shown_seconds(now - rows.times[0], self._window))
        with self._sent_together():
            self._shading.show(spans, now)
            for chart in self.charts:
                chart.show(rows, now)
            values = rows.of([metric.name for metric in self._metrics])
            newest = last_values(values) if self._holds_values else values[-1]
            self.table.show(values, rows.seconds, newest, now, errors)
        if not self.children:  # after there is something to draw
            row = ipywidgets.HBox(self.charts, layout={"flex_flow": "row wrap", "overflow": "hidden"})
            self.children = (row, self.table)
        if len(history) > 1:  # else there is no line yet
            self.newest = now

    def is_due(self, now: float, interval: float) -> bool:
        """Whether to draw the row of ``now`` (Unix seconds), if the next comes after ``interval`` seconds.

        Drawing costs a browser the same, however little the lines move. So a row is skipped if it moves them
        by less than a pixel and a later row will move them by one soon, and if one was drawn within a second.
        """
        # Of the rows around the next pixel, this draws the nearest. abs(): the clock may have been set back.
        return abs(now - self.newest) + interval / 2 > max(self._shown / PIXELS, _DRAW_EVERY)

    @contextmanager
    def _sent_together(self) -> Iterator[None]:
        """Hold all messages until the end: a browser draws once what arrives together.

        Axes are left out, because bqplot takes their ticks and labels only one after the other.
        """
        marks = [mark for chart in self.charts for mark in chart.marks]
        scales = [scale for mark in marks for scale in mark.scales.values()]
        with ExitStack() as held:  # the last is sent first
            for widget in (self.table, *marks, *scales):
                held.enter_context(widget.hold_sync())
            yield

    def _make_charts(self, shading: Shading) -> None:
        self.charts = tuple(
            HeatMap(figure, self._shown)
            if figure.is_map
            else Chart(figure, self._shown, behind=shading.marks)
            for figure in self._figures
        )
        self.table.point_at(self.charts)

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history from the next show() on."""
        self._window = seconds

    def _fit(self, seconds: float) -> None:
        """Let all figures show the last ``seconds``: a young history does not fill the window."""
        if seconds == self._shown:
            return
        self._shown = seconds
        if self._shading is not None:
            self._shading.set_window(seconds)
        for chart in self.charts:
            chart.set_window(seconds)
