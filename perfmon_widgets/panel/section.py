"""Section: one group of metrics, as a chart for each figure and a small table that is their legend."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

from perfmon_widgets.core.spans import Span
from perfmon_widgets.metrics import RECORDED, Metric
from perfmon_widgets.panel.chart import Chart
from perfmon_widgets.panel.heat_map import HeatMap
from perfmon_widgets.panel.shading import Shading
from perfmon_widgets.panel.table import Table
from perfmon_widgets.panel.time_axis import PIXELS, TimeAxis
from perfmon_widgets.panel.timeline import Period, Timeline
from perfmon_widgets.views.figures import Rows, rows_of, section, shown_seconds
from perfmon_widgets.views.grid import lagging
from perfmon_widgets.views.legend import last_values
from perfmon_widgets.views.statistics import summary

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
        window: how many seconds are shown at most, until a stretch is chosen.
        timeline: the row that says and steers which time is shown; all sections of a panel share it.
    """

    children: tuple[ipywidgets.Widget, ...]  # ipywidgets has no types

    def __init__(
        self,
        group: str,
        metrics: Sequence[Metric],
        window: float,
        timeline: Timeline,
        **traits: Any,
    ) -> None:
        self._figures = section(group, metrics)
        self._window = window
        self._timeline = timeline
        self.period: Period | None = None
        """The time that the charts show; None before they are drawn."""
        self._drawn_for: tuple[Period | None, float] | None = None
        self._holds_values = group == RECORDED
        self.newest = -math.inf
        """The time of the newest row that is shown, in Unix seconds."""
        self._made: dict[int, Chart | HeatMap] = {}  # by the place of the figure
        self.charts: tuple[Chart | HeatMap, ...] = ()
        self._all_metrics = metrics
        self._metrics = [metric for metric in metrics if metric.group == group]
        super().__init__(**traits)
        self.add_class("perfmon-section")

    @cached_property
    def table(self) -> Table:
        """The legend of the charts; as they are, made when the section is shown for the first time."""
        return Table(self._metrics, self._timeline.link)

    def show(
        self,
        history: pd.DataFrame,
        errors: Mapping[str, str],
        spans: Sequence[Span] = (),
        *,
        chosen: Period | None = None,
        is_running: bool = True,
    ) -> None:
        """Draw the history up to its newest row, or the stretch of it that was chosen.

        That is a message per chart, one for the table, and one or two for the time. ``is_running``: whether
        the newest row is about now.
        """
        self._drawn_for = (chosen, self._window)
        every = rows_of(history)
        newest = float(every.times[-1])
        period = self.period = chosen or self._newest(every, newest)
        rows = every.between(*period)
        # Rows later than the newest were taken before the computer's clock was set back.
        drawn = rows if chosen is None else every.around(*period)
        self._make_charts(rows)
        with self._sent_together():
            if self.charts:
                self._time.show(period.end, period.seconds, is_now=chosen is None and is_running)
                self._shading.show(spans)
            self._timeline.show_running(spans, is_live=chosen is None)
            self._timeline.show_spans(spans, every, self._all_metrics, period)
            for chart in self.charts:
                chart.show(drawn, period.end)
            self._show_table(rows, period, errors, is_live=chosen is None)
        if not self.children:  # after there is something to draw
            row = ipywidgets.HBox(self.charts, layout={"flex_flow": "row wrap", "overflow": "hidden"})
            self.children = (row, self._timeline, self.table)
        elif self.children[0].children != self.charts:
            self.children[0].children = self.charts
        if len(history) > 1:  # else there is no line yet
            self.newest = newest

    def shows(self, chosen: Period | None) -> bool:
        """Whether it was drawn for this choice, and for the window that was set last."""
        return self._drawn_for == (chosen, self._window)

    def _newest(self, rows: Rows, now: float) -> Period:
        """The last rows: as many as there are, from half a minute to the window."""
        inside = rows.between(now - self._window, now)
        return Period(now - shown_seconds(now - inside.times[0], self._window), now)

    def _show_table(self, rows: Rows, period: Period, errors: Mapping[str, str], *, is_live: bool) -> None:
        values = rows.of([metric.name for metric in self._metrics])
        last = values[-1] if len(values) and not self._holds_values else last_values(values)
        lags = lagging(self._all_metrics, rows, self.table.busy)
        self.table.show(summary(values, rows.seconds), last, period, errors, lags, is_live=is_live)

    def is_due(self, now: float, interval: float) -> bool:
        """Whether to draw the row of ``now`` (Unix seconds), if the next comes after ``interval`` seconds.

        Drawing costs a browser the same, however little the lines move. So the next drawing is wanted only
        when the lines have moved by a pixel and a second has passed, whichever takes longer. The row that
        comes nearest to that moment is drawn, and those before it are skipped.
        """
        # The nearest row is within half an interval of that moment. abs(): the clock may have been set back.
        return abs(now - self.newest) + interval / 2 > max(self._seconds / PIXELS, _DRAW_EVERY)

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

    @property
    def _seconds(self) -> float:
        return self._window if self.period is None else self.period.seconds

    @cached_property
    def _time(self) -> TimeAxis:
        return TimeAxis(self._seconds)

    @cached_property
    def _shading(self) -> Shading:
        return Shading(self._time)

    def _make_charts(self, rows: Rows) -> None:
        """Make a chart of each figure of which a column has a value, such as those of a GPU once it is used.

        What a machine does not have, such as NVLink, has no figure, and dashes in the table.
        """
        for place, figure in enumerate(self._figures):
            names = [line.name for line in figure.lines]
            if place not in self._made and np.isfinite(rows.of(names)).any():
                brush = HeatMap if figure.is_map else Chart
                self._made[place] = brush(figure, self._time, behind=self._shading.marks)
        charts = tuple(self._made[place] for place in sorted(self._made))
        if charts != self.charts:
            self.charts = charts
            self.table.point_at(charts)

    def set_window(self, seconds: float) -> None:
        """Show the last ``seconds`` of the history at most, from the next show() on."""
        self._window = seconds
