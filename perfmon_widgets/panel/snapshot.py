"""Snapshot: the last gauges and charts of a panel as a table and pictures, for a page without a kernel.

It needs neither scripts nor a network. Where pictures are left out too, the table remains as text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from perfmon_widgets.clocks import time
from perfmon_widgets.core.protocol import Monitor
from perfmon_widgets.core.spans import Span
from perfmon_widgets.jupyter import kernel
from perfmon_widgets.jupyter.page_address import address_of_page, whole_address_of_page
from perfmon_widgets.metrics import Metric
from perfmon_widgets.views.columns import groups, metrics_of, title_of
from perfmon_widgets.views.figures import Rows, chosen, fill, rows_of, section
from perfmon_widgets.views.gauges import Reading, readings
from perfmon_widgets.views.local_time import format_time, zone_name
from perfmon_widgets.views.stretches import MAX_STRETCHES, stretches
from perfmon_widgets.views.svg import image, picture, sparkline
from perfmon_widgets.views.text import format_value

if TYPE_CHECKING:
    import pandas as pd

# More would be seen, but each point of a line takes 14 bytes of the notebook, every time it is saved.
_POINTS, _POINTS_OF_A_CHART = 40, 60
_RADIUS = 11  # pixels of a ring
_COLORS = {"normal": "#3d8fd1", "warning": "#e08214", "critical": "#d9482b"}
# After drawing the charts took t seconds, they are not drawn again for this many times t: they must not slow
# down a notebook of many quick cells.
_REST = 20

# The panel hides the snapshot once it is on the page; until then the animation hides it for a moment. Where
# the panel cannot be made, JupyterLab shows an error in its place; the last rules hide that error, since the
# snapshot stands for the panel. They are about the output next to the snapshot, and only where that is the
# panel alone: all else belongs to the user. An untrusted notebook is shown without rules and without error.
_STYLE = """<style>
@keyframes perfmon-appear { from, 99% { position: absolute; visibility: hidden; } }
.perfmon-snapshot { animation: perfmon-appear 1.5s; }
.jp-OutputArea-child:has(> .jp-OutputArea-output > .perfmon-before)
  + .jp-OutputArea-child:not(:has(.perfmon-panel)):not(:has([data-mime-type])),
.jp-OutputArea-child:not(:has(.perfmon-panel)):not(:has([data-mime-type])):has(
  + .jp-OutputArea-child > .jp-OutputArea-output > .perfmon-after) { display: none; }
