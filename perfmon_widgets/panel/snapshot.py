"""The gauges and charts of the last moment, as a table and pictures: what a page without a kernel shows.

It needs neither scripts nor network, and where pictures are left out too, the table is text.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

import numpy as np

from perfmon_widgets.core.monitor import PerformanceMonitor
from perfmon_widgets.core.spans import CELL, Span
from perfmon_widgets.jupyter import kernel
from perfmon_widgets.metrics import RECORDED, Metric
from perfmon_widgets.panel.chart import is_core
from perfmon_widgets.panel.plot import plots_of
from perfmon_widgets.panel.section import MOST_FIGURES, groups, quantity, title_of, without_limits
from perfmon_widgets.views.gauges import Reading, readings
from perfmon_widgets.views.svg import Plot, Stretch, image, picture
from perfmon_widgets.views.text import format_value

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_WIDTH, _HEIGHT = 160, 28  # pixels of the picture of a line
_POINTS, _POINTS_OF_A_CHART = 80, 150
_RADIUS = 11  # of a ring
_COLORS = {"normal": "#3d8fd1", "warning": "#e08214", "critical": "#d9482b"}
# Of each kind, so many cells, spans and marks are drawn at most, the newest.
_STRETCHES = 50
# Having been drawn at the end of a cell, the charts are left as they are for so many times as long: they must
# not slow down a notebook of many quick cells.
_REST = 20

# The panel hides it as soon as it is on the page, which takes a moment; and where the panel cannot be
# made, JupyterLab shows an error in its place, which this makes superfluous. An untrusted notebook is
# shown without these rules, and without the error.
_STYLE = """<style>
@keyframes perfmon-appear { from, 99% { position: absolute; visibility: hidden; } }
.perfmon-snapshot { animation: perfmon-appear 1.5s; }
.jp-OutputArea-child:has(.perfmon-snapshot)
  + .jp-OutputArea-child:not(:has(.perfmon-panel)):not(:has([data-mime-type])) { display: none; }
</style>"""


class Snapshot:
    """What a monitor told last, as an output in front of its panel, for who has no kernel.

    The panel hides it. It is an output of its own because a change of one makes the front end draw it anew,
    which the panel would not survive.

    Args:
        monitor: whose values they are.
        name: a class of the output, by which the panel finds it.
        before: called before it is made anew.
        opened: the group whose charts are seen at once.
    """

    def __init__(
        self,
        monitor: PerformanceMonitor,
        name: str,
        before: Callable[[], object],
        opened: Callable[[], str | None],
    ) -> None:
        self._monitor = monitor
        self._name = name
        self._before = before
        self._opened = opened
        self._time = self._time_of_charts = 0.0  # of the newest values in them
        self._charts = ""
        self._rests_until = 0.0
        self._is_shown = False

    def show(self) -> None:
        """Make it an output of the running cell, and keep it up to date from now on."""
        self._put(again=False)
        if not self._is_shown:
            self._is_shown = True
            kernel.after_each_cell(self._after_cell)

    def keep(self) -> None:
        """Have the notebook store the newest values, if it stores any."""
        latest = self._monitor.latest
        stored = {self._time, self._time_of_charts}
        if self._is_shown and latest is not None and stored != {latest.time}:
            self._put(again=True)

    def close(self) -> None:
        """Store the newest values for the last time."""
        if self._is_shown:
            kernel.after_each_cell(self._after_cell, remove=True)
            self.keep()
            self._is_shown = False

    def _after_cell(self, *_: object) -> None:
        self._before()
        latest = self._monitor.latest
        if latest is not None and latest.time != self._time:
            self._put(again=True, hurry=time.monotonic() < self._rests_until)

    def _put(self, *, again: bool, hurry: bool = False) -> None:
        monitor, latest = self._monitor, self._monitor.latest
        self._time = latest.time if latest is not None else 0.0
        found, history = readings(monitor.metrics, latest, monitor.errors), monitor.history
        if not hurry:
            self._time_of_charts = self._time
            began = time.thread_time()  # whatever else the machine does meanwhile
            self._charts = charts(monitor.metrics, history, monitor.newest_spans(_STRETCHES), self._opened())
            self._rests_until = time.monotonic() + _REST * (time.thread_time() - began)
        text = (
            f'{_STYLE}<div class="perfmon-snapshot {self._name}">{table(found, history)}{self._charts}</div>'
        )
        kernel.show_html(text, self._name, again=again)


def charts(
    metrics: Sequence[Metric], history: pd.DataFrame, spans: Sequence[Span] = (), opened: str | None = None
) -> str:
    """Each section of the panel as HTML that can be unfolded, with a picture of its charts.

    That of the group ``opened`` is unfolded, or else the first. The lines of single CPUs are left out.
    """
    pictures = {}
    if len(history) >= 2:
        start, end = history.index.min().timestamp(), history.index.max().timestamp()
        stretches = list(_stretches(spans, start, end))
        known = set(history.columns[history.notna().any()])
        for name, members in groups(metrics).items():
            lines = [each for each in without_limits(members) if each.name in known and not is_core(each)]
            plots = list(_plots(name, lines, history))
            if plots:
                pictures[name] = image(
                    picture(plots, start, end, stretches),
                    f"{', '.join(line for plot in plots for line in plot.lines)} over time",
                )
    seen = opened if opened in pictures else next(iter(pictures), None)
    return "".join(
        f"<details{' open' if name == seen else ''}><summary>{html.escape(title_of(name))}</summary>"
        f"{drawn}</details>"
        for name, drawn in pictures.items()
    )


def _plots(group: str, metrics: Sequence[Metric], history: pd.DataFrame) -> Iterator[Plot]:
    if group != RECORDED:
        yield from plots_of(history, [metric.name for metric in metrics], _POINTS_OF_A_CHART)
        return
    together: dict[str, list[str]] = {}
    for metric in metrics:
        together.setdefault(quantity(metric), []).append(metric.name)
    for names in list(together.values())[:MOST_FIGURES]:
        yield from plots_of(history, names, _POINTS_OF_A_CHART)


def _stretches(spans: Sequence[Span], start: float, end: float) -> Iterator[Stretch]:
    for span in spans:
        until = end if math.isnan(span.end) else min(span.end, end)
        if span.start <= end and until >= start:
            name = f"[{span.execution_count}]" if span.kind == CELL else span.name[:40]
            yield Stretch(max(span.start, start), until, name)


def table(shown: Mapping[str, Reading], history: pd.DataFrame) -> str:
    """The readings as an HTML table marked with their time, each with a ring and a picture of its line."""
    rows = "".join(_row(label, reading, history) for label, reading in shown.items())
    caption = "no values yet"
    if len(history):
        newest = history.index[-1].to_pydatetime().astimezone()
        caption = f"Last values, {_in_words(newest)}"
    head = "".join(f'<th scope="col">{each}</th>' for each in ("", "", "value", "", _span(history)))
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _in_words(time: datetime) -> str:
    """The kernel's own clock time, with how far it is from UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S} (UTC{time:%z})"