</style>"""


class Snapshot:
    """The newest values of a monitor, as an output next to its panel, shown when no kernel is attached.

    The panel hides it. It is a separate output, because it is updated after cells: the front end replaces
    an output that is updated, and would replace the panel with it.

    Args:
        monitor: the monitor whose values are shown.
        name: a class of the output, by which the panel finds it.
        before: called before the snapshot is made after a cell.
        opened: returns the group whose charts are unfolded, or None.
    """

    def __init__(
        self,
        monitor: Monitor,
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
        self._place = ""

    def show(self, place: str) -> None:
        """Make it an output of the running cell, and update it after each cell from now on.

        ``place``: whether it stands ``before`` or ``after`` an output that is the panel and nothing else;
        empty if there is no such output.
        """
        self._place = f" perfmon-{place}" if place else ""
        self._put(again=False)
        if not self._is_shown:
            self._is_shown = True
            kernel.after_each_cell(self._after_cell)

    def keep(self) -> None:
        """Update the output with the newest values, if it was shown."""
        latest = self._monitor.latest
        stored = {self._time, self._time_of_charts}
        if self._is_shown and latest is not None and stored != {latest.time}:
            self._put(again=True)

    def close(self) -> None:
        """Update the output for the last time."""
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
            began = time.thread_time()  # not the time in which other programs ran
            self._charts = charts(
                monitor.metrics, history, monitor.newest_spans(MAX_STRETCHES), self._opened()
            )
            self._rests_until = time.monotonic() + _REST * (time.thread_time() - began)
        classes = f"perfmon-snapshot {self._name}{self._place}"
        shown = f"{_link()}{table(found, history)}{self._charts}"
        text = f'{_STYLE}<div class="{classes}">{shown}</div>'
        kernel.show_html(text, self._name, again=again)


def _link() -> str:
    """A link to the live page, where the Jupyter server of this kernel has one.

    A page that is opened while a cell runs shows the snapshot until the cell has ended, but no widgets. The
    first link leads to the server that shows the notebook, by whatever name; the second one is for VS Code.
    """
    address = address_of_page(kernel.connection_file())
    if address is None:
        return ""
    whole = whole_address_of_page(kernel.connection_file())
    elsewhere = f" (in VS Code: {_anchor(whole, whole.partition('?')[0])})" if whole is not None else ""
    return f"<p>{_anchor(address, 'Live page of this kernel')}{elsewhere}</p>"


def _anchor(address: str, words: str) -> str:
    return f'<a href="{html.escape(address)}" target="_blank" rel="noopener">{html.escape(words)}</a>'


def charts(
    metrics: Sequence[Metric], history: pd.DataFrame, spans: Sequence[Span] = (), opened: str | None = None
) -> str:
    """Each section of the panel as HTML that can be unfolded, with a picture of its charts.

    The section of the group ``opened`` is unfolded, else the first. Maps of many CPUs, which a line sums up,
    are left out; those of many GPUs become lines.
    """
    rows = rows_of(history)
    if len(rows.times) < 2:
        return ""
    start, end = float(rows.times.min()), float(rows.times.max())
    behind, known = stretches(spans, start, end), rows.known()
    pictures = {}
    for group in groups(metrics):
        empty = [figure.only(known) for figure in section(group, metrics) if figure.rows or not figure.is_map]
        figures = [fill(figure, rows, points=_POINTS_OF_A_CHART) for figure in empty if figure.lines]
        if figures:
            shown = [line.label for figure in figures for line in figure.lines]
            pictures[group] = image(picture(figures, start, end, behind), f"{', '.join(shown)} over time")
    seen = opened if opened in pictures else next(iter(pictures), None)
    return "".join(
        f"<details{' open' if group == seen else ''}><summary>{html.escape(title_of(group))}</summary>"
        f"{drawn}</details>"
        for group, drawn in pictures.items()
    )


def table(shown: Mapping[str, Reading], history: pd.DataFrame) -> str:
    """The readings as an HTML table with their time; each has a ring and a sparkline."""
    rows = rows_of(history)
    metrics = metrics_of(list(rows.columns), rows.values, history.attrs)
    body = "".join(_row(label, reading, rows, metrics) for label, reading in shown.items())
    caption = "no values yet"
    if len(history):
        newest = float(rows.times[-1])
        caption = f"Last values, {format_time(newest)} {zone_name(newest)}. Run the cell to have them live."
    head = "".join(f'<th scope="col">{each}</th>' for each in ("", "", "value", "", _span(rows)))
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _span(rows: Rows) -> str:
    if len(rows.times) < 2:
        return ""
    seconds = float(np.ptp(rows.times))
    return f"last {seconds / 60:.0f} min" if seconds >= 60 else f"last {seconds:.0f} s"


def _row(label: str, reading: Reading, rows: Rows, metrics: Sequence[Metric]) -> str:
    number = format_value(reading.percent, "percent")
    line = _sparkline(label, reading.column, rows, metrics)
    return (
        f'<tr><td>{image(_ring(reading), "")}</td><th scope="row">{html.escape(label)}</th><td>{number}</td>'
        f"<td>{html.escape(reading.words)}</td><td>{line}</td></tr>"
    )


def _sparkline(label: str, column: str, rows: Rows, metrics: Sequence[Metric]) -> str:
    """A small picture of the column's line; empty where it has none."""
    if len(rows.times) < 2 or column not in rows.known():
        return ""
    [empty] = chosen([column], metrics)
    figure = fill(empty, rows, points=_POINTS)
    words = f"{label} over time, 0 to {figure.axis.top:g} %"
    return image(sparkline(figure, float(rows.times.min()), float(rows.times.max())), words)


def _ring(reading: Reading) -> str:
    """A gauge as SVG: a ring that is filled from 0 to 100 %, empty if the value is missing; its bar below."""
    length = 2 * math.pi * _RADIUS
    filled = length * min(max(reading.percent, 0.0), 100.0) / 100 if math.isfinite(reading.percent) else 0.0
    circle = f"<circle cx='14' cy='14' r='{_RADIUS}' fill='none' stroke-width='4' stroke="
    arc = f"{circle}'{_COLORS[reading.level]}' stroke-dasharray='{filled:.1f} {length:.1f}' "
    height, bar = 28, ""
    if reading.bar is not None:
        height, full = 34, 28 * min(reading.bar.percent, 100.0) / 100
        rect = "<rect y='30' height='4' width="
        bar = f"{rect}'28' fill='#80808055'/>{rect}'{full:.1f}' fill='{_COLORS[reading.bar.level]}'/>"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='28' height='{height}'>{circle}'#80808055'/>"
        f"{arc}transform='rotate(-90 14 14)'/>{bar}</svg>"
    )