def _span(history: pd.DataFrame) -> str:
    if len(history) < 2:
        return ""
    seconds = (history.index.max() - history.index.min()).total_seconds()
    return f"last {seconds / 60:.0f} min" if seconds >= 60 else f"last {seconds:.0f} s"


def _row(label: str, reading: Reading, history: pd.DataFrame) -> str:
    line = ""
    if reading.column and len(history) >= 2:
        values = history[reading.column].to_numpy()
        times = cast("pd.DatetimeIndex", history.index).as_unit("us").asi8 / 1e6
        if np.isfinite(values).any():
            words = f"{label} over time, 0 to 100 %"
            line = image(_line(times, values), words, f' width="{_WIDTH}"')
    number = format_value(reading.percent, "percent")
    return (
        f'<tr><td>{image(_ring(reading), "")}</td><th scope="row">{html.escape(label)}</th><td>{number}</td>'
        f"<td>{html.escape(reading.detail)}</td><td>{line}</td></tr>"
    )


def _ring(reading: Reading) -> str:
    """A gauge as SVG: a ring that is filled from 0 to 100 %, empty if nothing is known."""
    length = 2 * math.pi * _RADIUS
    filled = length * min(max(reading.percent, 0.0), 100.0) / 100 if math.isfinite(reading.percent) else 0.0
    circle = f"<circle cx='14' cy='14' r='{_RADIUS}' fill='none' stroke-width='4' stroke="
    arc = f"{circle}'{_COLORS[reading.level]}' stroke-dasharray='{filled:.1f} {length:.1f}' "
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='28' height='28'>{circle}'#80808055'/>"
        f"{arc}transform='rotate(-90 14 14)'/></svg>"
    )


def _line(times: NDArray[np.float64], values: NDArray[np.float64]) -> str:
    """A percentage as an SVG line; the highest of those that fall together, broken where none is known."""
    times = np.maximum.accumulate(times)  # where the computer's time was set back, it stands still
    place = ((times - times[0]) / (times[-1] - times[0] or 1.0) * (_POINTS - 1)).round().astype(int)
    highest = np.full(_POINTS, np.nan)
    np.fmax.at(highest, place, values)
    known = np.flatnonzero(np.isfinite(highest))
    x = known * _WIDTH / (_POINTS - 1)
    y = (_HEIGHT - 1) - highest[known].clip(0, 100) / 100 * (_HEIGHT - 2)
    # Points without a sample lie between two samples, which are joined unless many are missing.
    breaks = np.diff(known, prepend=known[0]) > max(2, 3 * _POINTS // len(times))
    breaks[0] = True
    path = "".join(
        f"{'M' if new else 'L'}{at:.0f},{up:.1f}" for at, up, new in zip(x, y, breaks, strict=True)
    )
    # Readable on white and on black: a picture does not know the theme.
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}'>"
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='none' stroke='#888' stroke-width='.5'/>"
        f"<path d='{path}' fill='none' stroke='#3d8fd1' stroke-width='1.5'/></svg>"
    )
